//! The part of the driver's state that is too large to be moved. It stays where the caller has placed it.

use super::log::FaultLog;
use super::shadow::ShadowTable;
use crate::platform::Platform;

/// Memory for the lists of one SMMU with buffers `B`: level-2 tables, owners of streams, domains, fault records. About
/// 12 KiB.
///
/// Usually in a static, from which `&'static mut` is taken once: with the crate `static_cell`, or as
/// `examples/partitions/src/bare.rs` does it. A take-over drops the previous content.
///
/// ```
/// use smmu_drv::Storage;
///
/// # struct Buffer;
/// static STORAGE: Storage<Buffer> = Storage::new();
/// ```
pub struct Storage<B> {
    pub(super) shadow: ShadowTable<B>,
    pub(super) log: FaultLog,
}

/// The pointer type to a [`Storage`] on platform `P`.
pub type StorageOf<P> = <P as Platform>::Place<Storage<<P as Platform>::Buffer>>;

impl<B> Storage<B> {
    /// An empty value.
    #[must_use]
    pub const fn new() -> Self {
        Self { shadow: ShadowTable::unused(), log: FaultLog::new() }
    }

    /// Drops the whole content, and with it all memory of the platform.
    pub(super) fn clear(&mut self) {
        self.shadow.clear();
        self.log.clear();
    }
}

impl<B> Default for Storage<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// For tests that restore an earlier state of a modelled machine; not possible with real buffers, which cannot be cloned.
impl<B: Clone> Clone for Storage<B> {
    fn clone(&self) -> Self {
        Self { shadow: self.shadow.clone(), log: self.log.clone() }
    }
}
