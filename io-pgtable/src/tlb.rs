//! TLB maintenance, as Linux's `iommu_flush_ops`; each operation needs one invalidation and one sync.

use core::fmt;

use crate::addr::Iova;

/// The TLB entries to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlbScope {
    /// Only last-level entries changed: walk cache entries need not be invalidated.
    Leaf,
    /// A table was replaced or removed: walk cache entries must also be invalidated.
    Table,
}

/// A range of input addresses whose translations changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbRange {
    /// First input address.
    pub iova: Iova,
    /// Size in bytes, a multiple of `granule`.
    pub size: u64,
    /// Size in bytes of the smallest leaf that was in the range: the stride for hardware without range invalidation.
    pub granule: u64,
    /// Whether tables were replaced or removed.
    pub scope: TlbScope,
}

/// The TLB invalidation timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbError;

impl fmt::Display for TlbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the TLB invalidation did not complete")
    }
}

impl core::error::Error for TlbError {}

/// Maintains every TLB that may hold translations of one table.
///
/// The descriptor stores are [published](crate::TableMemory::publish) before `invalidate` is called.
pub trait TlbOps {
    /// Queues the invalidation of `range`. It need not be complete on return.
    fn invalidate(&mut self, range: TlbRange);

    /// Waits until every queued invalidation is complete: no walker uses an old translation after it.
    ///
    /// # Errors
    /// [`TlbError`] if that could not be confirmed; the old translations must be assumed to be in use.
    fn sync(&mut self) -> Result<(), TlbError>;
}

/// No TLB maintenance: for a table that no walker uses yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTlb;

impl TlbOps for NoTlb {
    fn invalidate(&mut self, _range: TlbRange) {}

    fn sync(&mut self) -> Result<(), TlbError> {
        Ok(())
    }
}

impl<T: TlbOps + ?Sized> TlbOps for &mut T {
    fn invalidate(&mut self, range: TlbRange) {
        (**self).invalidate(range);
    }

    fn sync(&mut self) -> Result<(), TlbError> {
        (**self).sync()
    }
}
