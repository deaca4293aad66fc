//! Random operations, compared with a simple map, with allocation failures at every point, on the formats that differ
//! most.
//!
//! `IO_PGTABLE_OPS=1000000` runs the full count; the default is small enough for everyday test runs.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{NotSnooping, Random, Snooping, Walker, operations};
use io_pgtable::{
    Attrs, Bbm, Cfg, El2, G4K, G16K, G64K, Granule, HeapMemory, IoPgtable, Iova, MapError, MemType, NoTlb, Pa, Prot,
    Quirks, Regime, S1, S2, TlbError, TlbOps, TlbRange, UnmapError,
};

/// The mappings, page by page: input page number to output address and attributes.
type Model = BTreeMap<u64, (u64, Attrs)>;

struct Tlb {
    ranges: Vec<TlbRange>,
    syncs: usize,
    completes: bool,
}

impl TlbOps for Tlb {
    fn invalidate(&mut self, range: TlbRange) {
        self.ranges.push(range);
    }
    fn sync(&mut self) -> Result<(), TlbError> {
        self.syncs += 1;
        if self.completes { Ok(()) } else { Err(TlbError) }
    }
}

struct Test<R: Regime> {
    table: IoPgtable<R, HeapMemory>,
    mem: HeapMemory,
    walker: Walker,
    model: Model,
    random: Random,
    /// Tables that are quarantined because a TLB invalidation timed out.
    lost: usize,
}

const ATTRS: [Attrs; 4] = [
    Attrs::normal(Prot::RW),
    Attrs::normal(Prot::READ),
    Attrs::device(Prot::RW),
    Attrs { prot: Prot::READ.union(Prot::EXEC), mem: MemType::NormalNc },
];

impl<R: Regime> Test<R> {
    const PAGE: u64 = R::Granule::PAGE;

    /// Number of pages of the input space that the test uses: a few blocks of each size, so that all levels are used.
    fn block(&self) -> u64 {
        (0..48).map(|bit| 1u64 << bit).filter(|size| R::Granule::LEAF_SIZES & size != 0).nth(1).unwrap()
    }

    /// A page-aligned range: usually small, sometimes blocks, sometimes aligned to blocks.
    fn range(&mut self) -> (u64, u64) {
        let block = self.block();
        let space =
            if R::Granule::LEAF_SIZES & 1 << 30 != 0 && self.random.below(4) == 0 { 3 << 30 } else { 6 * block };
        let page = Self::PAGE;
        match self.random.below(8) {
            0..=3 => (self.random.below(space / page) * page, (1 + self.random.below(40)) * page),
            4 => (self.random.below(space / block) * block, (1 + self.random.below(2)) * block),
            5 => (self.random.below(space / block) * block, (1 + self.random.below(block / page)) * page),
            6 => (self.random.below(space / page) * page, page),
            _ => (self.random.below(space / page) * page, block + self.random.below(64) * page),
        }
    }

    fn pages(start: u64, size: u64) -> std::ops::Range<u64> {
        start / Self::PAGE..(start + size) / Self::PAGE
    }

    fn map(&mut self) {
        let (iova, size) = self.range();
        // Usually the same alignment as the input, so that blocks occur.
        let pa = if self.random.below(3) == 0 { self.random.below(1 << 16) * Self::PAGE } else { iova };
        let attrs = ATTRS[self.random.below(4) as usize];
        let first = self.model.range(Self::pages(iova, size)).next().map(|(&page, _)| page * Self::PAGE);
        let before = self.mem.live_tables();
        let result = self.table.map(Iova(iova), Pa(pa), size, attrs);
        match (first, result) {
            (None, Ok(())) => {
                let pages = Self::pages(iova, size).zip((pa..).step_by(Self::PAGE as usize));
                self.model.extend(pages.map(|(page, pa)| (page, (pa, attrs))));
            }
            (Some(first), Err(error)) => assert_eq!(error, MapError::Overlap { iova: Iova(first), mapped: 0 }),
            (None, Err(MapError::NoMemory)) => {}
            other => panic!("map {iova:#x} {size:#x}: {other:?}"),
        }
        if result.is_err() {
            assert_eq!(self.mem.live_tables(), before, "a failed map leaks");
        }
        self.check(iova, size);
    }

    /// A completely mapped range around a page of the model.
    fn mapped_range(&mut self) -> Option<(u64, u64)> {
        let (iova, size) = self.range();
        let start = *self.model.range(iova / Self::PAGE..).next()?.0;
        let mut pages = 1;
        while pages < size / Self::PAGE && self.model.contains_key(&(start + pages)) {
            pages += 1;
        }
        Some((start * Self::PAGE, pages * Self::PAGE))
    }

    fn unmap(&mut self, completes: bool) {
        let any_range = self.random.below(4) == 0;
        let (iova, size) = if any_range { self.range() } else { self.mapped_range().unwrap_or((0, Self::PAGE)) };
        let hole = Self::pages(iova, size).find(|page| !self.model.contains_key(page)).map(|page| page * Self::PAGE);
        let before = self.mem.live_tables();
        let mut tlb = Tlb { ranges: Vec::new(), syncs: 0, completes };
        let result = self.table.unmap(Iova(iova), size, &mut tlb);
        match (hole, result) {
            (Some(hole), Err(error)) => assert_eq!(error, UnmapError::NotMapped(Iova(hole))),
            (None, Ok(())) => assert!(completes),
            (None, Err(UnmapError::Tlb(TlbError))) => assert!(!completes),
            (None, Err(UnmapError::NoMemory)) => {}
            other => panic!("unmap {iova:#x} {size:#x}: {other:?}"),
        }
        match result {
            Ok(()) | Err(UnmapError::Tlb(_)) => {
                Self::pages(iova, size).for_each(|page| {
                    self.model.remove(&page);
                });
                let most = if self.table.cfg().bbm == Bbm::Level1 { 2 } else { 1 };
                assert!(tlb.ranges.len() == tlb.syncs && (1..=most).contains(&tlb.syncs));
                let last = tlb.ranges.last().unwrap();
                assert!(last.iova.0 <= iova && iova + size <= last.iova.0 + last.size, "{last:?}");
                assert_eq!(last.size % last.granule, 0);
            }
            Err(_) => {
                assert!(tlb.ranges.is_empty(), "a refused call invalidated the TLB");
                assert_eq!(self.mem.live_tables(), before, "a failed unmap leaks");
            }
        }
        self.lost = self.table.quarantined() / R::Granule::TABLE_BYTES;
        self.check(iova, size);
    }

    /// Checks that the table, the independent walkers and the model have the same results at the edges of a range and
    /// at an address inside it.
    fn check(&mut self, iova: u64, size: u64) {
        let inside = self.random.below(size);
        let first = iova.saturating_sub(1);
        for at in [first, iova, iova + inside, iova + size - 1, iova + size] {
            let found = self.model.get(&(at / Self::PAGE)).map(|&(pa, attrs)| (pa + at % Self::PAGE, attrs));
            let pa = found.map(|(pa, _)| pa);
            assert_eq!(self.walker.translate(&Snooping(&self.mem), at).pa(), pa, "{at:#x}");
            if !self.table.cfg().coherent_walk {
                assert_eq!(self.walker.translate(&NotSnooping(&self.mem), at).pa(), pa, "{at:#x} in memory");
            }
            assert_eq!(self.table.iova_to_phys(Iova(at)), pa.map(Pa));
            assert_eq!(self.table.lookup(Iova(at)).map(|leaf| leaf.attrs), found.map(|(_, attrs)| attrs));
        }
    }

    /// Compares the whole table with the whole model, and checks the memory of the tables.
    fn audit(&self) {
        let mut model = self.model.iter().map(|(&page, &(pa, attrs))| (page * Self::PAGE, pa, attrs));
        for leaf in self.table.leaves(Iova(0), u64::MAX) {
            for offset in (0..leaf.size).step_by(Self::PAGE as usize) {
                assert_eq!(Some((leaf.iova.0 + offset, leaf.pa.0 + offset, leaf.attrs)), model.next());
            }
        }
        assert_eq!(model.next(), None);
        let extents: u64 = self.table.translate(Iova(0), u64::MAX).map(|extent| extent.size).sum();
        assert_eq!(extents, self.model.len() as u64 * Self::PAGE);
        assert_eq!(self.mem.live_bytes(), self.table.table_bytes() + self.table.quarantined(), "a table leaked");
    }
}

fn run<R: Regime>(cfg: Cfg, walker: impl Fn(&R::Out) -> Walker, seed: u64) {
    let mem = HeapMemory::new(Pa(0x1000_0000), 24 << 20);
    let table = IoPgtable::<R, _>::new(&cfg, mem.clone()).unwrap();
    let walker = walker(&table.config());
    let mut test = Test { table, mem, walker, model: Model::new(), random: Random(seed | 1), lost: 0 };
    let total = operations(6_000);
    for step in 0..total {
        // Every few operations, allocations fail after a random number of successes.
        let fail = (test.random.below(5) == 0).then(|| test.random.below(4) as usize);
        test.mem.fail_after(fail);
        let mapping = test.random.below(2) == 0 && test.model.len() < 300_000;
        let completes = test.lost >= 40 || test.random.below(100) != 0;
        if mapping {
            test.map()
        } else {
            test.unmap(completes)
        }
        if step % (total / 10).max(1) == 0 {
            test.audit();
        }
    }
    test.mem.fail_after(None);
    test.audit();
    let quarantined = test.lost;
    // The remaining mappings are unmapped in one call per run; then only the root is left.
    for extent in test.table.translate(Iova(0), u64::MAX).collect::<Vec<_>>() {
        test.table.unmap(extent.iova, extent.size, &mut NoTlb).unwrap();
    }
    assert_eq!(test.mem.live_tables(), 1 + quarantined);
    test.table.destroy(&mut NoTlb).unwrap();
    assert_eq!(test.mem.live_tables(), quarantined);
}

fn stage2<G: Granule>(cfg: Cfg, seed: u64) {
    run::<S2<G>>(cfg, |out| Walker::stage2(out.ttb.0, out.vtcr_el2()), seed);
}

#[test]
fn stage_2_4k_break_before_make() {
    stage2::<G4K>(Cfg { coherent_walk: false, ..Cfg::new(40, 40) }, 1);
}

#[test]
fn stage_2_4k_level_1() {
    stage2::<G4K>(Cfg { bbm: Bbm::Level1, quirks: Quirks::S2FWB, ..Cfg::new(48, 48) }, 2);
}

#[test]
fn stage_2_4k_level_2() {
    stage2::<G4K>(Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) }, 3);
}

#[test]
fn stage_2_4k_pages_only() {
    stage2::<G4K>(Cfg { page_sizes: 0x1000, ..Cfg::new(40, 44) }, 4);
}

#[test]
#[cfg_attr(miri, ignore = "takes hours; the same code as 4K with larger tables")]
fn stage_2_16k() {
    stage2::<G16K>(Cfg { bbm: Bbm::Level2, coherent_walk: false, ..Cfg::new(40, 40) }, 5);
}

#[test]
#[cfg_attr(miri, ignore = "takes hours; the same code as 4K with larger tables")]
fn stage_2_64k() {
    stage2::<G64K>(Cfg { bbm: Bbm::Level2, ..Cfg::new(44, 48) }, 6);
}

#[test]
fn el2_4k() {
    run::<El2>(Cfg::new(48, 48), |out| Walker::stage1(out.ttb.0, out.tcr_el2()), 7);
}

#[test]
fn stage_1_4k() {
    let cfg = Cfg { quirks: Quirks::NS, ..Cfg::new(39, 48) };
    run::<S1>(cfg, |out| Walker::stage1(out.ttb.0, out.tcr_el1_ttbr0()), 8);
}
