//! One stage 2 for SMMUs with different address sizes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use io_pgtable::{Bbm, HeapMemory, Ipa, Pa};
use shadow_s2::{PageRange, ShadowS2};
use smmu_drv::{Coherency, DmaConfig, Features, IdRegisters, Stage2Cfg};

/// An SMMU with this IDR5.OAS, coherent, of break-before-make level 2.
fn smmu(oas: u32) -> Features {
    let ids = IdRegisters { idr0: 1 << 4, idr3: 2 << 11, idr5: oas, ..IdRegisters::default() };
    Features::decode(ids, Coherency::Coherent)
}

/// Memory on both sides of the smaller SMMU's limit: neither SMMU reaches memory above it, by the same or by a
/// truncated address.
#[test]
fn t16_memory_above_the_smallest_output_size_is_not_mapped_for_any_smmu() {
    const GIB: u64 = 1 << 30;
    let smmus = [smmu(1), smmu(4)];
    let cfg = DmaConfig::common(smmus.iter(), 40, 48).table();
    assert_eq!((cfg.ias, cfg.oas, cfg.bbm, cfg.coherent_walk), (36, 36, Bbm::Level2, true));
    let mut shadow = ShadowS2::new(cfg, HeapMemory::new(Pa(0x1_0000_0000), 4 << 20)).unwrap();
    let limit = 1 << 36;
    assert_eq!(shadow.limit(), Ipa(limit));
    let ram = PageRange::covering(Ipa(limit - GIB), 2 * GIB).unwrap();
    assert_eq!(shadow.snapshot([ram], []), Ok(()));
    assert!(shadow.leaf(Ipa(limit - 4096)).is_some());
    for above in [limit, limit + GIB - 4096, 1 << 39] {
        assert_eq!(shadow.leaf(Ipa(above)), None, "{above:#x}");
    }
    assert_eq!(shadow.leaf(Ipa(0)), None, "an address truncated to 36 bits");
    assert_eq!(
        shadow.grant(PageRange::covering(Ipa(limit), 4096).unwrap()),
        Ok(()),
        "the memory is not mapped later either"
    );
    assert_eq!(shadow.leaf(Ipa(limit)), None);
}

#[test]
fn every_field_of_the_tables_configuration_reaches_the_entries() {
    let shadow =
        ShadowS2::new(DmaConfig::common([smmu(2)].iter(), 40, 48).table(), HeapMemory::new(Pa(0x8000), 1 << 20));
    let config = shadow.unwrap().config();
    let stage2 = Stage2Cfg::of(&config, 7);
    assert_eq!((stage2.ttb, stage2.t0sz, stage2.sl0, stage2.vmid), (config.ttb, 24, config.sl0, 7));
    assert_eq!((stage2.irgn, stage2.orgn, stage2.sh), (config.walk.irgn, config.walk.orgn, config.walk.sh));
    assert_eq!((stage2.tg, stage2.ps), (0, 2));
}
