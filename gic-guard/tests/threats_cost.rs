//! The work and memory that a host can cause are bounded; memory is freed only when hardware does not use it any more.
#![allow(clippy::unwrap_used)]

use gic_guard::platform::Frame;
use gic_tests::*;

const ON: u8 = 0xa1;

#[test]
fn t45d_memory_is_freed_after_a_sync_without_enabled_redistributors() {
    let mut rig = Rig::linux(Config { cpus: 1, ..Config::qemu() });
    rig.configure(8192, ON);
    rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 0), sync(0)]);
    rig.model().lose_power(0, |config| config.stays_off = true);
    rig.set_rd32(0, r::CTLR, 1);
    let live = rig.live();
    rig.post(0, &[unmapd(8)]);
    assert!(rig.live() < live);
}

#[test]
fn t45d_itt_entries_have_16_bytes() {
    for (itt_entry, itt_hidden) in [(8, 8), (8, 0), (12, 4), (1, 15)] {
        let mut rig = Rig::linux(Config { itt_entry, itt_hidden, ..Config::qemu() });
        rig.configure(8192, ON);
        rig.post(0, &[mapd(8, 9), mapti(8, 511, 8192, 0), sync(0)]);
        assert_eq!(rig.raise(0, 8, 511), [(0, 8192)]);
        rig.check();
    }
}

#[test]
fn t45l_a_trap_has_a_bounded_number_of_movall() {
    let mut rig = Rig::linux(Config::qemu());
    let tail = rig.queue(0, &[movall(0, 1); 200]);
    let mut most = 0;
    loop {
        let before = rig.guard.stats().commands;
        let outcome = rig.once(Frame::Its(0), r::CWRITER, gic_guard::AccessSize::Double, tail);
        most = most.max(rig.guard.stats().commands - before);
        if outcome == gic_guard::WriteOutcome::Done {
            break;
        }
    }
    assert!(most <= 16, "{most} MOVALL in one trap");
    // MOVALL with the same source and target has no effect.
    let before = rig.guard.stats().commands;
    rig.post(0, &[movall(1, 1); 20]);
    assert_eq!(rig.guard.stats().commands, before);
}

#[test]
fn t45l_the_memory_limit_can_be_lowered_for_a_small_pool() {
    let mut rig = Rig::new(Config::qemu());
    let before = rig.live();
    rig.guard.limit_memory(0x8_0000);
    rig.linux_its(0);
    for device in 0..100 {
        rig.post(0, &[mapd(device, 9)]);
    }
    assert!(rig.guard.stats().limited_commands > 0);
    assert!(rig.live() - before <= 0x8_0000, "{:#x} bytes", rig.live() - before);
    // A larger value does not raise the limit.
    rig.guard.limit_memory(usize::MAX);
    for device in 100..200 {
        rig.post(0, &[mapd(device, 9)]);
    }
    assert!(rig.live() - before <= 0x8_0000);
}

#[test]
fn t45l_commands_without_memory_allocate_no_more_than_they_are_charged_for() {
    // Room for some devices and for the interrupt translation table of another one, but not for its records.
    for (bits, part) in (9..=13).flat_map(|bits| (0..24).map(move |part| (bits, part))) {
        let mut rig = Rig::linux(Config::qemu());
        rig.guard.limit_memory((4 * 24 + part) << bits);
        let commands: Vec<_> = (0..400).map(|device| mapd(device, bits)).collect();
        // `Rig::once` checks the number of bytes in every trap.
        rig.post(0, &commands);
        assert!(rig.guard.stats().limited_commands >= 395, "{bits}, {part}: {:?}", rig.guard.stats());
    }
}
