//! This project's table, with the type, the features and the profile that the hypervisor links.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;

use io_pgtable::{
    Attrs, Bbm, Cfg, G4K, G16K, G64K, Granule, IoPgtable, Iova, Pa, Prot, Regime, S1, S2, TlbError, TlbOps, TlbRange,
};

use crate::arena::Pool;
use crate::subject::{SYNCS, Subject, TLBI, count};

/// Counts invalidations and does nothing else.
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

/// An `IoPgtable` of some regime and granule.
pub(crate) struct Table<R: Variant> {
    table: ManuallyDrop<IoPgtable<R, Pool>>,
}

/// The type that the hypervisor links: a stage 2 with 4K pages.
pub(crate) type Ours = Table<S2<G4K>>;

/// A regime with its name in reports.
pub(crate) trait Variant: Regime {
    const NAME: &'static str;
}

impl Variant for S2<G4K> {
    const NAME: &'static str = "io-pgtable";
}
impl Variant for S1<G4K> {
    const NAME: &'static str = "s1_4k";
}
impl Variant for S2<G16K> {
    const NAME: &'static str = "s2_16k";
}
impl Variant for S2<G64K> {
    const NAME: &'static str = "s2_64k";
}

const ATTRS: Attrs = Attrs::normal(Prot::RWX);

impl<R: Variant> Subject for Table<R> {
    const NAME: &'static str = R::NAME;
    const SPLITS: bool = true;
    const PAGE: u64 = R::Granule::PAGE;
    const BLOCK: u64 = R::Granule::PAGE << (R::Granule::PAGE_SHIFT - 3);

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
        self.unmap(iova, Self::PAGE, Self::PAGE);
    }

    #[inline]
    fn translate(&self, iova: u64) -> u64 {
        self.table.iova_to_phys(Iova(iova)).map_or(0, |pa| pa.0)
    }
}

impl<R: Variant> Drop for Table<R> {
    fn drop(&mut self) {
        // SAFETY: (1) the table is taken only here, and not used afterwards.
        let table = unsafe { ManuallyDrop::take(&mut self.table) };
        let done = table.destroy(&mut CountingTlb);
        assert!(done.is_ok(), "destroy: {done:?}");
    }
}
