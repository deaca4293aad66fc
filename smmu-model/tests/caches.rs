//! Entries that a cache may keep, tested with transactions and with the oracle.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use smmu_model::{Bbml, Cache, Config, Hazard, Pace, Transfer, Via};

const VA: u64 = 0x10_0000;

fn page_machine() -> Machine {
    let mut machine = Machine::on(Config::qemu());
    machine.map_pages();
    machine.install(SID, s2_only());
    machine
}

fn nested_machine() -> Machine {
    let mut machine = Machine::on(Config::qemu());
    machine.map_pages();
    machine.map_host_tables();
    machine.stage1(VA, DATA + 0x3000);
    machine.install(SID, nested());
    machine
}

#[test]
fn an_unmapped_page_stays_reachable_until_the_sync() {
    let mut machine = page_machine();
    assert_eq!(machine.write(DATA + 0x3000, 1), Transfer::Done);
    assert!(!machine.smmu.can_reach(SID, DATA + 0x3000).unwrap().stale);
    machine.mem.cpu_write64(machine.s2_page(3), 0);
    assert_eq!(machine.write(DATA + 0x3000, 2), Transfer::Done, "the TLB still has it");
    assert!(machine.smmu.can_reach(SID, DATA + 0x3000).unwrap().stale);
    machine.cmd(s2_ipa(DATA + 0x3000));
    assert_eq!(machine.write(DATA + 0x3000, 3), Transfer::Done, "no SYNC yet");
    machine.sync();
    assert!(matches!(machine.write(DATA + 0x3000, 4), Transfer::Aborted(Some(_))));
    assert_eq!(machine.smmu.can_reach(SID, DATA + 0x3000), None);
    assert_eq!(machine.write(DATA + 0x4000, 5), Transfer::Done);
    assert_eq!(machine.mem.cpu_read8(DATA + 0x3000), 3);
    machine.assert_no_hazards();
}

#[test]
fn the_wrong_address_or_vmid_removes_nothing() {
    let mut machine = page_machine();
    machine.mem.cpu_write64(machine.s2_page(3), 0);
    machine.cmd(s2_ipa(DATA + 0x4000));
    machine.cmd([(VMID + 1) << 32 | 0x28, 0]);
    machine.cmd(NH_ALL);
    machine.sync();
    assert!(machine.smmu.can_reach(SID, DATA + 0x3000).is_some());
}

#[test]
fn a_leaf_invalidation_keeps_the_cached_table_descriptor() {
    let mut machine = page_machine();
    // The table descriptor is removed; only leaves are invalidated.
    machine.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, 0);
    machine.cmd([VMID << 32 | 0x2a, DATA | 1]);
    machine.sync();
    assert!(machine.smmu.can_reach(SID, DATA).is_some(), "the walk cache still has the old table");
    machine.cmd(s2_ipa(DATA));
    machine.sync();
    assert!(machine.smmu.can_reach(SID, DATA).is_none());
}

#[test]
fn a_stale_table_descriptor_exposes_the_new_content_of_the_memory() {
    let mut machine = page_machine();
    machine.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, 0);
    machine.cmd([VMID << 32 | 0x2a, DATA | 1]);
    machine.sync();
    machine.mem.cpu_write64(machine.s2_page(7), SECRET | S2_LEAF | 3);
    machine.cmd([VMID << 32 | 0x2a, (DATA + 0x7000) | 1]);
    machine.sync();
    assert_eq!(machine.smmu.can_reach(SID, SECRET).unwrap().ipa, DATA + 0x7000);
    assert_eq!(machine.write(DATA + 0x7000, 9), Transfer::Done);
    assert_eq!(machine.mem.cpu_read8(SECRET), 9);
}

#[test]
fn a_block_survives_an_invalidation_with_ttl_3() {
    let mut machine = Machine::on(Config::qemu());
    machine.map_block();
    machine.install(SID, s2_only());
    assert_eq!(machine.write(DATA, 1), Transfer::Done);
    machine.map_pages();
    machine.mem.cpu_write64(machine.s2_page(0), 0);
    let ranged = |ttl: u64| [VMID << 32 | 0x2a, DATA | 1 << 10 | ttl << 8];
    machine.cmd(ranged(3));
    machine.sync();
    assert!(machine.smmu.can_reach(SID, DATA).is_some());
    machine.cmd(s2_ipa(DATA));
    machine.sync();
    assert!(machine.smmu.can_reach(SID, DATA).is_none());
    machine.assert_no_hazards();
}

#[test]
fn combined_entries_need_stage_1_invalidation_after_the_sync_of_stage_2() {
    let mut machine = nested_machine();
    assert_eq!(machine.write(VA, 1), Transfer::Done);
    machine.mem.cpu_write64(machine.s2_page(3), 0);
    machine.cmd(s2_ipa(DATA + 0x3000));
    machine.sync();
    assert_eq!(machine.smmu.can_reach(SID, DATA + 0x3000).unwrap().via, Via::Combined);
    assert_eq!(machine.write(VA, 2), Transfer::Done);
    machine.cmd(NH_ALL);
    machine.sync();
    assert_eq!(machine.smmu.can_reach(SID, DATA + 0x3000), None);
    assert!(matches!(machine.write(VA, 3), Transfer::Aborted(Some(_))));
}

#[test]
fn both_invalidations_before_one_sync_are_not_sufficient() {
    let mut machine = nested_machine();
    machine.mem.cpu_write64(machine.s2_page(3), 0);
    machine.cmd(s2_ipa(DATA + 0x3000));
    machine.cmd(NH_ALL);
    machine.sync();
    assert_eq!(machine.smmu.can_reach(SID, DATA + 0x3000).unwrap().via, Via::Combined);
    assert_eq!(machine.write(VA, 2), Transfer::Done);
    let mut machine = nested_machine();
    machine.mem.cpu_write64(machine.s2_page(3), 0);
    machine.cmd(S12_VMALL);
    machine.sync();
    assert_eq!(machine.smmu.can_reach(SID, DATA + 0x3000), None);
    assert!(matches!(machine.write(VA, 2), Transfer::Aborted(Some(_))));
}

#[test]
fn configuration_stays_until_cfgi_and_sync() {
    let mut machine = page_machine();
    machine.ste(SID, abort());
    assert_eq!(machine.write(DATA, 1), Transfer::Done);
    machine.cmd([u64::from(SID + 1) << 32 | 3, 1]);
    machine.sync();
    assert_eq!(machine.write(DATA, 1), Transfer::Done);
    machine.cmd([u64::from(SID) << 32 | 3, 1]);
    machine.sync();
    assert_eq!(machine.write(DATA, 1), Transfer::Aborted(None));
    assert!(machine.smmu.reach(SID).is_empty());
}

#[test]
fn an_entry_changed_word_by_word_may_be_fetched_in_any_combination() {
    let mut machine = Machine::on(Config::qemu());
    machine.map_pages();
    machine.install(SID, abort());
    // V and Config are stored before the table pointer: hardware may fetch this state.
    machine.mem.cpu_write64(STRTAB + u64::from(SID) * 64, s2_only()[0]);
    machine.mem.cpu_write64(STRTAB + u64::from(SID) * 64 + 16, S2_WORD);
    assert_eq!(machine.write(DATA, 1), Transfer::Aborted(None), "address 0 is not mapped");
    machine.mem.cpu_write64(STRTAB + u64::from(SID) * 64 + 24, S2_ROOT);
    assert_eq!(machine.write(DATA, 1), Transfer::Done);
}

#[test]
fn a_stale_stage_1_only_entry_affects_its_vmid() {
    let mut machine = Machine::on(Config::qemu());
    machine.map_pages();
    machine.map_host_tables();
    machine.stage1(VA, SECRET);
    machine.install(SID, s1_only());
    assert_eq!(machine.write(VA, 1), Transfer::Done);
    machine.install(SID, nested());
    assert_eq!(machine.smmu.can_reach(SID, SECRET).unwrap().via, Via::StaleStage1Only);
    assert_eq!(machine.write(VA, 2), Transfer::Done);
    machine.cmd(S12_VMALL);
    machine.sync();
    assert!(machine.smmu.can_reach(SID, SECRET).is_none());
    assert!(matches!(machine.write(VA, 3), Transfer::Aborted(_)));
}

#[test]
fn tables_of_another_stream_with_the_same_vmid_are_reachable() {
    let mut machine = page_machine();
    machine.smmu.add_stream(SID + 1);
    let mut other = s2_only();
    other[3] = S2_ROOT + 0x8000;
    machine.mem.cpu_write64(S2_ROOT + 0x8000 + (SECRET >> 30) * 8, (SECRET & !0x3fff_ffff) | S2_LEAF | 1);
    assert!(machine.smmu.can_reach(SID, SECRET).is_none());
    machine.install(SID + 1, other);
    assert!(machine.smmu.can_reach(SID, SECRET).is_some());
}

#[test]
fn a_model_without_caches_reads_current_values_only() {
    let mut machine = Machine::on(Config { cache: Cache::None, ..Config::qemu() });
    machine.map_pages();
    machine.install(SID, s2_only());
    machine.mem.cpu_write64(machine.s2_page(3), 0);
    assert!(matches!(machine.write(DATA + 0x3000, 1), Transfer::Aborted(Some(_))));
}

#[test]
fn the_queue_is_consumed_at_any_later_time() {
    let mut machine = Machine::new(Config { pace: Pace::Manual, ..Config::qemu() });
    machine.queues();
    machine.cr0(8);
    machine.cmd([0x30, 0]);
    machine.cmd([0x46, 0]);
    assert_eq!(machine.smmu.read32(0x9c), 0);
    assert!(machine.smmu.step());
    assert_eq!(machine.smmu.read32(0x9c), 1);
    assert!(machine.smmu.step() && !machine.smmu.step());
    assert_eq!((machine.smmu.read32(0x9c), machine.smmu.syncs()), (2, 1));
    // A change of a submitted command is a hazard.
    machine.cmd([0x30, 0]);
    machine.mem.cpu_write64(CMDQ + 2 * 16, 0x46);
    machine.smmu.run_to_idle();
    assert_eq!(machine.smmu.take_hazards(), [Hazard::CommandChanged]);
}

#[test]
fn missing_break_before_make_is_a_hazard() {
    for (bbml, wrong) in [(Bbml::Level0, true), (Bbml::Level1, true), (Bbml::Level2, false)] {
        let mut machine = Machine::on(Config { bbml, ..Config::qemu() });
        machine.map_block();
        machine.install(SID, s2_only());
        machine.map_pages();
        machine.smmu.check_break_before_make(SID);
        assert_eq!(!machine.smmu.take_hazards().is_empty(), wrong, "{bbml:?}");
    }
    let mut machine = Machine::on(Config { bbml: Bbml::Level0, ..Config::qemu() });
    machine.map_block();
    machine.install(SID, s2_only());
    machine.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, 0);
    machine.cmd(s2_ipa(DATA));
    machine.sync();
    machine.map_pages();
    machine.smmu.check_break_before_make(SID);
    machine.assert_no_hazards();
}

#[test]
fn broadcast_maintenance_needs_btm_and_ptm_clear() {
    use smmu_model::arch::regs as r;
    use smmu_model::inval::Scope;
    for (ptm, gone) in [(0, true), (r::CR2_PTM, false)] {
        let mut machine = Machine::new(Config { btm: true, ..Config::qemu() });
        machine.map_pages();
        machine.queues();
        machine.smmu.write64(r::STRTAB_BASE, STRTAB);
        machine.smmu.write32(r::STRTAB_BASE_CFG, 6);
        machine.smmu.write32(r::CR2, r::CR2_RECINVSID | ptm);
        machine.ste(SID, s2_only());
        machine.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN);
        machine.mem.cpu_write64(machine.s2_page(3), 0);
        assert_eq!(machine.smmu.broadcast_invalidate(Scope::NsnhAll), gone);
        assert_eq!(machine.smmu.can_reach(SID, DATA + 0x3000).is_none(), gone);
    }
}
