//! The operations of Linux's io-pgtable self-test on every granule, every pair of address sizes and every regime,
//! checked by an independent walker that gets the register words only.

#![allow(clippy::unwrap_used)]

mod common;

use common::{NotSnooping, Snooping, Walk, Walker};
use io_pgtable::{
    Attrs, Bbm, Cfg, El2, G4K, G16K, G64K, Granule, HeapMemory, IoPgtable, Iova, MapError, NoTlb, Pa, Prot, Quirks,
    Regime, S1, S2, TlbError, TlbOps, TlbRange, UnmapError,
};

const SIZES: [u32; 6] = [32, 36, 40, 42, 44, 48];
const ATTRS: Attrs = Attrs::normal(Prot::RW);
const GIB: u64 = 1 << 30;

/// Counts maintenance: at most one invalidation and one sync per call.
#[derive(Default)]
struct Counting {
    ranges: Vec<TlbRange>,
    syncs: usize,
}

impl TlbOps for Counting {
    fn invalidate(&mut self, range: TlbRange) {
        self.ranges.push(range);
    }
    fn sync(&mut self) -> Result<(), TlbError> {
        self.syncs += 1;
        Ok(())
    }
}

struct Subject<R: Regime> {
    table: IoPgtable<R, HeapMemory>,
    mem: HeapMemory,
    walker: Walker,
    /// Added to every input address.
    top: u64,
}

impl<R: Regime> Subject<R> {
    /// Checks that the table and the independent walker have the same result for `iova`.
    fn expect(&self, iova: u64, pa: Option<u64>) {
        let iova = iova | self.top;
        assert_eq!(self.table.iova_to_phys(Iova(iova)), pa.map(Pa), "{iova:#x}");
        assert_eq!(self.walker.translate(&Snooping(&self.mem), iova).pa(), pa, "{iova:#x}");
        if !self.table.cfg().coherent_walk {
            assert_eq!(self.walker.translate(&NotSnooping(&self.mem), iova).pa(), pa, "{iova:#x} in memory");
        }
    }

    fn map(&mut self, iova: u64, pa: u64, size: u64) -> Result<(), MapError> {
        self.table.map(Iova(iova | self.top), Pa(pa), size, ATTRS)
    }

    fn map_one(&mut self, iova: u64, pa: u64, size: u64) -> Result<(), MapError> {
        self.table.map_pages(Iova(iova | self.top), Pa(pa), size, 1, ATTRS)
    }

    fn unmap(&mut self, iova: u64, size: u64) -> Result<(), UnmapError> {
        let mut tlb = Counting::default();
        let result = self.table.unmap(Iova(iova | self.top), size, &mut tlb);
        let most = if self.table.cfg().bbm == Bbm::Level1 { 2 } else { 1 };
        assert!(tlb.ranges.len() <= most && tlb.syncs <= most, "{tlb:?}", tlb = (tlb.ranges, tlb.syncs));
        result
    }
}

fn self_test<R: Regime>(mut subject: Subject<R>) {
    let sizes: Vec<u64> = (0..48).map(|bit| 1u64 << bit).filter(|size| R::Granule::LEAF_SIZES & size != 0).collect();
    let page = sizes[0];
    let ias = subject.table.cfg().ias;
    subject.expect(0, None);
    subject.expect(GIB + 42, None);
    // Distinct mappings of every size; a second attempt is refused.
    for (slot, &size) in (0u64..).zip(&sizes) {
        let iova = slot * GIB;
        subject.map_one(iova, iova, size).unwrap();
        let conflict = MapError::Overlap { iova: Iova(iova | subject.top), mapped: 0 };
        assert_eq!(subject.map_one(iova, iova + size, size), Err(conflict));
        subject.expect(iova + 42, Some(iova + 42));
        subject.expect(iova + size - 1, Some(iova + size - 1));
        subject.expect(iova + size, None);
        let Walk::Hit { size: found, .. } = subject.walker.translate(&Snooping(&subject.mem), iova | subject.top)
        else {
            panic!("no leaf")
        };
        assert_eq!(found, size);
    }
    // Part of a block is unmapped and mapped again.
    let block = sizes[1];
    subject.unmap(GIB + page, page).unwrap();
    subject.expect(GIB + page, None);
    subject.expect(GIB + page - 1, Some(GIB + page - 1));
    subject.expect(GIB + 2 * page, Some(GIB + 2 * page));
    subject.expect(GIB + block - 1, Some(GIB + block - 1));
    subject.map(GIB + page, page, page).unwrap();
    subject.expect(GIB + page + 42, Some(page + 42));
    // Everything is unmapped and mapped again as blocks: tables of the split must not remain.
    for (slot, &size) in (0u64..).zip(&sizes) {
        let iova = slot * GIB;
        subject.unmap(iova, size).unwrap();
        subject.expect(iova + 42, None);
        assert_eq!(subject.unmap(iova, size), Err(UnmapError::NotMapped(Iova(iova | subject.top))));
        subject.map(iova, iova, size).unwrap();
        subject.expect(iova + 42, Some(iova + 42));
        subject.unmap(iova, size).unwrap();
    }
    // The last block of the space.
    let last = (1u64 << ias) - block;
    subject.map(last, 0, block).unwrap();
    subject.expect(last + 42, Some(42));
    subject.expect((1 << ias) - 1, Some(block - 1));
    assert_eq!(subject.map(last, 0, 2 * block), Err(MapError::OutOfRange));
    subject.unmap(last, block).unwrap();
    subject.expect(last, None);
    // A range that needs every leaf size, at unaligned addresses; then a piece across its middle is unmapped.
    let size = sizes.iter().sum::<u64>() + 3 * page;
    let iova = GIB - 2 * page;
    subject.map(iova, iova, size).unwrap();
    for at in [0, page, 2 * page, size / 2, size - page] {
        subject.expect(iova + at, Some(iova + at));
    }
    let hole = (size / 3) & !(page - 1);
    subject.unmap(iova + hole, hole).unwrap();
    subject.expect(iova + hole - 1, Some(iova + hole - 1));
    subject.expect(iova + hole, None);
    subject.expect(iova + 2 * hole - 1, None);
    subject.expect(iova + 2 * hole, Some(iova + 2 * hole));
    subject.unmap(iova, hole).unwrap();
    subject.unmap(iova + 2 * hole, size - 2 * hole).unwrap();
    // Only the root is left; it is freed last.
    assert_eq!(subject.mem.live_tables(), 1);
    assert_eq!(subject.table.leaves(Iova(subject.top), u64::MAX).count(), 0);
    subject.table.destroy(&mut NoTlb).unwrap();
    assert_eq!(subject.mem.live_tables(), 0);
}

fn memory() -> HeapMemory {
    HeapMemory::new(Pa(0x1000_0000), 4 << 20)
}

/// The break-before-make level and coherency vary with the pair, so that all of them are tested with all granules.
fn cfg(ias: u32, oas: u32, quirks: Quirks) -> Cfg {
    let bbm = [Bbm::Level0, Bbm::Level1, Bbm::Level2][(ias / 4 + oas / 4) as usize % 3];
    Cfg { bbm, quirks, coherent_walk: !(ias + oas).is_multiple_of(8), ..Cfg::new(ias, oas) }
}

fn pairs() -> impl Iterator<Item = (u32, u32)> {
    let all = SIZES.into_iter().flat_map(|ias| SIZES.into_iter().map(move |oas| (ias, oas)));
    // Under Miri, which is slow, only the smallest, the largest and a concatenated root.
    all.filter(|&(ias, oas)| ias <= oas && (!cfg!(miri) || matches!((ias, oas), (40, 40))))
}

fn stage2<G: Granule>() {
    for (ias, oas) in pairs() {
        let mem = memory();
        let table = IoPgtable::<S2<G>, _>::new(&cfg(ias, oas, Quirks::empty()), mem.clone()).unwrap();
        let out = table.config();
        let walker = Walker::stage2(out.ttb.0, out.vtcr_el2());
        self_test(Subject { table, mem, walker, top: 0 });
    }
}

fn stage1<G: Granule>() {
    for (ias, oas) in pairs() {
        let mem = memory();
        let table = IoPgtable::<S1<G>, _>::new(&cfg(ias, oas, Quirks::empty()), mem.clone()).unwrap();
        let out = table.config();
        let walker = Walker::stage1(out.ttb.0, out.tcr_el1_ttbr0());
        self_test(Subject { table, mem, walker, top: 0 });
        let mem = memory();
        let table = IoPgtable::<S1<G>, _>::new(&cfg(ias, oas, Quirks::TTBR1), mem.clone()).unwrap();
        let out = table.config();
        let walker = Walker::ttbr1(out.ttb.0, out.tcr_el1_ttbr1());
        self_test(Subject { table, mem, walker, top: u64::MAX << ias });
        let mem = memory();
        let table = IoPgtable::<El2<G>, _>::new(&cfg(ias, oas, Quirks::empty()), mem.clone()).unwrap();
        let out = table.config();
        let walker = Walker::stage1(out.ttb.0, out.tcr_el2());
        self_test(Subject { table, mem, walker, top: 0 });
    }
}

#[test]
fn stage_2_with_4k() {
    stage2::<G4K>();
}

#[test]
#[cfg_attr(miri, ignore = "takes hours; the same code as 4K with larger tables")]
fn stage_2_with_16k() {
    stage2::<G16K>();
}

#[test]
#[cfg_attr(miri, ignore = "takes hours; the same code as 4K with larger tables")]
fn stage_2_with_64k() {
    stage2::<G64K>();
}

#[test]
fn stage_1_with_4k() {
    stage1::<G4K>();
}

#[test]
#[cfg_attr(miri, ignore = "takes hours; the same code as 4K with larger tables")]
fn stage_1_with_16k() {
    stage1::<G16K>();
}

#[test]
#[cfg_attr(miri, ignore = "takes hours; the same code as 4K with larger tables")]
fn stage_1_with_64k() {
    stage1::<G64K>();
}
