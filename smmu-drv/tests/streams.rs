//! Modes of streams: bypass, abort, stage 1, and tables of every format.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    ABORT, BUF, BYPASS, C_BAD_STE, C_BAD_STREAMID, CFGI_ALL, CONFIG_S1, EVTQ, F_STE_FETCH, GBPA_ABORT, GBPA_UPDATE,
    POOL, RAM, Rig, STRTAB, aborted, cfgi_ste, cfgi_ste_range, cfgi_ste_walk, dw0, enable_two_level, l1, l2_ste, r,
    record, s1_page,
};
use smmu_model::{Config, Pace, Snoop, Transfer};

const EL2: u64 = POOL + 0x1000;

#[test]
fn t07_streams_of_a_disabled_smmu_reach_host_memory_only() {
    let mut rig = Rig::qemu();
    assert_eq!(rig.dma_write(8, BUF, 7), Transfer::Done);
    assert!(aborted(&rig.dma_write(8, EL2, 7)));
    rig.write(r::GBPA, GBPA_UPDATE | GBPA_ABORT);
    assert_eq!(rig.read(r::GBPA), GBPA_ABORT);
    assert!(aborted(&rig.dma_write(8, BUF, 7)));
    assert!(!rig.can_reach(8, BUF));
    // Without UPDATE nothing changes.
    rig.write(r::GBPA, 0);
    assert!(!rig.can_reach(8, BUF));
    rig.write(r::GBPA, GBPA_UPDATE);
    assert_eq!(rig.dma_write(8, BUF, 7), Transfer::Done);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn linear_table_bypass_abort_stage_1_and_back() {
    for config in [
        Config::qemu(),
        Config { pace: Pace::Lazy, ..Config::qemu() },
        Config { two_level: false, sid_bits: 9, ..Config::qemu() },
        Config { snoop: Snoop::NonCoherent, pace: Pace::Lazy, ..Config::qemu() },
        Config { pace: Pace::Lazy, ..Config::full() },
    ] {
        let mut rig = Rig::new(config.clone());
        rig.enable_linear(8);
        // V = 0: C_BAD_STE, recorded by hardware.
        assert!(aborted(&rig.dma_write(8, BUF, 1)));
        let event = rig.events();
        assert_eq!(event.len(), 1, "{config:?}");
        assert_eq!(event[0], record(C_BAD_STE, 8));
        rig.set_ste(8, BYPASS);
        assert_eq!(rig.dma_write(8, BUF, 2), Transfer::Done);
        assert!(aborted(&rig.dma_write(8, EL2, 2)));
        rig.set_ste(8, ABORT);
        assert!(aborted(&rig.dma_write(8, BUF, 2)));
        let ste = rig.context(1);
        rig.set_ste(8, ste);
        assert_eq!(rig.dma_write(8, 0x18, 0xfeed), Transfer::Done, "{config:?}");
        rig.mem().invalidate(BUF..BUF + 0x20);
        assert_eq!(rig.mem().cpu_read64(BUF + 0x18), 0xfeed);
        assert!(!rig.el2_reachable(8));
        rig.set_ste(8, BYPASS);
        assert_eq!(rig.dma_write(8, BUF, 2), Transfer::Done);
        // The stream is outside the table.
        assert!(aborted(&rig.dma_write(300, BUF, 2)));
        assert!(rig.events().contains(&record(C_BAD_STREAMID, 300)));
        // Translation is off again.
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
        assert_eq!(rig.dma_write(300, BUF, 2), Transfer::Done);
        assert_eq!(rig.hazards(), [], "{config:?}");
    }
}

#[test]
fn an_entry_without_an_invalidation_has_no_shadow_and_reports_the_hardware_event() {
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 12);
    // Neither the host nor EL2 has a level-2 table yet.
    l2_ste(&rig, 8, 0x105, BYPASS);
    l1(&rig, 8, 0x105, 9);
    assert!(aborted(&rig.dma_write(0x105, BUF, 1)));
    assert_eq!(rig.events(), [record(C_BAD_STREAMID, 0x105)], "C_BAD_STREAMID");
    rig.issue(&[cfgi_ste(0x105)]);
    assert_eq!(rig.dma_write(0x105, BUF, 1), Transfer::Done);
    // In a table that exists.
    l2_ste(&rig, 8, 0x106, BYPASS);
    assert!(aborted(&rig.dma_write(0x106, BUF, 1)));
    assert_eq!(rig.events(), [record(C_BAD_STE, 0x106)], "C_BAD_STE");
    assert_eq!(rig.hazards(), []);
}

#[test]
fn the_hosts_table_is_not_used_while_translation_is_off() {
    let mut rig = Rig::qemu();
    rig.enable_queues();
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, 5);
    rig.ste(3, ABORT);
    rig.host.log.borrow_mut().clear();
    for command in [CFGI_ALL, cfgi_ste(3), cfgi_ste_walk(3), cfgi_ste_range(3, 2)] {
        rig.issue(&[command]);
        for sid in [3, 300] {
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done);
        }
    }
    assert!(rig.host.log.borrow().iter().all(|at| *at < STRTAB), "the table is not read");
}

#[test]
fn t18_tables_in_foreign_memory_are_fetch_faults() {
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 16);
    rig.store(STRTAB, POOL | 9);
    rig.issue(&[CFGI_ALL]);
    assert!(aborted(&rig.dma_write(5, BUF, 1)));
    assert_eq!(rig.events(), [[F_STE_FETCH | 5 << 32, 0, 0, POOL + 5 * 64]], "F_STE_FETCH with the address");
    // The level-1 table.
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.write64(r::STRTAB_BASE, POOL);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert_eq!(rig.read(r::CR0ACK) & 1, 1);
    assert!(aborted(&rig.dma_write(5, BUF, 1)));
    assert_eq!(rig.events(), [[F_STE_FETCH | 5 << 32, 0, 0, POOL]]);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t15_entries_are_fetched_once() {
    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    rig.ste(8, BYPASS);
    rig.queue(cfgi_ste(8));
    rig.queue(common::SYNC);
    rig.host.log.borrow_mut().clear();
    // After every fetch the word changes to a hostile value.
    let mem = rig.mem().clone();
    rig.host.on_read = Some(Box::new(move |at| mem.cpu_write64(at, u64::MAX)));
    rig.ring();
    rig.host.on_read = None;
    let log = rig.host.log.borrow().clone();
    for at in &log {
        assert_eq!(log.iter().filter(|other| *other == at).count(), 1, "{at:#x} fetched twice");
    }
    assert_eq!(rig.dma_write(8, BUF, 1), Transfer::Done);
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t20_structures_in_foreign_memory_are_fetch_and_walk_aborts_for_the_host() {
    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    rig.set_ste(8, [dw0(CONFIG_S1, EL2), 0, 0, 0, 0, 0, 0, 0]);
    assert!(aborted(&rig.dma_write(8, 0x1234_5678, 1)));
    let events = rig.events();
    assert_eq!(events, [[9 | 8 << 32, 0, 0, EL2]], "F_CD_FETCH, no field of stage 2");
    // The stage-1 table is foreign: its level-1 descriptor is fetched from EL2's memory.
    let mut ste = rig.context(1);
    rig.store(common::CDTAB + 64 + 8, EL2);
    rig.set_ste(8, ste);
    assert!(aborted(&rig.dma_write(8, 0x1234_5678, 1)));
    let events = rig.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0][0], 0xb | 8 << 32, "F_WALK_EABT");
    assert_eq!(events[0][1] >> 39 & 7, 0b010, "S2 = 0, CLASS = TT");
    assert_eq!(events[0][2], 0x1234_5678);
    assert_eq!(events[0][3] & !0xfff, EL2 & !0xfff);
    // A page of EL2's as the target: an abort on the bus, no event.
    ste = rig.context(2);
    rig.store(common::S1TAB + 2 * 0x4000 + 0x2000, s1_page(EL2));
    rig.set_ste(8, ste);
    while rig.smmu.take_fault().is_some() {}
    assert!(aborted(&rig.dma_write(8, 0x10, 1)));
    assert_eq!(rig.events(), Vec::<[u64; 4]>::new());
    // EL2 logged the record.
    let fault = rig.smmu.take_fault().unwrap();
    assert_eq!(fault.to_string(), format!("F_TRANSLATION sid=0x8 stage=2 class=IN ipa={EL2:#x} iova=0x10 write"));
    // A stage-1 fault belongs to the host.
    assert!(aborted(&rig.dma_write(8, 0x1000, 1)));
    let events = rig.events();
    assert_eq!(events[0][0], 0x10 | 8 << 32);
    assert_eq!(events[0][1] >> 39 & 7, 0b100, "S2 = 0, CLASS = IN");
    let _ = EVTQ;
    let _ = RAM;
}

/// `arm,instdata-override`: EL2 sets STE.INSTCFG [IHI 0070G 5.2] where hardware has IDR1.ATTR_PERMS_OVR, and hides both
/// from the host.
#[test]
fn instcfg_is_set_in_every_entry_if_requested_and_supported() {
    const PERMS_OVR: u32 = 1 << 26;
    for (asked, able) in [(true, true), (true, false), (false, true)] {
        let board = common::Board::new(Config::qemu());
        if able {
            let idr1 = Config::qemu().idr1() | PERMS_OVR;
            board.0.read_as.set(Some((r::IDR1, idr1)));
        }
        let reads = if asked { smmu_drv::ReadsAs::Data } else { smmu_drv::ReadsAs::Incoming };
        let firmware = smmu_drv::ProbeConfig { reads, ..common::firmware(&Config::qemu()) };
        let mut rig = Rig::on(board, firmware);
        let base = rig.board.0.model.borrow_mut().read64(r::STRTAB_BASE) & 0x00ff_ffff_ffff_ffc0;
        let instcfg = |rig: &Rig| {
            let l2 = rig.mem().cpu_read64(base) & 0x00ff_ffff_ffff_f000;
            rig.mem().cpu_read64(l2 + 9 * 64 + 8) >> 50 & 3
        };
        let expected = if asked && able { 2 } else { 0 };
        assert_eq!(instcfg(&rig), expected, "off: requested {asked}, supported {able}");
        rig.enable_linear(4);
        let nested = rig.context(1);
        // The host's own INSTCFG and PRIVCFG are of a feature that it does not have.
        let more = |mut ste: [u64; 8]| {
            ste[1] |= 0xf << 48;
            ste
        };
        for ste in [common::BYPASS, common::ABORT, nested, more(common::BYPASS), more(nested)] {
            rig.set_ste(9, ste);
            assert_eq!(instcfg(&rig), expected, "{:#x}: requested {asked}, supported {able}", ste[0]);
        }
        assert_eq!(rig.read(r::IDR1) as u32 & PERMS_OVR, 0);
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn refused_accesses_and_refused_entries_count_as_denied() {
    let mut rig = Rig::qemu();
    rig.enable_linear(8);
    let before = rig.smmu.stats().denied();
    rig.read(0xffc);
    assert_eq!(rig.smmu.stats().denied(), before + 1, "a register that the host does not have");
    // Stage 2 only: the host sees an SMMU without stage 2.
    rig.set_ste(8, [1 | 6 << 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.smmu.stats().denied(), before + 2, "an illegal entry");
    // Neither is refused.
    rig.set_ste(8, [0; 8]);
    rig.set_ste(8, BYPASS);
    assert_eq!(rig.smmu.stats().denied(), before + 2);
}
