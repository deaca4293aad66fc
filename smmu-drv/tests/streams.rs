//! What streams do: bypass, abort, stage 1, and tables of every shape.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{ABORT, BUF, BYPASS, CFGI_ALL, EVTQ, L2TAB, POOL, RAM, Rig, STRTAB, cfgi_ste, r};
use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::inval::Scope;
use smmu_model::{Config, Pace, Snoop, Transfer};

const EL2: u64 = POOL + 0x1000;

fn aborted(transfer: &Transfer) -> bool {
    matches!(transfer, Transfer::Aborted(_))
}

#[test]
fn t07_a_disabled_smmu_lets_streams_reach_host_memory_only() {
    let mut rig = Rig::qemu();
    assert_eq!(rig.dma_write(8, BUF, 7), Transfer::Done);
    assert!(aborted(&rig.dma_write(8, EL2, 7)));
    rig.write(r::GBPA, 1 << 31 | 1 << 20);
    assert_eq!(rig.read(r::GBPA), 1 << 20);
    assert!(aborted(&rig.dma_write(8, BUF, 7)));
    assert!(!rig.can_reach(8, BUF));
    // Without UPDATE nothing happens.
    rig.write(r::GBPA, 0);
    assert!(!rig.can_reach(8, BUF));
    rig.write(r::GBPA, 1 << 31);
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
        // V = 0: C_BAD_STE, natively recorded.
        assert!(aborted(&rig.dma_write(8, BUF, 1)));
        let event = rig.events();
        assert_eq!(event.len(), 1, "{config:?}");
        assert_eq!(event[0], [4 | 8 << 32, 0, 0, 0]);
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
        // Not a stream of the table.
        assert!(aborted(&rig.dma_write(300, BUF, 2)));
        assert!(rig.events().contains(&[2 | 300 << 32, 0, 0, 0]));
        // Off again.
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
        assert_eq!(rig.dma_write(300, BUF, 2), Transfer::Done);
        assert_eq!(rig.hazards(), [], "{config:?}");
    }
}

/// A 2-level host table: level 1 at STRTAB, level-2 tables at L2TAB.
fn enable_two_level(rig: &mut Rig, split: u32, log2: u32) {
    rig.enable_queues();
    rig.mem().cpu_write(STRTAB, &vec![0; 8 << (log2 - split)]);
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, u64::from(log2) | u64::from(split) << 6 | 1 << 16);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
}

fn l2_ste(rig: &Rig, split: u32, sid: u32, words: [u64; 8]) {
    let table = L2TAB + (u64::from(sid >> split) << (split + 6));
    for (n, word) in words.into_iter().enumerate() {
        rig.store(table + u64::from(sid & ((1 << split) - 1)) * 64 + n as u64 * 8, word);
    }
}

fn l1(rig: &Rig, split: u32, sid: u32, span: u64) {
    let index = u64::from(sid >> split);
    let table = L2TAB + (index << (split + 6));
    rig.store(STRTAB + index * 8, if span == 0 { 0 } else { table | span });
}

#[test]
fn two_level_tables_of_every_split_and_span() {
    for split in [6, 8, 10] {
        for config in [Config::qemu(), Config { two_level: true, sid_bits: 12, pace: Pace::Lazy, ..Config::qemu() }] {
            let mut rig = Rig::new(config);
            enable_two_level(&mut rig, split, 12);
            let sid = 0x108;
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            assert_eq!(rig.events(), [[2 | u64::from(sid) << 32, 0, 0, 0]]);
            // As Linux does: the level-2 table appears, then one entry is invalidated, leaf only.
            l2_ste(&rig, split, sid, BYPASS);
            l2_ste(&rig, split, sid + 1, BYPASS);
            l1(&rig, split, sid, u64::from(split) + 1);
            rig.issue(&[cfgi_ste(sid)]);
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "split {split}");
            assert_eq!(rig.dma_write(sid + 1, BUF, 1), Transfer::Done);
            assert!(aborted(&rig.dma_write(sid + 2, BUF, 1)));
            assert_eq!(rig.events(), [[4 | u64::from(sid + 2) << 32, 0, 0, 0]]);
            // The table shrinks to its first entries: the rest is out of range for the host, although the shadow is not.
            l1(&rig, split, sid, 1);
            rig.issue(&[CFGI_ALL]);
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            assert_eq!(rig.events(), [[2 | u64::from(sid) << 32, 0, 0, 0]]);
            // A span larger than the split is out of range.
            l1(&rig, split, sid, u64::from(split) + 2);
            rig.issue(&[[3 | u64::from(sid) << 32, 0]]);
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            // And back.
            l1(&rig, split, sid, u64::from(split) + 1);
            rig.issue(&[[4 | u64::from(sid) << 32, 3]]);
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done);
            assert_eq!(rig.hazards(), []);
        }
    }
}

#[test]
fn an_entry_that_was_never_announced_has_no_shadow_and_the_event_that_hardware_had() {
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 12);
    // No level-2 table yet, neither the host's nor EL2's.
    l2_ste(&rig, 8, 0x105, BYPASS);
    l1(&rig, 8, 0x105, 9);
    assert!(aborted(&rig.dma_write(0x105, BUF, 1)));
    assert_eq!(rig.events(), [[2 | 0x105 << 32, 0, 0, 0]], "C_BAD_STREAMID");
    rig.issue(&[cfgi_ste(0x105)]);
    assert_eq!(rig.dma_write(0x105, BUF, 1), Transfer::Done);
    // In a table that is there.
    l2_ste(&rig, 8, 0x106, BYPASS);
    assert!(aborted(&rig.dma_write(0x106, BUF, 1)));
    assert_eq!(rig.events(), [[4 | 0x106 << 32, 0, 0, 0]], "C_BAD_STE");
    assert_eq!(rig.hazards(), []);
}

#[test]
fn only_what_a_command_names_is_read_again() {
    let mut rig = Rig::qemu();
    rig.enable_linear(10);
    rig.set_ste(0x105, BYPASS);
    let entries = |rig: &Rig| -> Vec<u64> {
        let log = rig.host.log.borrow();
        log.iter().filter(|at| (STRTAB..STRTAB + 0x1_0000).contains(at)).map(|at| (at - STRTAB) / 64).collect()
    };
    // One block of 256, one entry, and all.
    for (command, first, last) in [([4 | 0x105 << 32, 7], 0x100, 0x1ff), (cfgi_ste(0x105), 0x105, 0x105)] {
        rig.host.log.borrow_mut().clear();
        rig.issue(&[command]);
        let seen = entries(&rig);
        assert_eq!((seen.iter().min(), seen.iter().max()), (Some(&first), Some(&last)), "{command:x?}");
    }
    rig.host.log.borrow_mut().clear();
    rig.issue(&[CFGI_ALL]);
    assert_eq!((entries(&rig).iter().min(), entries(&rig).iter().max()), (Some(&0), Some(&0x3ff)));
    assert_eq!(rig.smmu.stats().claims_refused, 0, "and nothing else is asked for");
    assert_eq!(rig.dma_write(0x105, BUF, 1), Transfer::Done, "a table that is still needed stays");
}

/// Invalidations of configuration since the `from`th.
fn configuration(rig: &Rig, from: usize) -> Vec<(u32, u32)> {
    let model = rig.board.0.model.borrow();
    let span = |scope| match scope {
        Scope::Ste { sid, leaf: true } => Some((sid, sid)),
        Scope::SteRange { first, last } => Some((first, last)),
        _ => None,
    };
    model.invalidations().iter().skip(from).filter_map(|one| span(one.scope)).collect()
}

#[test]
fn an_invalidation_of_configuration_names_what_changed() {
    let issued = |rig: &Rig| rig.board.0.model.borrow().invalidations().len();
    for config in [Config::qemu(), Config { two_level: false, sid_bits: 10, ..Config::qemu() }] {
        let mut rig = Rig::new(config.clone());
        rig.enable_linear(10);
        rig.set_ste(0x105, BYPASS);
        // One entry.
        let before = issued(&rig);
        rig.set_ste(0x106, BYPASS);
        assert!(configuration(&rig, before).iter().all(|span| *span == (0x106, 0x106)), "{config:?}");
        // 40 entries at once: two groups of 32, and what the host asked for.
        for sid in 0x110..0x138 {
            rig.ste(sid, BYPASS);
        }
        let (before, syncs) = (issued(&rig), rig.smmu.stats().syncs);
        rig.issue(&[CFGI_ALL]);
        let mut spans = configuration(&rig, before);
        assert!(spans.pop().is_some_and(|(first, last)| first == 0 && last >= 0x3ff), "CMD_CFGI_ALL");
        spans.dedup();
        assert_eq!(spans, [(0x100, 0x11f), (0x120, 0x13f)], "{config:?}");
        // One between the groups and one at the end, however many entries changed.
        assert_eq!(rig.smmu.stats().syncs - syncs, 2, "{config:?}");
        for sid in 0x110..0x138 {
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "{sid:#x}");
        }
    }
    // A level-2 table that comes, and one that goes.
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 12);
    l2_ste(&rig, 8, 0x305, BYPASS);
    for span in [9, 0] {
        l1(&rig, 8, 0x305, span);
        let before = issued(&rig);
        rig.issue(&[[3 | 0x305 << 32, 0]]);
        let wide: Vec<_> = configuration(&rig, before).into_iter().filter(|(first, last)| first != last).collect();
        // One that goes leaves entries first, group by group.
        let groups: &[_] = if span == 0 { &[(0x300, 0x31f)] } else { &[] };
        assert_eq!(wide, [groups, &[(0x300, 0x3ff)]].concat());
    }
}

#[test]
fn t17_a_live_entry_changes_by_one_dword_between_two_commands() {
    let mut rig = Rig::new(Config { two_level: false, sid_bits: 9, ..Config::qemu() });
    rig.enable_linear(9);
    let at = (rig.board.0.model.borrow_mut().read64(r::STRTAB_BASE) & 0x00ff_ffff_ffff_ffc0) + 8 * 64;
    let (one, two) = (rig.context(1), rig.context(2));
    let mev = |mut words: [u64; 8]| {
        words[1] |= 1 << 19;
        words
    };
    let narrow = |mut words: [u64; 8]| {
        words[1] &= !0xff;
        words
    };
    let entries = [BYPASS, ABORT, one, two, [0; 8], mev(BYPASS), mev(one), narrow(two)];
    for old in entries {
        for new in entries {
            rig.set_ste(8, old);
            let mem = rig.mem().clone();
            let now = [mem.cpu_read64(at), mem.cpu_read64(at + 8)];
            let seen = std::rc::Rc::new(std::cell::RefCell::new(vec![now]));
            let log = std::rc::Rc::clone(&seen);
            let look = move |_: &_| log.borrow_mut().push([mem.cpu_read64(at), mem.cpu_read64(at + 8)]);
            *rig.board.0.watch.borrow_mut() = Some(Box::new(look));
            rig.set_ste(8, new);
            *rig.board.0.watch.borrow_mut() = None;
            let seen = seen.borrow();
            assert!(seen.len() > 1);
            for pair in seen.windows(2) {
                let changed = pair[0].iter().zip(pair[1]).filter(|(before, after)| **before != *after).count();
                assert!(changed <= 1, "{old:x?} to {new:x?}: {seen:x?}");
            }
        }
    }
}

#[test]
fn the_hosts_table_means_nothing_while_translation_is_off() {
    let mut rig = Rig::qemu();
    rig.enable_queues();
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, 5);
    rig.ste(3, ABORT);
    rig.host.log.borrow_mut().clear();
    for command in [CFGI_ALL, cfgi_ste(3), [3 | 3 << 32, 0], [4 | 3 << 32, 2]] {
        rig.issue(&[command]);
        for sid in [3, 300] {
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done);
        }
    }
    assert!(rig.host.log.borrow().iter().all(|at| *at < STRTAB), "it is not even read");
}

#[test]
fn every_stream_of_a_block_has_an_entry() {
    let streams = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x17f, 0x180, 0x1ff, 0x3ff];
    for config in [Config::qemu(), Config { two_level: false, sid_bits: 10, ..Config::qemu() }] {
        let mut rig = Rig::new(config);
        for sid in streams {
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "{sid:#x}, translation off");
        }
        rig.enable_linear(10);
        for sid in streams {
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            rig.set_ste(sid, BYPASS);
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "{sid:#x}");
        }
        for sid in [2, 0x7e, 0x81, 0xfe, 0x102, 0x3fe] {
            assert!(aborted(&rig.dma_write(sid, BUF, 1)), "{sid:#x}");
        }
    }
}

#[test]
fn without_two_levels_the_format_is_not_looked_at() {
    let mut rig = Rig::new(Config { two_level: false, sid_bits: 10, ..Config::qemu() });
    assert_eq!(rig.read(r::IDR0) >> 27 & 3, 0);
    rig.mem().cpu_write(STRTAB, &[0; 64 << 10]);
    rig.ste(0x105, BYPASS);
    enable_two_level_format(&mut rig);
    assert_eq!(rig.dma_write(0x105, BUF, 1), Transfer::Done, "an entry of a linear table");
    assert!(aborted(&rig.dma_write(0x106, BUF, 1)));
    assert_eq!(rig.events(), [[4 | 0x106 << 32, 0, 0, 0]]);
}

/// STRTAB_BASE_CFG.FMT says 2-level, of a table of 2^10 streams.
fn enable_two_level_format(rig: &mut Rig) {
    rig.enable_queues();
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, 10 | 8 << 6 | 1 << 16);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
}

#[test]
fn t41_a_table_that_the_host_drops_leaves_no_pointer_behind() {
    let mut rig = Rig::qemu();
    let before = rig.board.0.live_bytes.get();
    enable_two_level(&mut rig, 8, 16);
    for bus in 0..40 {
        l2_ste(&rig, 8, bus << 8, BYPASS);
        l1(&rig, 8, bus << 8, 9);
    }
    rig.issue(&[CFGI_ALL]);
    assert!(rig.board.0.live_bytes.get() > before);
    for bus in 0..40 {
        assert_eq!(rig.dma_write(bus << 8, BUF, 1), Transfer::Done);
        l1(&rig, 8, bus << 8, 0);
    }
    rig.issue(&[CFGI_ALL]);
    for bus in 0..40 {
        assert!(aborted(&rig.dma_write(bus << 8, BUF, 1)));
        assert!(!rig.can_reach(bus << 8, BUF));
    }
    assert_eq!(rig.board.0.live_bytes.get(), before, "level-2 tables come back");
    // Linear after 2-level.
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.ste(3, BYPASS);
    rig.write(r::STRTAB_BASE_CFG, 4);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert_eq!(rig.dma_write(3, BUF, 1), Transfer::Done);
    assert!(aborted(&rig.dma_write(16, BUF, 1)));
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t18_tables_in_foreign_memory_are_fetch_faults() {
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 16);
    rig.store(STRTAB, POOL | 9);
    rig.issue(&[CFGI_ALL]);
    assert!(aborted(&rig.dma_write(5, BUF, 1)));
    assert_eq!(rig.events(), [[3 | 5 << 32, 0, 0, POOL + 5 * 64]], "F_STE_FETCH with the address");
    // Level 1 itself.
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.write64(r::STRTAB_BASE, POOL);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert_eq!(rig.read(r::CR0ACK) & 1, 1);
    assert!(aborted(&rig.dma_write(5, BUF, 1)));
    assert_eq!(rig.events(), [[3 | 5 << 32, 0, 0, POOL]]);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t35_without_memory_streams_abort_and_recover() {
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 16);
    l2_ste(&rig, 8, 8, BYPASS);
    l1(&rig, 8, 8, 9);
    rig.board.0.allocations.set(0);
    rig.issue(&[cfgi_ste(8)]);
    assert!(aborted(&rig.dma_write(8, BUF, 1)));
    assert_eq!(rig.smmu.stats().strtab_no_memory, 1);
    rig.board.0.allocations.set(10);
    rig.issue(&[cfgi_ste(8)]);
    assert_eq!(rig.dma_write(8, BUF, 1), Transfer::Done);
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
    // After every fetch the word turns hostile.
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
fn t17_every_transition_shows_the_old_or_the_new_entry_and_nothing_else() {
    // Each host entry, with what it lets device 8 do: reach BUF through a bypass, through stage 1, or nothing.
    let config = Config { ssid_bits: 4, cd2l: true, attr_types_ovr: true, ..Config::qemu() };
    let contexts = |rig: &mut Rig| {
        let (one, two) = (rig.context(1), rig.context(2));
        let with = |ste: [u64; 8], dw1: u64| [ste[0], ste[1] | dw1, 0, 0, 0, 0, 0, 0];
        [[0; 8], ABORT, BYPASS, with(BYPASS, 1 << 19), one, two, with(one, 1 << 19), with(two, 2 << 4)]
    };
    for from in 0..8 {
        let mut rig = Rig::new(config.clone());
        rig.enable_linear(5);
        let entries = contexts(&mut rig);
        for to in entries {
            rig.set_ste(8, entries[from]);
            rig.set_ste(8, to);
        }
        assert!(!rig.el2_reachable(8));
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t20_structures_in_foreign_memory_are_fetch_and_walk_aborts_for_the_host() {
    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    rig.set_ste(8, [1 | 5 << 1 | EL2, 0, 0, 0, 0, 0, 0, 0]);
    assert!(aborted(&rig.dma_write(8, 0x1234_5678, 1)));
    let events = rig.events();
    assert_eq!(events, [[9 | 8 << 32, 0, 0, EL2]], "F_CD_FETCH, no trace of stage 2");
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
    rig.store(common::S1TAB + 2 * 0x4000 + 0x2000, EL2 | 1 << 11 | 1 << 10 | 3 << 8 | 1 << 6 | 3);
    rig.set_ste(8, ste);
    while rig.smmu.take_fault().is_some() {}
    assert!(aborted(&rig.dma_write(8, 0x10, 1)));
    assert_eq!(rig.events(), Vec::<[u64; 4]>::new());
    // EL2 knows.
    let fault = rig.smmu.take_fault().unwrap();
    assert_eq!(fault.to_string(), format!("F_TRANSLATION sid=0x8 stage=2 class=IN ipa={EL2:#x} iova=0x10 write"));
    // A stage-1 fault is the host's own.
    assert!(aborted(&rig.dma_write(8, 0x1000, 1)));
    let events = rig.events();
    assert_eq!(events[0][0], 0x10 | 8 << 32);
    assert_eq!(events[0][1] >> 39 & 7, 0b100, "S2 = 0, CLASS = IN");
    let _ = EVTQ;
    let _ = RAM;
}

#[test]
fn a_change_of_mode_interrupted_by_another_cpu_frees_no_table_that_hardware_may_use() {
    let config = Config { sid_bits: 20, ..Config::qemu() };
    for target in [r::CMDQEN | r::EVENTQEN, r::CMDQEN | r::EVENTQEN | r::SMMUEN] {
        let mut rig = Rig::new(config.clone());
        enable_two_level(&mut rig, 8, 20);
        for block in [0, 1, 2] {
            l2_ste(&rig, 8, block << 8, BYPASS);
            l1(&rig, 8, block << 8, 9);
        }
        rig.issue(&[CFGI_ALL]);
        for block in [0, 1, 2] {
            assert_eq!(rig.dma_write(block << 8, BUF, 1), Transfer::Done);
        }
        if target & r::SMMUEN == 0 {
            // One CPU switches translation off; its store is not complete after one trap.
            let outcome = rig.smmu.mmio_write(&mut rig.host, r::CR0, AccessSize::Word, target);
            assert_eq!(outcome, WriteOutcome::Again);
            assert_eq!(rig.read(r::CR0ACK) & r::SMMUEN, r::SMMUEN, "not acknowledged yet");
        } else {
            // Or it drops its tables.
            for block in [0, 1, 2] {
                l1(&rig, 8, block << 8, 0);
            }
            rig.queue(CFGI_ALL);
            let prod = u64::from(rig.prod);
            let outcome = rig.smmu.mmio_write(&mut rig.host, r::CMDQ_PROD, AccessSize::Word, prod);
            assert_eq!(outcome, WriteOutcome::Again);
        }
        // Another CPU's CMD_SYNC completes meanwhile. Freed memory now holds entries that bypass.
        rig.queue(common::SYNC);
        let prod = u64::from(rig.prod);
        let _ = rig.smmu.mmio_write(&mut rig.host, r::CMDQ_PROD, AccessSize::Word, prod);
        for block in [0, 1, 2] {
            assert!(!rig.el2_reachable(block << 8));
        }
        rig.ring();
        rig.write(r::CR0, target);
        assert_eq!(rig.read(r::CR0ACK), target);
        for block in [0, 1, 2] {
            assert!(!rig.el2_reachable(block << 8));
        }
        assert_eq!(rig.hazards(), []);
    }
}

/// `arm,instdata-override`: EL2 sets STE.INSTCFG [IHI 0070G 5.2] where hardware has IDR1.ATTR_PERMS_OVR, and the host sees neither.
#[test]
fn reads_are_data_in_every_entry_where_that_is_asked_for_and_possible() {
    const PERMS_OVR: u32 = 1 << 26;
    for (asked, able) in [(true, true), (true, false), (false, true)] {
        let board = common::Board::new(Config::qemu());
        if able {
            let idr1 = Config::qemu().idr1() | PERMS_OVR;
            board.0.forged.set(Some((r::IDR1, idr1)));
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
        assert_eq!(instcfg(&rig), expected, "off: asked {asked}, able {able}");
        rig.enable_linear(4);
        let nested = rig.context(1);
        // The host's own INSTCFG and PRIVCFG are of a feature that it does not have.
        let more = |mut ste: [u64; 8]| {
            ste[1] |= 0xf << 48;
            ste
        };
        for ste in [common::BYPASS, common::ABORT, nested, more(common::BYPASS), more(nested)] {
            rig.set_ste(9, ste);
            assert_eq!(instcfg(&rig), expected, "{:#x}: asked {asked}, able {able}", ste[0]);
        }
        assert_eq!(rig.read(r::IDR1) as u32 & PERMS_OVR, 0);
        assert_eq!(rig.hazards(), []);
    }
}
