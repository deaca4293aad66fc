//! This project's table, with the type, the features and the profile that the hypervisor links.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;

use io_pgtable::{Attrs, Bbm, Cfg, G4K, IoPgtable, Iova, Pa, Prot, S2, TlbError, TlbOps, TlbRange};

use crate::arena::Pool;
use crate::subject::{SYNCS, Subject, TLBI, count};

/// Counts instead of invalidating.
pub(crate) struct CountingTlb;

impl TlbOps for CountingTlb {
    #[inline]
    fn invalidate(&mut self, _range: TlbRange) {
        count(&TLBI);
    }

    #[inline]
    fn sync(&mut self) -> Result<(), TlbError> {
        count(&SYNCS);
        Ok(())
    }
}

/// `IoPgtable` as a stage 2.
pub(crate) struct Ours {
    table: ManuallyDrop<IoPgtable<S2<G4K>, Pool>>,
}

const ATTRS: Attrs = Attrs::normal(Prot::RWX);

impl Subject for Ours {
    const NAME: &'static str = "io-pgtable";
    const SPLITS: bool = true;

    fn new(bits: u32) -> Self {
        let cfg = Cfg { bbm: Bbm::Level2, ..Cfg::new(bits, bits) };
        let table = IoPgtable::new(&cfg, Pool).unwrap_or_else(|error| unreachable!("{error}"));
        Self { table: ManuallyDrop::new(table) }
    }

    #[inline]
    fn map(&mut self, iova: u64, pa: u64, size: u64, _leaf: u64) {
        let done = self.table.map(Iova(iova), Pa(pa), size, ATTRS);
        assert!(done.is_ok(), "map {iova:#x}: {done:?}");
    }

    #[inline]
    fn unmap(&mut self, iova: u64, size: u64, _leaf: u64) {
        let done = self.table.unmap(Iova(iova), size, &mut CountingTlb);
        assert!(done.is_ok(), "unmap {iova:#x}: {done:?}");
    }

    #[inline]
    fn hole(&mut self, iova: u64) {
        self.unmap(iova, 4096, 4096);
    }

    #[inline]
    fn translate(&self, iova: u64) -> u64 {
        self.table.iova_to_phys(Iova(iova)).map_or(0, |pa| pa.0)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // SAFETY: (1) the table is taken once, here, and not used again.
        let table = unsafe { ManuallyDrop::take(&mut self.table) };
        let done = table.destroy(&mut CountingTlb);
        assert!(done.is_ok(), "destroy: {done:?}");
    }
}
