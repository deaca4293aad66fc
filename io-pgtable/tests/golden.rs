//! Values taken from the Arm ARM (DDI 0487) and from Linux's `io-pgtable-arm`, not computed by this crate.

#![allow(clippy::unwrap_used)]

use io_pgtable::{
    Attrs, Cfg, El2, G4K, G16K, G64K, Granule, HeapMemory, IoPgtable, Iova, MAIR, Pa, Prot, Quirks, Regime, S1, S2,
};

fn memory() -> HeapMemory {
    HeapMemory::new(Pa(0x1000_0000), 3 << 20)
}

/// The descriptor of the one leaf that a mapping makes.
fn leaf<R: Regime>(cfg: Cfg, iova: u64, pa: u64, size: u64, attrs: Attrs) -> u64 {
    let mut table = IoPgtable::<R, _>::new(&cfg, memory()).unwrap();
    table.map(Iova(iova), Pa(pa), size, attrs).unwrap();
    let mut leaves = table.leaves(Iova(iova), size);
    let leaf = leaves.next().unwrap();
    assert_eq!((leaf.size, leaf.attrs, leaves.next()), (size, attrs, None));
    leaf.desc
}

const R: Prot = Prot::READ;
const W: Prot = Prot::WRITE;
const X: Prot = Prot::EXEC;
const RW: Prot = Prot::RW;
const RWX: Prot = Prot::RWX;

#[test]
fn stage_2_descriptors() {
    let page = |attrs| leaf::<S2>(Cfg::new(40, 40), 0x1000, 0x1234_5000, 0x1000, attrs);
    // Page 0b11; MemAttr [5:2]; S2AP [7:6]; SH [9:8]; AF 10; XN 54.
    assert_eq!(page(Attrs::normal(RWX)), 0x1234_57ff);
    assert_eq!(page(Attrs::normal(R | X)), 0x1234_577f);
    assert_eq!(page(Attrs::normal(W | X)), 0x1234_57bf);
    assert_eq!(page(Attrs::normal(RW)), 0x0040_0000_1234_57ff);
    assert_eq!(page(Attrs::normal_nc(RWX)), 0x1234_56d7);
    assert_eq!(page(Attrs::device(RWX)), 0x1234_56c7);
    assert_eq!(page(Attrs::device(RW)), 0x0040_0000_1234_56c7);
    let block = |size| leaf::<S2>(Cfg::new(40, 40), 0x40_0000_0000, 0x80_0000_0000, size, Attrs::normal(RWX));
    assert_eq!((block(0x20_0000), block(0x4000_0000)), (0x80_0000_07fd, 0x80_0000_07fd));
    let fwb = Cfg { quirks: Quirks::S2FWB, ..Cfg::new(40, 40) };
    // With FWB, MemAttr is 0b0110 for write-back, 0b0101 for non-cacheable, 0b0001 for device.
    assert_eq!(leaf::<S2>(fwb, 0, 0, 0x1000, Attrs::normal(RWX)), 0x7db);
    assert_eq!(leaf::<S2>(fwb, 0, 0, 0x1000, Attrs::normal_nc(RWX)), 0x6d7);
    assert_eq!(leaf::<S2>(fwb, 0, 0, 0x1000, Attrs::device(RWX)), 0x6c7);
}

#[test]
fn stage_1_descriptors() {
    let page = |quirks, attrs| leaf::<S1>(Cfg { quirks, ..Cfg::new(48, 48) }, 0, 0xffff_1234_5000, 0x1000, attrs);
    let none = Quirks::empty();
    // Page 0b11; AttrIndx [4:2]: 0 NC, 1 WB, 2 device; AP[1] 6, AP[2] 7; SH [9:8]; AF 10; nG 11; PXN 53, UXN 54.
    assert_eq!(page(none, Attrs::normal(RWX)), 0xffff_1234_5f47);
    assert_eq!(page(none, Attrs::normal(R | X)), 0xffff_1234_5fc7);
    assert_eq!(page(none, Attrs::normal(RW)), 0x0060_ffff_1234_5f47);
    assert_eq!(page(none, Attrs::normal(RWX | Prot::PRIV)), 0xffff_1234_5f07);
    assert_eq!(page(none, Attrs::normal_nc(RWX)), 0xffff_1234_5e43);
    assert_eq!(page(none, Attrs::device(RW)), 0x0060_ffff_1234_5e4b);
    // NS is bit 5; DBM is bit 51, set with HD for writable mappings.
    assert_eq!(page(Quirks::NS, Attrs::normal(RWX)), 0xffff_1234_5f67);
    assert_eq!(page(Quirks::HD, Attrs::normal(RWX)), 0x0008_ffff_1234_5f47);
    assert_eq!(page(Quirks::HD, Attrs::normal(R | X)), 0xffff_1234_5fc7);
}

#[test]
fn el2_descriptors() {
    let page = |attrs| leaf::<El2>(Cfg::new(48, 48), 0, 0x4020_0000, 0x1000, attrs);
    // AP[1] RES1, nG and PXN RES0, XN 54.
    assert_eq!(page(Attrs::normal(R | X)), 0x4020_07c7);
    assert_eq!(page(Attrs::normal(RW)), 0x0040_0000_4020_0747);
    assert_eq!(page(Attrs::normal(R)), 0x0040_0000_4020_07c7);
    assert_eq!(page(Attrs::device(RW)), 0x0040_0000_4020_064b);
}

#[test]
fn larger_granules() {
    let s2 = Attrs::normal(RWX);
    assert_eq!(leaf::<S2<G16K>>(Cfg::new(40, 40), 0, 0x1234_4000, 0x4000, s2), 0x1234_47ff);
    assert_eq!(leaf::<S2<G16K>>(Cfg::new(40, 40), 0, 0x1200_0000, 0x200_0000, s2), 0x1200_07fd);
    assert_eq!(leaf::<S2<G64K>>(Cfg::new(40, 40), 0, 0x1235_0000, 0x1_0000, s2), 0x1235_07ff);
    assert_eq!(leaf::<S2<G64K>>(Cfg::new(40, 40), 0, 0x2000_0000, 0x2000_0000, s2), 0x2000_07fd);
}

#[test]
fn table_descriptors_have_a_next_level_address_and_only_ignored_bits() {
    let mem = memory();
    let cfg = Cfg { quirks: Quirks::NS, ..Cfg::new(48, 48) };
    let mut table = IoPgtable::<S1, _>::new(&cfg, mem.clone()).unwrap();
    table.map(Iova(0), Pa(0), 0x1000, Attrs::normal(RW)).unwrap();
    let root = table.config().ttb;
    let desc = mem.read64(root).unwrap();
    // Ignored in a table descriptor: [58:51] and [11:2]. NSTable is bit 63.
    let seen = desc & !0x07f8_0000_0000_0ffc;
    assert_eq!(seen & 0xfff, 3);
    assert_eq!(seen >> 48, 0x8000);
    assert!(mem.read64(Pa(seen & 0xffff_ffff_f000)).is_some());
}

#[test]
fn mair_has_linuxs_value() {
    // 0x44 normal NC, 0xff normal WB RW-allocate, 0x04 device-nGnRE, 0xf4 inner NC outer WB RW-allocate.
    assert_eq!(MAIR, 0xf404_ff44);
}

/// (ias, oas, stage-2 start level, stage-2 root entries, VTCR_EL2, stage-1 start level, TCR_EL2, TCR_EL1 for TTBR0, for
/// TTBR1)
type Row = (u32, u32, u8, u64, u64, u8, u64, u64, u64);

#[rustfmt::skip]
const GRANULE_4K: [Row; 21] = [
    (32, 32, 1, 4, 0x80003560, 1, 0x80803520, 0x803520, 0xb5200080),
    (32, 36, 1, 4, 0x80013560, 1, 0x80813520, 0x100803520, 0x1b5200080),
    (32, 40, 1, 4, 0x80023560, 1, 0x80823520, 0x200803520, 0x2b5200080),
    (32, 42, 1, 4, 0x80033560, 1, 0x80833520, 0x300803520, 0x3b5200080),
    (32, 44, 1, 4, 0x80043560, 1, 0x80843520, 0x400803520, 0x4b5200080),
    (32, 48, 1, 4, 0x80053560, 1, 0x80853520, 0x500803520, 0x5b5200080),
    (36, 36, 1, 64, 0x8001355c, 1, 0x8081351c, 0x10080351c, 0x1b51c0080),
    (36, 40, 1, 64, 0x8002355c, 1, 0x8082351c, 0x20080351c, 0x2b51c0080),
    (36, 42, 1, 64, 0x8003355c, 1, 0x8083351c, 0x30080351c, 0x3b51c0080),
    (36, 44, 1, 64, 0x8004355c, 1, 0x8084351c, 0x40080351c, 0x4b51c0080),
    (36, 48, 1, 64, 0x8005355c, 1, 0x8085351c, 0x50080351c, 0x5b51c0080),
    (40, 40, 1, 1024, 0x80023558, 0, 0x80823518, 0x200803518, 0x2b5180080),
    (40, 42, 1, 1024, 0x80033558, 0, 0x80833518, 0x300803518, 0x3b5180080),
    (40, 44, 0, 2, 0x80043598, 0, 0x80843518, 0x400803518, 0x4b5180080),
    (40, 48, 0, 2, 0x80053598, 0, 0x80853518, 0x500803518, 0x5b5180080),
    (42, 42, 1, 4096, 0x80033556, 0, 0x80833516, 0x300803516, 0x3b5160080),
    (42, 44, 0, 8, 0x80043596, 0, 0x80843516, 0x400803516, 0x4b5160080),
    (42, 48, 0, 8, 0x80053596, 0, 0x80853516, 0x500803516, 0x5b5160080),
    (44, 44, 0, 32, 0x80043594, 0, 0x80843514, 0x400803514, 0x4b5140080),
    (44, 48, 0, 32, 0x80053594, 0, 0x80853514, 0x500803514, 0x5b5140080),
    (48, 48, 0, 512, 0x80053590, 0, 0x80853510, 0x500803510, 0x5b5100080),
];

#[rustfmt::skip]
const GRANULE_16K: [Row; 21] = [
    (32, 32, 2, 128, 0x8000b560, 2, 0x8080b520, 0x80b520, 0x75200080),
    (32, 36, 2, 128, 0x8001b560, 2, 0x8081b520, 0x10080b520, 0x175200080),
    (32, 40, 2, 128, 0x8002b560, 2, 0x8082b520, 0x20080b520, 0x275200080),
    (32, 42, 2, 128, 0x8003b560, 2, 0x8083b520, 0x30080b520, 0x375200080),
    (32, 44, 2, 128, 0x8004b560, 2, 0x8084b520, 0x40080b520, 0x475200080),
    (32, 48, 2, 128, 0x8005b560, 2, 0x8085b520, 0x50080b520, 0x575200080),
    (36, 36, 2, 2048, 0x8001b55c, 2, 0x8081b51c, 0x10080b51c, 0x1751c0080),
    (36, 40, 2, 2048, 0x8002b55c, 2, 0x8082b51c, 0x20080b51c, 0x2751c0080),
    (36, 42, 2, 2048, 0x8003b55c, 2, 0x8083b51c, 0x30080b51c, 0x3751c0080),
    (36, 44, 2, 2048, 0x8004b55c, 2, 0x8084b51c, 0x40080b51c, 0x4751c0080),
    (36, 48, 2, 2048, 0x8005b55c, 2, 0x8085b51c, 0x50080b51c, 0x5751c0080),
    (40, 40, 2, 32768, 0x8002b558, 1, 0x8082b518, 0x20080b518, 0x275180080),
    (40, 42, 1, 16, 0x8003b598, 1, 0x8083b518, 0x30080b518, 0x375180080),
    (40, 44, 1, 16, 0x8004b598, 1, 0x8084b518, 0x40080b518, 0x475180080),
    (40, 48, 1, 16, 0x8005b598, 1, 0x8085b518, 0x50080b518, 0x575180080),
    (42, 42, 1, 64, 0x8003b596, 1, 0x8083b516, 0x30080b516, 0x375160080),
    (42, 44, 1, 64, 0x8004b596, 1, 0x8084b516, 0x40080b516, 0x475160080),
    (42, 48, 1, 64, 0x8005b596, 1, 0x8085b516, 0x50080b516, 0x575160080),
    (44, 44, 1, 256, 0x8004b594, 1, 0x8084b514, 0x40080b514, 0x475140080),
    (44, 48, 1, 256, 0x8005b594, 1, 0x8085b514, 0x50080b514, 0x575140080),
    (48, 48, 1, 4096, 0x8005b590, 0, 0x8085b510, 0x50080b510, 0x575100080),
];

#[rustfmt::skip]
const GRANULE_64K: [Row; 21] = [
    (32, 32, 2, 8, 0x80007560, 2, 0x80807520, 0x807520, 0xf5200080),
    (32, 36, 2, 8, 0x80017560, 2, 0x80817520, 0x100807520, 0x1f5200080),
    (32, 40, 2, 8, 0x80027560, 2, 0x80827520, 0x200807520, 0x2f5200080),
    (32, 42, 2, 8, 0x80037560, 2, 0x80837520, 0x300807520, 0x3f5200080),
    (32, 44, 2, 8, 0x80047560, 2, 0x80847520, 0x400807520, 0x4f5200080),
    (32, 48, 2, 8, 0x80057560, 2, 0x80857520, 0x500807520, 0x5f5200080),
    (36, 36, 2, 128, 0x8001755c, 2, 0x8081751c, 0x10080751c, 0x1f51c0080),
    (36, 40, 2, 128, 0x8002755c, 2, 0x8082751c, 0x20080751c, 0x2f51c0080),
    (36, 42, 2, 128, 0x8003755c, 2, 0x8083751c, 0x30080751c, 0x3f51c0080),
    (36, 44, 2, 128, 0x8004755c, 2, 0x8084751c, 0x40080751c, 0x4f51c0080),
    (36, 48, 2, 128, 0x8005755c, 2, 0x8085751c, 0x50080751c, 0x5f51c0080),
    (40, 40, 2, 2048, 0x80027558, 2, 0x80827518, 0x200807518, 0x2f5180080),
    (40, 42, 2, 2048, 0x80037558, 2, 0x80837518, 0x300807518, 0x3f5180080),
    (40, 44, 2, 2048, 0x80047558, 2, 0x80847518, 0x400807518, 0x4f5180080),
    (40, 48, 2, 2048, 0x80057558, 2, 0x80857518, 0x500807518, 0x5f5180080),
    (42, 42, 2, 8192, 0x80037556, 2, 0x80837516, 0x300807516, 0x3f5160080),
    (42, 44, 2, 8192, 0x80047556, 2, 0x80847516, 0x400807516, 0x4f5160080),
    (42, 48, 2, 8192, 0x80057556, 2, 0x80857516, 0x500807516, 0x5f5160080),
    (44, 44, 1, 4, 0x80047594, 1, 0x80847514, 0x400807514, 0x4f5140080),
    (44, 48, 1, 4, 0x80057594, 1, 0x80857514, 0x500807514, 0x5f5140080),
    (48, 48, 1, 64, 0x80057590, 1, 0x80857510, 0x500807510, 0x5f5100080),
];

fn check<G: Granule>(rows: &[Row]) {
    for &(ias, oas, start2, entries, vtcr, start1, tcr_el2, ttbr0, ttbr1) in rows {
        let cfg = Cfg::new(ias, oas);
        let s2 = IoPgtable::<S2<G>, _>::new(&cfg, memory()).unwrap();
        let out = s2.config();
        assert_eq!((out.start_level, out.vtcr_el2()), (start2, vtcr), "stage 2, {ias} to {oas} bits");
        assert_eq!(s2.table_bytes() as u64, (entries * 8).max(4096));
        assert_eq!(out.ttb.0 % (entries * 8), 0);
        let el2 = IoPgtable::<El2<G>, _>::new(&cfg, memory()).unwrap().config();
        assert_eq!((el2.start_level, el2.tcr_el2()), (start1, tcr_el2), "EL2, {ias} to {oas} bits");
        let s1 = IoPgtable::<S1<G>, _>::new(&cfg, memory()).unwrap().config();
        assert_eq!((s1.start_level, s1.tcr_el1_ttbr0(), s1.mair), (start1, ttbr0, MAIR), "{ias} to {oas} bits");
        let upper = Cfg { quirks: Quirks::TTBR1, ..cfg };
        let s1 = IoPgtable::<S1<G>, _>::new(&upper, memory()).unwrap().config();
        assert_eq!((s1.start_level, s1.tcr_el1_ttbr1()), (start1, ttbr1), "TTBR1, {ias} to {oas} bits");
    }
}

#[test]
fn configuration_words() {
    check::<G4K>(&GRANULE_4K);
    check::<G16K>(&GRANULE_16K);
    check::<G64K>(&GRANULE_64K);
}

#[test]
fn walk_attributes_follow_the_walkers_coherency() {
    let word = |coherent_walk, quirks| {
        let cfg = Cfg { coherent_walk, quirks, ..Cfg::new(40, 40) };
        let walk = IoPgtable::<S1, _>::new(&cfg, memory()).unwrap().config().walk;
        (walk.sh, walk.orgn, walk.irgn)
    };
    assert_eq!(word(true, Quirks::empty()), (3, 1, 1));
    assert_eq!(word(false, Quirks::empty()), (2, 0, 0));
    assert_eq!(word(false, Quirks::OUTER_WBWA), (2, 1, 0));
    let cfg = Cfg { coherent_walk: false, ..Cfg::new(40, 40) };
    let vtcr = IoPgtable::<S2, _>::new(&cfg, memory()).unwrap().config().vtcr_el2();
    assert_eq!(vtcr, 0x8002_2058);
}
