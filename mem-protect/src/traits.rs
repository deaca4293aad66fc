//! The interface of the transitions to the machine. Every access to a table, a cache or an SMMU is made through these
//! traits,
//! so that the logic runs on the build machine, where tests make every step fail.

use io_pgtable::{Ipa, Pa};
pub use shadow_s2::TableError;

use crate::page::GuestId;
use crate::range::PageRange;

/// The host's CPU stage 2: an identity map of the memory that the host may access.
pub trait HostStage2 {
    /// Unmaps `range`, all of it mapped, and completes the TLB invalidation on every CPU.
    ///
    /// Needs no memory if it undoes [`HostStage2::map`] of the same range.
    ///
    /// # Errors
    /// Nothing changed, on any CPU.
    fn unmap(&mut self, range: PageRange) -> Result<(), TableError>;

    /// Maps `range`, none of it mapped, as normal memory with all permissions.
    ///
    /// # Errors
    /// Nothing of it is mapped, and no TLB has a translation of it.
    fn map(&mut self, range: PageRange) -> Result<(), TableError>;

    /// The first leaf at or after `from`, cut so that it does not start below `from`; `None` when there is none.
    fn next_leaf(&self, from: Ipa) -> Option<Leaf>;

    /// Called after `range` was mapped: coalesces tables into blocks, so that the tables are freed. Other CPUs may
    /// fault on the block during the change, as during a split; see
    /// [`Ownership::host_fault`](crate::Ownership::host_fault).
    fn coalesce(&mut self, range: PageRange) {
        let _ = range;
    }
}

/// One leaf of a stage-2 table, or the rest of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Input address of its first byte.
    pub ipa: Ipa,
    /// Output address of its first byte.
    pub pa: Pa,
    /// Size in bytes.
    pub bytes: u64,
    /// Its memory type.
    pub kind: LeafKind,
}

/// Memory type of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafKind {
    /// Normal memory.
    Normal,
    /// Device registers.
    Device,
}

/// The IOMMU stage 2 of the host's streams, with the invalidation on every SMMU.
pub trait DmaStage2 {
    /// Unmaps `range` for every stream. On success no SMMU has a translation of it.
    ///
    /// # Errors
    /// [`TableError::NotCompleted`]: a device may still reach the pages, so the host must keep them. Other errors:
    /// nothing changed.
    fn revoke(&mut self, range: PageRange) -> Result<(), TableError>;

    /// Maps `range` for the host's streams.
    ///
    /// # Errors
    /// No stream reaches any of it, and no SMMU has a translation of it.
    fn grant(&mut self, range: PageRange) -> Result<(), TableError>;

    /// The first leaf at or after `from`, cut so that it does not start below `from`; `None` when there is none.
    fn next_leaf(&self, from: Ipa) -> Option<Leaf>;

    /// Called after `range` was granted: coalesces tables into blocks. Optional.
    fn coalesce(&mut self, range: PageRange) {
        let _ = range;
    }

    /// The part of the address space that DMA can reach: memory above an SMMU's output size is never mapped.
    fn window(&self) -> PageRange;

    /// Whether guests have tables. An implementation that returns [`GuestTables::None`] uses the defaults of the
    /// methods below.
    fn guest_tables(&self) -> GuestTables {
        GuestTables::None
    }

    /// Creates an empty table for the devices of `guest`. It exists until [`DmaStage2::end_guest`].
    ///
    /// # Errors
    /// Nothing changed.
    fn create_guest(&mut self, guest: GuestId) -> Result<(), TableError> {
        let _ = guest;
        Ok(())
    }

    /// Frees the table of `guest`, which has no device and no page: no SMMU caches an entry of it when this returns.
    ///
    /// # Errors
    /// An SMMU may still cache entries of it: the handle must not be used again.
    fn end_guest(&mut self, guest: GuestId) -> Result<(), TableError> {
        let _ = guest;
        Ok(())
    }

    /// Lets the devices of `guest` reach `range`.
    ///
    /// # Errors
    /// Nothing changed.
    fn grant_guest(&mut self, guest: GuestId, range: PageRange) -> Result<(), TableError> {
        let _ = (guest, range);
        Ok(())
    }

    /// Unmaps `range` from the devices of `guest`; pages that are not mapped are skipped. On success
    /// no SMMU has a translation of it.
    ///
    /// # Errors
    /// A device may still reach the pages, so the guest must keep them.
    fn revoke_guest(&mut self, guest: GuestId, range: PageRange) -> Result<(), TableError> {
        let _ = (guest, range);
        Ok(())
    }

    /// The first leaf of the table of `guest` at or after `from`, cut to start no lower than `from`.
    fn next_guest_leaf(&self, guest: GuestId, from: Ipa) -> Option<Leaf> {
        let _ = (guest, from);
        None
    }
}

/// Whether the devices of guests have a table each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestTables {
    /// No guest can have a device.
    None,
    /// Each guest has one from its creation until its handle is free. It maps exactly the guest's pages.
    Each,
}

/// EL2's own access to pages, cache maintenance and the pool.
pub trait PageOps {
    /// Maps `range` into EL2, so that [`PageOps::unmap`] can unmap it page by page.
    ///
    /// # Errors
    /// [`NoMemory`]: nothing of it is mapped.
    fn map(&mut self, range: PageRange) -> Result<(), NoMemory>;

    /// Unmaps `range`, mapped by [`PageOps::map`], from EL2 and completes the TLB invalidation. Needs no memory.
    fn unmap(&mut self, range: PageRange);

    /// Cleans and invalidates the mapped pages of `range` to the point of coherency: no dirty line or pending
    /// uncached write of the host remains.
    fn clean_invalidate(&mut self, range: PageRange);

    /// Writes zeroes over the mapped pages of `range`, then cleans and invalidates them to the point of coherency.
    fn zero(&mut self, range: PageRange);

    /// Adds the mapped pages of `range` to EL2's pool.
    fn add_to_pool(&mut self, range: PageRange);

    /// Removes the pages of `range` from EL2's pool: all of them, or none.
    ///
    /// # Errors
    /// [`InUse`]: the pool has allocated some page; nothing is taken.
    fn remove_from_pool(&mut self, range: PageRange) -> Result<(), InUse>;

    /// Cleans and invalidates `bytes` bytes at `pa`, at most 32 and aligned to their size, in a mapped page, to the
    /// point of coherency: before a load or a store, so that non-cacheable writes of the host are read and kept; after
    /// a store, so that non-cacheable reads get it.
    fn clean_invalidate_bytes(&self, pa: Pa, bytes: u64);

    /// Loads the little-endian word at `pa` in a mapped page with one access. `pa` is a multiple of 8.
    fn load64(&self, pa: Pa) -> u64;
    /// Stores the little-endian word at `pa` in a mapped page with one access. `pa` is a multiple of 8.
    fn store64(&mut self, pa: Pa, value: u64);
    /// Stores the little-endian word at `pa` in a mapped page with one access. `pa` is a multiple of 4.
    fn store32(&mut self, pa: Pa, value: u32);
}

/// There is no memory for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// The page is allocated from the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;
