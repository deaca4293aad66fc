//! Simple attacks. Each is also run without the defence, where it must succeed, so that no test passes by accident.
#![allow(clippy::unwrap_used)]

mod common;

use common::{ABORT, BUF, BYPASS, C_BAD_STE, CDTAB, MMIO, POOL, RAM, Rig, S1TAB, r, record, s1_page};
use io_pgtable::Ipa;
use smmu_drv::Stale;
use smmu_drv::fault::{Class, Direction, Stage};
use smmu_drv::spec::events::EventType;
use smmu_model::{Config, Memory, Model, Pace, Region, Snoop, Transfer};

const ATTACKED_PAGE: u64 = POOL + 0x8000;

/// The same memory behind an SMMU without EL2: after reset all transactions bypass.
fn open_machine(config: Config) -> (Model, Memory) {
    let mem = Memory::new(config.snoop);
    mem.add(RAM, common::RAM_SIZE, Region::Ram);
    mem.add(POOL, common::POOL_SIZE, Region::Ram);
    mem.add(MMIO, 0x1000, Region::Mmio);
    (Model::new(config, mem.clone()), mem)
}

#[test]
fn t01_accesses_to_el2_memory_are_blocked_and_recorded() {
    let (mut open, mem) = open_machine(Config::qemu());
    assert_eq!(open.dma_write(8, None, ATTACKED_PAGE, &[1, 2, 3, 4]), Transfer::Done);
    assert_eq!(mem.cpu_read32(ATTACKED_PAGE), 0x0403_0201, "lands without EL2");

    let mut rig = Rig::qemu();
    rig.mem().cpu_write64(ATTACKED_PAGE, 0x5ec2e7);
    rig.enable_linear(5);
    let stage1 = rig.context(1);
    // IOVA 0x1000 of the stage-1 stream translates to the attacked page.
    rig.store(S1TAB + 0x4000 + 0x2000 + 8, s1_page(ATTACKED_PAGE));
    rig.set_ste(1, BYPASS);
    rig.set_ste(2, stage1);
    for (sid, iova) in [(1, ATTACKED_PAGE), (2, 0x1000)] {
        while rig.smmu.take_fault().is_some() {}
        let mut stolen = [0; 8];
        let read = rig.board.0.model.borrow_mut().dma_read(sid, None, iova, &mut stolen);
        assert!(matches!(read, Transfer::Aborted(_)), "{read:?}");
        assert_eq!(stolen, [0; 8]);
        let write = rig.dma_write(sid, iova, 0xbad);
        assert!(matches!(write, Transfer::Aborted(_)), "{write:?}");
        rig.smmu.poll_events(&mut rig.host);
        for direction in [Direction::Read, Direction::Write] {
            let fault = rig.smmu.take_fault().unwrap().record;
            let detail = fault.detail.unwrap();
            assert_eq!((fault.kind, fault.sid), (Some(EventType::Translation), sid));
            assert_eq!((detail.stage, detail.class, detail.direction), (Stage::Two, Class::In, direction));
            assert_eq!((detail.iova.0, detail.ipa.unwrap().0), (iova, ATTACKED_PAGE));
        }
    }
    assert_eq!(rig.mem().cpu_read64(ATTACKED_PAGE), 0x5ec2e7);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t06_device_registers_are_unreachable() {
    let (mut open, mem) = open_machine(Config::qemu());
    assert_eq!(open.dma_write(8, None, MMIO, &[1]), Transfer::Done);
    assert_eq!(mem.take_mmio_writes().len(), 1, "lands without EL2");

    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    rig.set_ste(1, BYPASS);
    for sid in [1, 2] {
        assert!(matches!(rig.dma_write(sid, MMIO, 1), Transfer::Aborted(_)));
        assert!(!rig.can_reach(sid, MMIO));
    }
    rig.write(r::CR0, 0);
    assert!(matches!(rig.dma_write(1, MMIO, 1), Transfer::Aborted(_)));
    assert_eq!(rig.mem().take_mmio_writes(), []);
}

#[test]
fn t21_hardware_updates_of_stage_1_tables_stay_in_the_hosts_memory() {
    let mut rig = Rig::new(Config::full());
    rig.enable_linear(5);
    let ste = rig.context(1);
    // CD.HA = CD.HD = 1, and a leaf without access flag: hardware sets it.
    let cd = CDTAB + 64;
    let word = rig.mem().cpu_read64(cd);
    rig.store(cd, word | 1 << 43 | 1 << 42);
    let leaf = S1TAB + 0x4000 + 0x2000;
    let clear = rig.mem().cpu_read64(leaf) & !(1 << 10);
    rig.store(leaf, clear);
    rig.set_ste(8, ste);
    assert_eq!(rig.dma_write(8, 0, 1), Transfer::Done);
    assert_eq!(rig.mem().cpu_read64(leaf), clear | 1 << 10, "control: an update where it is allowed");
    // The last-level table is in EL2's memory: it is neither read nor written.
    rig.mem().cpu_write64(ATTACKED_PAGE, clear);
    rig.store(S1TAB + 0x4000 + 0x1000, ATTACKED_PAGE & !0xfff | 3);
    rig.issue(&[[0x30, 0]]);
    assert!(matches!(rig.dma_write(8, (ATTACKED_PAGE & 0xfff) * 512, 1), Transfer::Aborted(_)));
    assert_eq!(rig.mem().cpu_read64(ATTACKED_PAGE), clear);
    let event = rig.events();
    assert_eq!(event[0][0], 0xb | 8 << 32, "F_WALK_EABT");
}

#[test]
fn t44_a_walker_that_does_not_snoop_sees_no_stale_table_or_queue() {
    for seed in 1..5 {
        let config = Config { snoop: Snoop::NonCoherent, pace: Pace::Lazy, seed, ..Config::qemu() };
        let mut rig = Rig::new(config);
        rig.enable_linear(5);
        let stage1 = rig.context(1);
        for _ in 0..3 {
            for ste in [BYPASS, ABORT, stage1, [0; 8]] {
                rig.set_ste(8, ste);
                let iova = if ste == stage1 { 0 } else { BUF };
                let works = ste == BYPASS || ste == stage1;
                assert_eq!(rig.dma_write(8, iova, 1) == Transfer::Done, works, "{ste:x?}");
                assert!(!rig.el2_reachable(8));
            }
        }
        // The last entry had V = 0: its events are read through caches that do not see hardware's writes.
        assert!(rig.events().contains(&record(C_BAD_STE, 8)));
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t46_one_page_of_a_cached_block_is_revoked() {
    // By a range if the SMMU has range invalidation: some parts are reported to be unreliable with other commands.
    let single_ipa_void = true;
    for config in
        [Config::qemu(), Config { ril: false, ..Config::qemu() }, Config { single_ipa_void, ..Config::qemu() }]
    {
        let mut rig = Rig::new(config);
        rig.enable_linear(5);
        rig.set_ste(8, BYPASS);
        // A 2M block of stage 2, cached as such.
        let block = RAM + 0x60_0000;
        let page = block + 0x5000;
        assert_eq!(rig.dma_write(8, page, 1), Transfer::Done);
        assert!(rig.can_reach(8, page));
        // A table that already has the hole replaces the block (BBML 2).
        rig.s2.split(block, page);
        assert!(rig.can_reach(8, page), "the cached block still translates to the page");
        rig.smmu.tlb_invalidate_host(Stale::Range { ipa: Ipa(page), size: 4096 }).unwrap();
        assert!(!rig.can_reach(8, page));
        assert!(matches!(rig.dma_write(8, page, 1), Transfer::Aborted(_)));
        assert_eq!(rig.dma_write(8, page + 4096, 1), Transfer::Done);
        assert_eq!(rig.hazards(), []);
    }
}
