//! Changes of live entries: the order of the stores and of their invalidations.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    ABORT, BUF, BYPASS, CFGI_ALL, Rig, STRTAB, cfgi_ste, cfgi_ste_range, cfgi_ste_walk, enable_two_level, l1, l2_ste, r,
};
use smmu_model::inval::Scope;
use smmu_model::{Config, Transfer};

#[test]
fn a_command_rereads_only_the_entries_that_it_covers() {
    let mut rig = Rig::qemu();
    rig.enable_linear(10);
    rig.set_ste(0x105, BYPASS);
    let entries = |rig: &Rig| -> Vec<u64> {
        let log = rig.host.log.borrow();
        log.iter().filter(|at| (STRTAB..STRTAB + 0x1_0000).contains(at)).map(|at| (at - STRTAB) / 64).collect()
    };
    // One block of 256, one entry, and all.
    for (command, first, last) in [(cfgi_ste_range(0x105, 7), 0x100, 0x1ff), (cfgi_ste(0x105), 0x105, 0x105)] {
        rig.host.log.borrow_mut().clear();
        rig.issue(&[command]);
        let seen = entries(&rig);
        assert_eq!((seen.iter().min(), seen.iter().max()), (Some(&first), Some(&last)), "{command:x?}");
    }
    rig.host.log.borrow_mut().clear();
    rig.issue(&[CFGI_ALL]);
    assert_eq!((entries(&rig).iter().min(), entries(&rig).iter().max()), (Some(&0), Some(&0x3ff)));
    assert_eq!(rig.smmu.stats().claims_refused, 0, "no other memory is claimed");
    assert_eq!(rig.dma_write(0x105, BUF, 1), Transfer::Done, "a table that is still used is kept");
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
fn an_invalidation_of_configuration_covers_the_changed_entries() {
    let issued = |rig: &Rig| rig.board.0.model.borrow().invalidations().len();
    for config in [Config::qemu(), Config { two_level: false, sid_bits: 10, ..Config::qemu() }] {
        let mut rig = Rig::new(config.clone());
        rig.enable_linear(10);
        rig.set_ste(0x105, BYPASS);
        // One entry.
        let before = issued(&rig);
        rig.set_ste(0x106, BYPASS);
        assert!(configuration(&rig, before).iter().all(|span| *span == (0x106, 0x106)), "{config:?}");
        // 40 entries at once: two groups of 32, and the host's own command.
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
    // A level-2 table is added, and one is removed.
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 12);
    l2_ste(&rig, 8, 0x305, BYPASS);
    for span in [9, 0] {
        l1(&rig, 8, 0x305, span);
        let before = issued(&rig);
        rig.issue(&[cfgi_ste_walk(0x305)]);
        let wide: Vec<_> = configuration(&rig, before).into_iter().filter(|(first, last)| first != last).collect();
        // Before a table is removed, its entries are changed group by group.
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
fn t17_every_transition_has_the_access_of_the_old_or_the_new_entry() {
    // Each host entry, with the access that it gives device 8: reach BUF through a bypass, through stage 1, or
    // nothing.
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
