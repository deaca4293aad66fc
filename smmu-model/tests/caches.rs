//! Entries that a cache may keep, tested with transactions and with the oracle.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use smmu_model::{Bbml, Cache, Config, Hazard, Pace, Transfer, Via};

const VA: u64 = 0x10_0000;

fn page_rig() -> Rig {
    let mut rig = Rig::on(Config::qemu());
    rig.map_pages();
    rig.install(SID, s2_only());
    rig
}

fn nested_rig() -> Rig {
    let mut rig = Rig::on(Config::qemu());
    rig.map_pages();
    rig.map_host_tables();
    rig.stage1(VA, DATA + 0x3000);
    rig.install(SID, nested());
    rig
}

#[test]
fn an_unmapped_page_stays_reachable_until_the_sync() {
    let mut rig = page_rig();
    assert_eq!(rig.write(DATA + 0x3000, 1), Transfer::Done);
    assert!(!rig.smmu.can_reach(SID, DATA + 0x3000).unwrap().stale);
    rig.mem.cpu_write64(rig.s2_page(3), 0);
    assert_eq!(rig.write(DATA + 0x3000, 2), Transfer::Done, "the TLB still has it");
    assert!(rig.smmu.can_reach(SID, DATA + 0x3000).unwrap().stale);
    rig.cmd(s2_ipa(DATA + 0x3000));
    assert_eq!(rig.write(DATA + 0x3000, 3), Transfer::Done, "no SYNC yet");
    rig.sync();
    assert!(matches!(rig.write(DATA + 0x3000, 4), Transfer::Aborted(Some(_))));
    assert_eq!(rig.smmu.can_reach(SID, DATA + 0x3000), None);
    assert_eq!(rig.write(DATA + 0x4000, 5), Transfer::Done);
    assert_eq!(rig.mem.cpu_read8(DATA + 0x3000), 3);
    rig.no_hazards();
}

#[test]
fn the_wrong_address_or_vmid_removes_nothing() {
    let mut rig = page_rig();
    rig.mem.cpu_write64(rig.s2_page(3), 0);
    rig.cmd(s2_ipa(DATA + 0x4000));
    rig.cmd([(VMID + 1) << 32 | 0x28, 0]);
    rig.cmd(NH_ALL);
    rig.sync();
    assert!(rig.smmu.can_reach(SID, DATA + 0x3000).is_some());
}

#[test]
fn a_leaf_invalidation_leaves_the_table_that_was_replaced() {
    let mut rig = page_rig();
    // The table descriptor is removed; only leaves are invalidated.
    rig.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, 0);
    rig.cmd([VMID << 32 | 0x2a, DATA | 1]);
    rig.sync();
    assert!(rig.smmu.can_reach(SID, DATA).is_some(), "the walk cache still has the old table");
    rig.cmd(s2_ipa(DATA));
    rig.sync();
    assert!(rig.smmu.can_reach(SID, DATA).is_none());
}

#[test]
fn a_stale_table_pointer_reads_the_new_content_of_the_memory() {
    let mut rig = page_rig();
    rig.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, 0);
    rig.cmd([VMID << 32 | 0x2a, DATA | 1]);
    rig.sync();
    rig.mem.cpu_write64(rig.s2_page(7), SECRET | S2_LEAF | 3);
    rig.cmd([VMID << 32 | 0x2a, (DATA + 0x7000) | 1]);
    rig.sync();
    assert_eq!(rig.smmu.can_reach(SID, SECRET).unwrap().ipa, DATA + 0x7000);
    assert_eq!(rig.write(DATA + 0x7000, 9), Transfer::Done);
    assert_eq!(rig.mem.cpu_read8(SECRET), 9);
}

#[test]
fn a_block_survives_an_invalidation_that_names_level_3() {
    let mut rig = Rig::on(Config::qemu());
    rig.map_block();
    rig.install(SID, s2_only());
    assert_eq!(rig.write(DATA, 1), Transfer::Done);
    rig.map_pages();
    rig.mem.cpu_write64(rig.s2_page(0), 0);
    let ranged = |ttl: u64| [VMID << 32 | 0x2a, DATA | 1 << 10 | ttl << 8];
    rig.cmd(ranged(3));
    rig.sync();
    assert!(rig.smmu.can_reach(SID, DATA).is_some());
    rig.cmd(s2_ipa(DATA));
    rig.sync();
    assert!(rig.smmu.can_reach(SID, DATA).is_none());
    rig.no_hazards();
}

#[test]
fn combined_entries_need_stage_1_invalidation_after_the_sync_of_stage_2() {
    let mut rig = nested_rig();
    assert_eq!(rig.write(VA, 1), Transfer::Done);
    rig.mem.cpu_write64(rig.s2_page(3), 0);
    rig.cmd(s2_ipa(DATA + 0x3000));
    rig.sync();
    assert_eq!(rig.smmu.can_reach(SID, DATA + 0x3000).unwrap().via, Via::Combined);
    assert_eq!(rig.write(VA, 2), Transfer::Done);
    rig.cmd(NH_ALL);
    rig.sync();
    assert_eq!(rig.smmu.can_reach(SID, DATA + 0x3000), None);
    assert!(matches!(rig.write(VA, 3), Transfer::Aborted(Some(_))));
}

#[test]
fn both_invalidations_in_front_of_one_sync_are_not_enough() {
    let mut rig = nested_rig();
    rig.mem.cpu_write64(rig.s2_page(3), 0);
    rig.cmd(s2_ipa(DATA + 0x3000));
    rig.cmd(NH_ALL);
    rig.sync();
    assert_eq!(rig.smmu.can_reach(SID, DATA + 0x3000).unwrap().via, Via::Combined);
    assert_eq!(rig.write(VA, 2), Transfer::Done);
    let mut rig = nested_rig();
    rig.mem.cpu_write64(rig.s2_page(3), 0);
    rig.cmd(S12_VMALL);
    rig.sync();
    assert_eq!(rig.smmu.can_reach(SID, DATA + 0x3000), None);
    assert!(matches!(rig.write(VA, 2), Transfer::Aborted(Some(_))));
}

#[test]
fn configuration_stays_until_cfgi_and_sync() {
    let mut rig = page_rig();
    rig.ste(SID, abort());
    assert_eq!(rig.write(DATA, 1), Transfer::Done);
    rig.cmd([u64::from(SID + 1) << 32 | 3, 1]);
    rig.sync();
    assert_eq!(rig.write(DATA, 1), Transfer::Done);
    rig.cmd([u64::from(SID) << 32 | 3, 1]);
    rig.sync();
    assert_eq!(rig.write(DATA, 1), Transfer::Aborted(None));
    assert!(rig.smmu.reach(SID).is_empty());
}

#[test]
fn a_torn_entry_mixes_old_and_new_words() {
    let mut rig = Rig::on(Config::qemu());
    rig.map_pages();
    rig.install(SID, abort());
    // V and Config are stored before the table pointer: hardware may fetch this state.
    rig.mem.cpu_write64(STRTAB + u64::from(SID) * 64, s2_only()[0]);
    rig.mem.cpu_write64(STRTAB + u64::from(SID) * 64 + 16, S2_WORD);
    assert_eq!(rig.write(DATA, 1), Transfer::Aborted(None), "nothing is mapped at address 0");
    rig.mem.cpu_write64(STRTAB + u64::from(SID) * 64 + 24, S2_ROOT);
    assert_eq!(rig.write(DATA, 1), Transfer::Done);
}

#[test]
fn a_stale_stage_1_only_entry_affects_its_vmid() {
    let mut rig = Rig::on(Config::qemu());
    rig.map_pages();
    rig.map_host_tables();
    rig.stage1(VA, SECRET);
    rig.install(SID, s1_only());
    assert_eq!(rig.write(VA, 1), Transfer::Done);
    rig.install(SID, nested());
    assert_eq!(rig.smmu.can_reach(SID, SECRET).unwrap().via, Via::StaleStage1Only);
    assert_eq!(rig.write(VA, 2), Transfer::Done);
    rig.cmd(S12_VMALL);
    rig.sync();
    assert!(rig.smmu.can_reach(SID, SECRET).is_none());
    assert!(matches!(rig.write(VA, 3), Transfer::Aborted(_)));
}

#[test]
fn tables_of_another_stream_with_the_same_vmid_are_reachable() {
    let mut rig = page_rig();
    rig.smmu.add_stream(SID + 1);
    let mut other = s2_only();
    other[3] = S2_ROOT + 0x8000;
    rig.mem.cpu_write64(S2_ROOT + 0x8000 + (SECRET >> 30) * 8, (SECRET & !0x3fff_ffff) | S2_LEAF | 1);
    assert!(rig.smmu.can_reach(SID, SECRET).is_none());
    rig.install(SID + 1, other);
    assert!(rig.smmu.can_reach(SID, SECRET).is_some());
}

#[test]
fn a_model_without_caches_reads_current_values_only() {
    let mut rig = Rig::on(Config { cache: Cache::None, ..Config::qemu() });
    rig.map_pages();
    rig.install(SID, s2_only());
    rig.mem.cpu_write64(rig.s2_page(3), 0);
    assert!(matches!(rig.write(DATA + 0x3000, 1), Transfer::Aborted(Some(_))));
}

#[test]
fn the_queue_is_consumed_at_any_later_time() {
    let mut rig = Rig::new(Config { pace: Pace::Manual, ..Config::qemu() });
    rig.queues();
    rig.cr0(8);
    rig.cmd([0x30, 0]);
    rig.cmd([0x46, 0]);
    assert_eq!(rig.smmu.read32(0x9c), 0);
    assert!(rig.smmu.step());
    assert_eq!(rig.smmu.read32(0x9c), 1);
    assert!(rig.smmu.step() && !rig.smmu.step());
    assert_eq!((rig.smmu.read32(0x9c), rig.smmu.syncs()), (2, 1));
    // A change of a submitted command is a hazard.
    rig.cmd([0x30, 0]);
    rig.mem.cpu_write64(CMDQ + 2 * 16, 0x46);
    rig.smmu.run_to_idle();
    assert_eq!(rig.smmu.take_hazards(), [Hazard::CommandChanged]);
}

#[test]
fn missing_break_before_make_is_a_hazard() {
    for (bbml, wrong) in [(Bbml::Level0, true), (Bbml::Level1, true), (Bbml::Level2, false)] {
        let mut rig = Rig::on(Config { bbml, ..Config::qemu() });
        rig.map_block();
        rig.install(SID, s2_only());
        rig.map_pages();
        rig.smmu.check_break_before_make(SID);
        assert_eq!(!rig.smmu.take_hazards().is_empty(), wrong, "{bbml:?}");
    }
    let mut rig = Rig::on(Config { bbml: Bbml::Level0, ..Config::qemu() });
    rig.map_block();
    rig.install(SID, s2_only());
    rig.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, 0);
    rig.cmd(s2_ipa(DATA));
    rig.sync();
    rig.map_pages();
    rig.smmu.check_break_before_make(SID);
    rig.no_hazards();
}

#[test]
fn broadcast_maintenance_needs_btm_and_ptm_clear() {
    use smmu_model::arch::regs as r;
    use smmu_model::inval::Scope;
    for (ptm, gone) in [(0, true), (r::CR2_PTM, false)] {
        let mut rig = Rig::new(Config { btm: true, ..Config::qemu() });
        rig.map_pages();
        rig.queues();
        rig.smmu.write64(r::STRTAB_BASE, STRTAB);
        rig.smmu.write32(r::STRTAB_BASE_CFG, 6);
        rig.smmu.write32(r::CR2, r::CR2_RECINVSID | ptm);
        rig.ste(SID, s2_only());
        rig.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN);
        rig.mem.cpu_write64(rig.s2_page(3), 0);
        assert_eq!(rig.smmu.broadcast_invalidate(Scope::NsnhAll), gone);
        assert_eq!(rig.smmu.can_reach(SID, DATA + 0x3000).is_none(), gone);
    }
}
