//! Write protection, handshakes and access sizes.

mod common;

use common::*;
use smmu_model::arch::regs as r;
use smmu_model::{Config, Hazard, Injection, Pace, Transfer, Via};

#[test]
fn guarded_registers_do_not_change_while_enabled() {
    let mut machine = Machine::on(Config::full());
    for (offset, wide) in [
        (r::STRTAB_BASE, true),
        (r::STRTAB_BASE_CFG, false),
        (r::CMDQ_BASE, true),
        (r::CMDQ_CONS, false),
        (r::EVENTQ_BASE, true),
        (r::EVENTQ_PROD, false),
        (r::CR1, false),
        (r::CR2, false),
    ] {
        let before = machine.smmu.read32(offset);
        if wide {
            machine.smmu.write64(offset, 0x7_ffff_ffe0);
        } else {
            machine.smmu.write32(offset, !before);
        }
        assert_eq!(machine.smmu.read32(offset), before, "{offset:#x}");
        assert!(machine.smmu.take_hazards().contains(&Hazard::Guarded(offset)), "{offset:#x}");
    }
}

#[test]
fn id_registers_and_reserved_offsets_ignore_writes() {
    let mut machine = Machine::new(Config::qemu());
    for offset in (0..0x20).step_by(4).chain([0x30, 0x34, 0x200, 0x8000, 0x1_0000, 0x1_0f00]) {
        let before = machine.smmu.read32(offset);
        machine.smmu.write32(offset, !before);
        assert_eq!(machine.smmu.read32(offset), before, "{offset:#x}");
    }
}

#[test]
fn both_access_sizes_reach_wide_registers() {
    let mut machine = Machine::new(Config::qemu());
    machine.smmu.write64(r::STRTAB_BASE, 0x4000_0012_3456_7840);
    assert_eq!(machine.smmu.read32(r::STRTAB_BASE), 0x3456_7840);
    assert_eq!(machine.smmu.read32(r::STRTAB_BASE + 4), 0x4000_0012);
    machine.smmu.write32(r::STRTAB_BASE + 4, 1);
    assert_eq!(machine.smmu.read64(r::STRTAB_BASE), 0x1_3456_7840);
    machine.assert_no_hazards();
    assert_eq!(machine.smmu.read64(r::CR0), 0);
    machine.smmu.write64(r::CR0, u64::MAX);
    assert_eq!(machine.smmu.read32(r::CR0 + 2), 0);
    assert_eq!(machine.smmu.read32(r::CR0), 0);
    let bad = [Hazard::BadAccess(r::CR0), Hazard::BadAccess(r::CR0), Hazard::BadAccess(r::CR0 + 2)];
    assert_eq!(machine.smmu.take_hazards(), bad);
}

#[test]
fn page_1_may_alias_page_0() {
    let mut apart = Machine::new(Config::qemu());
    apart.smmu.write32(0xac, 5);
    assert_eq!((apart.smmu.read32(0xac), apart.smmu.read32(r::EVENTQ_CONS)), (0, 0));
    let mut alias = Machine::new(Config { page1_aliases: true, ..Config::qemu() });
    alias.smmu.write32(0xac, 5);
    assert_eq!((alias.smmu.read32(0xac), alias.smmu.read32(r::EVENTQ_CONS)), (5, 5));
}

#[test]
fn cr0_takes_effect_between_the_write_and_its_acknowledgement() {
    let mut machine = Machine::new(Config { pace: Pace::Manual, ..Config::qemu() });
    machine.smmu.write32(r::GBPA, r::GBPA_ABORT | r::GBPA_UPDATE);
    assert_eq!(machine.smmu.read32(r::GBPA), r::GBPA_ABORT | r::GBPA_UPDATE);
    assert_eq!(machine.smmu.reach(SID)[0].via, Via::Disabled, "the update may not have taken effect");
    assert_eq!(machine.write(DATA, 1), Transfer::Done);
    machine.smmu.run_to_idle();
    assert_eq!(machine.smmu.read32(r::GBPA), r::GBPA_ABORT);
    assert!(machine.smmu.reach(SID).is_empty());

    machine.smmu.write64(r::STRTAB_BASE, STRTAB);
    machine.smmu.write32(r::STRTAB_BASE_CFG, 6);
    machine.ste(SID, bypass());
    machine.smmu.write32(r::CR0, r::CR0_SMMUEN);
    assert_eq!(machine.smmu.read32(r::CR0), r::CR0_SMMUEN);
    assert_eq!(machine.smmu.read32(r::CR0ACK), 0);
    assert_eq!(machine.smmu.reach(SID)[0].via, Via::Bypass, "it may already have taken effect");
    machine.assert_no_hazards();
    machine.smmu.write32(r::CR0, 0);
    assert_eq!(machine.smmu.take_hazards(), [Hazard::UnacknowledgedCr0]);
    assert!(machine.smmu.step());
    assert_eq!(machine.smmu.read32(r::CR0ACK), r::CR0_SMMUEN);
}

#[test]
fn gbpa_needs_update_and_takes_time() {
    let mut machine = Machine::new(Config { pace: Pace::Manual, ..Config::qemu() });
    machine.smmu.write32(r::GBPA, r::GBPA_ABORT);
    assert_eq!(machine.smmu.read32(r::GBPA), 0x1000);
    machine.smmu.write32(r::GBPA, r::GBPA_ABORT | r::GBPA_UPDATE);
    machine.smmu.write32(r::GBPA, r::GBPA_UPDATE);
    machine.smmu.run_to_idle();
    assert_eq!(machine.smmu.read32(r::GBPA), r::GBPA_ABORT);
    assert_eq!(machine.smmu.take_hazards(), [Hazard::Gbpa, Hazard::Gbpa]);
}

#[test]
fn features_determine_which_bits_exist() {
    let mut machine = Machine::new(Config::qemu());
    machine.smmu.write32(r::CR0, u32::MAX);
    assert_eq!(machine.smmu.read32(r::CR0), r::CR0_SMMUEN | r::CR0_EVENTQEN | r::CR0_CMDQEN);
    machine.smmu.write64(r::EVENTQ_IRQ_CFG0, 0x800_0040);
    assert_eq!(machine.smmu.read64(r::EVENTQ_IRQ_CFG0), 0, "the SMMU has no MSIs");
    let mut full = Machine::new(Config::full());
    full.smmu.write64(r::EVENTQ_IRQ_CFG0, 0x800_0043);
    assert_eq!(full.smmu.read64(r::EVENTQ_IRQ_CFG0), 0x800_0040);
}

#[test]
fn an_acknowledgement_may_never_come() {
    let mut machine = Machine::new(Config::qemu());
    machine.smmu.inject(Injection::Cr0Never);
    machine.smmu.inject(Injection::GbpaNever);
    let mut lazy = Machine::new(Config { pace: Pace::Lazy, ..Config::qemu() });
    lazy.smmu.inject(Injection::Cr0Never);
    lazy.smmu.write32(r::CR0, r::CR0_CMDQEN);
    lazy.smmu.run_to_idle();
    assert_eq!(lazy.smmu.read32(r::CR0ACK), 0);
    machine.smmu.run_to_idle();
}

#[test]
fn reset_disables_translation_and_resets_the_registers() {
    let mut machine = Machine::on(Config::qemu());
    machine.map_pages();
    machine.install(SID, s2_only());
    machine.smmu.lose_power();
    assert_eq!(machine.smmu.read32(r::CR0), 0);
    assert_eq!(machine.smmu.reach(SID)[0].via, Via::Disabled);
    assert_eq!(machine.write(SECRET, 1), Transfer::Done);
}
