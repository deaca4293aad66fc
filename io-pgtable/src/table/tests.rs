use std::vec::Vec;

use crate::{
    Attrs, Bbm, Cfg, CfgError, El2, HeapMemory, IoPgtable, Iova, MapError, NoTlb, Pa, Prot, S2, TlbError, TlbOps,
    TlbRange, TlbScope, UnmapError,
};

const RW: Attrs = Attrs::normal(Prot::RWX);

fn memory() -> HeapMemory {
    HeapMemory::new(Pa(0x8000_0000), 8 << 20)
}

/// Counts the TLB operations.
#[derive(Default)]
struct Tlb {
    ranges: Vec<TlbRange>,
    syncs: usize,
    unresponsive: bool,
}

impl TlbOps for Tlb {
    fn invalidate(&mut self, range: TlbRange) {
        self.ranges.push(range);
    }

    fn sync(&mut self) -> Result<(), TlbError> {
        self.syncs += 1;
        if self.unresponsive { Err(TlbError) } else { Ok(()) }
    }
}

#[test]
fn a_40_bit_stage_2_starts_at_level_1_with_two_tables() {
    let table = IoPgtable::<S2, _>::new(&Cfg::new(40, 40), memory()).unwrap();
    let out = table.config();
    assert_eq!((out.start_level, out.sl0, out.t0sz, out.ps, out.tg), (1, 1, 24, 2, 0));
    assert_eq!(table.table_bytes(), 8192);
    // T0SZ 24, SL0 1, IRGN/ORGN write-back, SH inner, 4K, PS 40 bits, RES1.
    assert_eq!(out.vtcr_el2(), 0x8002_3558);
}

#[test]
fn the_largest_leaves_are_chosen() {
    let mut table = IoPgtable::<S2, _>::new(&Cfg::new(40, 40), memory()).unwrap();
    table.map(Iova(0x3fff_f000), Pa(0x3fff_f000), 0x4040_2000, RW).unwrap();
    let sizes: Vec<u64> = table.leaves(Iova(0), 1 << 40).map(|leaf| leaf.size).collect();
    assert_eq!(sizes, [0x1000, 0x4000_0000, 0x20_0000, 0x20_0000, 0x1000]);
    assert_eq!(table.iova_to_phys(Iova(0x4020_1234)), Some(Pa(0x4020_1234)));
    assert_eq!(table.iova_to_phys(Iova(0x8040_1000)), None);
}

#[test]
fn one_page_of_a_gigabyte_is_unmapped_and_mapped_again() {
    for bbm in [Bbm::Level0, Bbm::Level1, Bbm::Level2] {
        let mem = memory();
        let cfg = Cfg { bbm, ..Cfg::new(40, 40) };
        let mut table = IoPgtable::<S2, _>::new(&cfg, mem.clone()).unwrap();
        table.map(Iova(0x4000_0000), Pa(0x4000_0000), 0x4000_0000, RW).unwrap();
        let mut tlb = Tlb::default();
        table.unmap(Iova(0x4020_1000), 0x1000, &mut tlb).unwrap();
        assert_eq!(tlb.syncs, if bbm == Bbm::Level1 { 2 } else { 1 });
        let range = tlb.ranges.last().unwrap();
        assert_eq!(range.scope, TlbScope::Table);
        let expected = if bbm == Bbm::Level0 { (0x4000_0000, 0x4000_0000) } else { (0x4020_1000, 0x1000) };
        assert_eq!((range.iova.0, range.size), expected);
        assert_eq!(table.iova_to_phys(Iova(0x4020_1000)), None);
        assert_eq!(table.iova_to_phys(Iova(0x4020_0fff)), Some(Pa(0x4020_0fff)));
        assert_eq!(table.iova_to_phys(Iova(0x4020_2000)), Some(Pa(0x4020_2000)));
        assert_eq!(table.iova_to_phys(Iova(0x7fff_ffff)), Some(Pa(0x7fff_ffff)));
        assert_eq!(mem.live_tables(), 3);
        table.map(Iova(0x4020_1000), Pa(0x9000_0000), 0x1000, RW).unwrap();
        assert_eq!(table.iova_to_phys(Iova(0x4020_1008)), Some(Pa(0x9000_0008)));
        table.unmap(Iova(0x4000_0000), 0x4000_0000, &mut tlb).unwrap();
        assert_eq!(mem.live_tables(), 1);
        table.destroy(&mut tlb).unwrap();
        assert_eq!(mem.live_tables(), 0);
    }
}

#[test]
fn overlap_changes_nothing_and_names_the_first_mapped_address() {
    let mem = memory();
    let mut table = IoPgtable::<S2, _>::new(&Cfg::new(40, 40), mem.clone()).unwrap();
    table.map(Iova(0x60_3000), Pa(0), 0x1000, RW).unwrap();
    let tables = mem.live_tables();
    let error = table.map(Iova(0x10_0000), Pa(0x10_0000), 0x80_0000, RW).unwrap_err();
    assert_eq!(error, MapError::Overlap { iova: Iova(0x60_3000), mapped: 0 });
    assert_eq!(table.leaves(Iova(0), 1 << 40).count(), 1);
    assert_eq!(mem.live_tables(), tables);
}

#[test]
fn a_hole_in_the_range_refuses_the_unmap() {
    let mut table = IoPgtable::<S2, _>::new(&Cfg::new(40, 40), memory()).unwrap();
    table.map(Iova(0), Pa(0), 0x4000, RW).unwrap();
    table.unmap(Iova(0x2000), 0x1000, &mut NoTlb).unwrap();
    assert_eq!(table.unmap(Iova(0), 0x4000, &mut NoTlb), Err(UnmapError::NotMapped(Iova(0x2000))));
    assert_eq!(table.unmap(Iova(0x10_0000_0000), 0x1000, &mut NoTlb), Err(UnmapError::NotMapped(Iova(0x10_0000_0000))));
    assert_eq!(table.leaves(Iova(0), 0x4000).count(), 3);
}

#[test]
fn tables_are_kept_when_the_tlb_times_out() {
    let mem = memory();
    let mut table = IoPgtable::<S2, _>::new(&Cfg::new(40, 40), mem.clone()).unwrap();
    table.map(Iova(0), Pa(0x1000), 0x20_0000, RW).unwrap();
    let mut tlb = Tlb { unresponsive: true, ..Tlb::default() };
    assert_eq!(table.unmap(Iova(0), 0x20_0000, &mut tlb), Err(UnmapError::Tlb(TlbError)));
    assert_eq!(table.iova_to_phys(Iova(0)), None);
    assert_eq!(table.quarantined(), 2 * 4096);
    assert_eq!(mem.live_tables(), 3);
}

#[test]
fn el2_leaves_have_the_bits_of_a_single_privilege_level() {
    let mut table = IoPgtable::<El2, _>::new(&Cfg::new(48, 48), memory()).unwrap();
    table.map(Iova(0x1000), Pa(0x1000), 0x1000, Attrs::normal(Prot::READ | Prot::EXEC)).unwrap();
    table.map(Iova(0x2000), Pa(0x2000), 0x1000, Attrs::device(Prot::RW)).unwrap();
    let desc: Vec<u64> = table.leaves(Iova(0), 0x10000).map(|leaf| leaf.desc).collect();
    // AF, SH inner, AP[2:1] = 0b11, index 1, page; XN, AF, SH outer, AP[2:1] = 0b01, index 2, page.
    assert_eq!(desc, [0x17c7, 0x0040_0000_0000_264b]);
    assert_eq!(table.config().tcr_el2(), 0x8085_3510);
    let error = table.map(Iova(0), Pa(0), 0x1000, Attrs::normal(Prot::READ | Prot::PRIV));
    assert_eq!(error, Err(MapError::BadProt));
}

#[test]
fn impossible_configurations_are_refused() {
    let new = |cfg: Cfg| IoPgtable::<S2, _>::new(&cfg, memory()).map(|_| ()).unwrap_err();
    assert_eq!(new(Cfg::new(31, 40)), CfgError::Ias(31));
    assert_eq!(new(Cfg::new(52, 48)), CfgError::Lpa(52));
    assert_eq!(new(Cfg::new(40, 41)), CfgError::Oas(41));
    assert_eq!(new(Cfg::new(44, 40)), CfgError::IasAboveOas { ias: 44, oas: 40 });
    let holes = Cfg { page_sizes: 0x4000_1000, ..Cfg::new(40, 40) };
    assert_eq!(new(holes), CfgError::PageSizes(0x4000_1000));
    let quirk = Cfg { quirks: crate::Quirks::HD, ..Cfg::new(40, 40) };
    assert_eq!(new(quirk), CfgError::Quirks(crate::Quirks::HD));
}

#[test]
fn an_allocation_failure_at_any_point_changes_nothing() {
    let mem = memory();
    let mut table = IoPgtable::<S2, _>::new(&Cfg::new(40, 40), mem.clone()).unwrap();
    for n in 0..4 {
        mem.fail_after(Some(n));
        assert_eq!(table.map(Iova(0x1f_f000), Pa(0x5000), 0x2000, RW).is_ok(), n == 3);
        assert_eq!(mem.live_tables(), if n == 3 { 4 } else { 1 });
    }
    mem.fail_after(None);
    table.map(Iova(0x4000_0000), Pa(0x4000_0000), 0x4000_0000, RW).unwrap();
    for n in 0..3 {
        mem.fail_after(Some(n));
        let result = table.unmap(Iova(0x4000_0000), 0x1000, &mut NoTlb);
        assert_eq!(result, if n == 2 { Ok(()) } else { Err(UnmapError::NoMemory) });
    }
}

#[test]
fn a_range_across_a_table_border_is_all_or_nothing() {
    for coherent_walk in [true, false] {
        let mem = memory();
        let cfg = Cfg { coherent_walk, ..Cfg::new(40, 40) };
        let mut table = IoPgtable::<S2, _>::new(&cfg, mem.clone()).unwrap();
        // The range is in two tables of pages, half of each.
        table.map(Iova(0x10_0000), Pa(0x50_1000), 0x20_0000, RW).unwrap();
        let mut tlb = Tlb::default();
        table.unmap(Iova(0x1f_e000), 0x4000, &mut tlb).unwrap();
        let range = TlbRange { iova: Iova(0x1f_e000), size: 0x4000, granule: 0x1000, scope: TlbScope::Leaf };
        assert_eq!((tlb.ranges.as_slice(), tlb.syncs), ([range].as_slice(), 1));
        let leaves = |table: &IoPgtable<S2, HeapMemory>| table.leaves(Iova(0), 1 << 40).count();
        assert_eq!((leaves(&table), mem.live_tables()), (508, 4));
        // The second table has a hole, then a page in it.
        table.map(Iova(0x1f_e000), Pa(0x1000), 0x2000, RW).unwrap();
        let unmapped = table.unmap(Iova(0x1f_e000), 0x4000, &mut tlb);
        assert_eq!(unmapped, Err(UnmapError::NotMapped(Iova(0x20_0000))));
        table.unmap(Iova(0x1f_e000), 0x2000, &mut tlb).unwrap();
        let mapped = table.map(Iova(0x1f_e000), Pa(0x1000), 0x5000, RW);
        assert_eq!(mapped, Err(MapError::Overlap { iova: Iova(0x20_2000), mapped: 0 }));
        assert_eq!((leaves(&table), tlb.syncs), (508, 2));
        table.map(Iova(0x1f_e000), Pa(0x1000), 0x4000, RW).unwrap();
        assert_eq!(leaves(&table), 512);
        for page in 0..4 {
            let (iova, pa) = (0x1f_e000 + page * 0x1000, 0x1000 + page * 0x1000);
            assert_eq!(table.iova_to_phys(Iova(iova)), Some(Pa(pa)));
            let l3 = if iova < 0x20_0000 { 0 } else { 1 };
            let poc = |pa: u64| if coherent_walk { mem.read64(Pa(pa)) } else { mem.read64_poc(Pa(pa)) };
            let next = |desc: Option<u64>| desc.unwrap() & 0x0000_ffff_ffff_f000;
            let l2 = next(poc(table.config().ttb.0));
            assert_eq!(poc(next(poc(l2 + l3 * 8)) + (iova / 0x1000 % 512) * 8), Some(pa | 0x7ff));
        }
        // Both tables become empty in one call and are freed.
        table.unmap(Iova(0x10_0000), 0xf_f000, &mut tlb).unwrap();
        table.unmap(Iova(0x20_1000), 0xf_f000, &mut tlb).unwrap();
        assert_eq!((leaves(&table), mem.live_tables()), (2, 4));
        table.unmap(Iova(0x1f_f000), 0x2000, &mut tlb).unwrap();
        assert_eq!((tlb.ranges.last().unwrap().scope, mem.live_tables()), (TlbScope::Table, 1));
    }
}
