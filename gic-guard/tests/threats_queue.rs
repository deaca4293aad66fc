//! A host that attacks through the command queue of an ITS, by number and size; several ITSs; power-off.
#![allow(clippy::unwrap_used)]

use gic_guard::limits::{MAX_DEVICE_BYTES, MAX_DEVICES};
use gic_guard::platform::Frame;
use gic_guard::{AccessSize, WriteOutcome};
use gic_tests::*;

const ON: u8 = 0xa1;

#[test]
fn t45k_invalid_queue_indices_are_ignored() {
    let mut rig = Rig::linux(Config::qemu());
    let tail = rig.tail[0];
    for wrong in [0x1_0000, 0x1_0020, 0xf_ffe0, !0x1e, !0] {
        rig.set_its64(0, r::CWRITER, wrong);
        assert_eq!(rig.its64(0, r::CWRITER), tail, "{wrong:#x}");
        assert_eq!(rig.its64(0, r::CREADR), tail);
    }
    // An odd offset: the low bits are not implemented.
    rig.queue(0, &[sync(0)]);
    rig.set_its64(0, r::CWRITER, tail + 0x3f);
    assert_eq!(rig.its64(0, r::CREADR), tail + 0x20);
    // CREADR is read-only.
    rig.set_its64(0, r::CREADR, 0);
    rig.set_its32(0, r::CREADR, 0x60);
    assert_eq!(rig.its64(0, r::CREADR), tail + 0x20);
    // A disabled ITS processes nothing; when it is enabled again, it processes the queued commands.
    rig.set_its32(0, r::CTLR, 0);
    for _ in 0..10 {
        rig.its32(0, r::CTLR);
    }
    assert_eq!(rig.its32(0, r::CTLR), 1 << 31, "quiescent");
    let end = rig.queue(0, &[mapd(8, 2)]);
    rig.set_its64(0, r::CWRITER, end);
    assert_eq!(rig.its64(0, r::CREADR), tail + 0x20);
    assert_eq!(rig.guard.stats().host_commands, 4 * 2 + 1);
    rig.set_its32(0, r::CTLR, 1);
    assert_eq!(rig.its64(0, r::CREADR), end);
    // The queue is smaller now, and the index is beyond its end.
    rig.set_its32(0, r::CTLR, 0);
    rig.set_its64(0, r::CWRITER, 0x4000);
    rig.set_its64(0, r::CBASER, r::VALID | r::ITS_WB | RING);
    rig.set_its32(0, r::CTLR, 1);
    assert_eq!(rig.its64(0, r::CREADR), rig.guard.mmio_read(Frame::Its(0), r::CWRITER, AccessSize::Double));
    rig.check();
}

#[test]
fn t45k_an_its_without_tables_or_queue_stays_disabled() {
    for missing in [r::BASER0, r::BASER1, r::CBASER] {
        let mut rig = Rig::linux(Config::qemu());
        rig.set_its32(0, r::CTLR, 0);
        let value = rig.its64(0, missing);
        rig.set_its64(0, missing, value & !r::VALID);
        rig.set_its32(0, r::CTLR, 1);
        assert_eq!(rig.its32(0, r::CTLR), 1 << 31, "{missing:#x}");
        rig.set_its64(0, missing, value);
        rig.set_its32(0, r::CTLR, 1);
        assert_eq!(rig.its32(0, r::CTLR), 1);
    }
}

#[test]
fn t45k_a_store_of_another_cpu_does_not_affect_a_continued_store() {
    let mut rig = Rig::linux(Config::qemu());
    let lpi = |event: u64| 8192 + event * 28;
    rig.post(0, &[mapd(8, 11)]);
    for event in 0..2047 {
        rig.queue(0, &[mapti(8, event, lpi(event), 0)]);
        if event % 512 == 511 {
            let tail = rig.tail[0];
            rig.set_its64(0, r::CWRITER, tail);
        }
    }
    rig.post(0, &[sync(0)]);
    (0..2047).for_each(|event| rig.configure(lpi(event), ON));
    let before = rig.its64(0, r::CREADR);
    let tail = rig.queue(0, &[invall(0), sync(0)]);
    assert_eq!(rig.once(Frame::Its(0), r::CWRITER, AccessSize::Double, tail), WriteOutcome::Again);
    assert_eq!(rig.its64(0, r::CREADR), before, "INVALL is not complete");
    // Another CPU starts other work, which waits for INVALL.
    rig.set_rd32(1, r::CTLR, 0);
    assert_eq!(rig.its64(0, r::CREADR), before + 32, "INVALL is complete");
    rig.set_its64(0, r::CWRITER, tail);
    assert_eq!(rig.its64(0, r::CREADR), tail);
    for event in [0, 1000, 2046] {
        assert_eq!(rig.raise(0, 8, event), [(0, lpi(event) as u32)]);
    }
    // Another CPU disables the ITS without setting a queue.
    let tail = rig.queue(0, &[invall(0), unmapd(8)]);
    assert_eq!(rig.once(Frame::Its(0), r::CWRITER, AccessSize::Double, tail), WriteOutcome::Again);
    rig.set_its32(0, r::CTLR, 0);
    rig.set_its64(0, r::CBASER, r::VALID | r::ITS_WB | GUEST);
    assert_eq!(rig.its64(0, r::CREADR), 0);
    rig.check();
}

#[test]
fn t45l_mapped_devices_and_memory_stay_below_the_limits() {
    let mut rig = Rig::linux(Config::qemu());
    let live = rig.live();
    for device in 0..0x1_0000 {
        if device % 1024 == 0 {
            let tail = rig.tail[0];
            rig.set_its64(0, r::CWRITER, tail);
        }
        let bits = 1 + device % 13;
        rig.queue(0, &[mapd(device, bits)]);
    }
    rig.post(0, &[sync(0)]);
    assert!(rig.live() - live <= MAX_DEVICE_BYTES + 0x1_0000);
    assert!(rig.guard.stats().limited_commands > 60_000);
    let mut mapped = 0;
    for device in 0..0x1_0000 {
        if device % 1024 == 0 {
            let tail = rig.tail[0];
            rig.set_its64(0, r::CWRITER, tail);
        }
        rig.queue(0, &[unmapd(device)]);
        mapped += 1;
    }
    rig.post(0, &[sync(0)]);
    assert_eq!(mapped, 0x1_0000);
    // Only the level-2 table of the first 8,192 devices remains allocated.
    assert_eq!(rig.live() - live, 0x1_0000);
    for device in 0..MAX_DEVICES as u64 {
        rig.post(0, &[mapd(device, 1)]);
    }
    let limited = rig.guard.stats().limited_commands;
    rig.post(0, &[mapd(9999, 1)]);
    assert_eq!(rig.guard.stats().limited_commands - limited, 1);
}

#[test]
fn t45l_without_memory_a_device_stays_unmapped() {
    for left in 0..4 {
        let mut rig = Rig::linux(Config::qemu());
        rig.board.0.allocations.set(left);
        let live = rig.live();
        rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 0), sync(0)]);
        assert_eq!(rig.guard.stats().limited_commands, u64::from(left < 3), "{left} allocations");
        assert!(left == 3 || rig.live() <= live + 0x1_0000);
        rig.board.0.allocations.set(usize::MAX);
        rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 0), sync(0)]);
        rig.configure(8192, ON);
        rig.post(0, &[inv(8, 0), sync(0)]);
        assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
    }
}

#[test]
fn t45m_an_interrupt_has_the_device_id_of_the_writer() {
    let mut rig = Rig::linux(Config::qemu());
    rig.configure(8192, ON);
    rig.configure(8193, ON);
    rig.post(0, &[mapd(8, 2), mapd(9, 2), mapti(8, 0, 8192, 0), mapti(9, 1, 8193, 1), sync(0)]);
    assert_eq!(rig.raise(0, 9, 0), []);
    assert_eq!(rig.raise(0, 0, 0), []);
    // A CPU's store to the translation register does not reach hardware through the guard.
    let denied = rig.guard.stats().denied_accesses;
    rig.write(Frame::Its(0), 0x1_0040, AccessSize::Word, 0);
    assert_eq!(rig.guard.stats().denied_accesses - denied, 1);
    assert_eq!(rig.delivered(), []);
    rig.check();
}

#[test]
fn t45n_several_itss_are_independent() {
    let mut rig = Rig::linux(Config { its: 3, cpus: 3, ..Config::qemu() });
    for lpi in 0..3 {
        rig.configure(8192 + lpi, ON);
    }
    // The same DeviceID on each, with different LPIs; an LPI cannot be mapped twice.
    for its in 0..3_u64 {
        rig.post(its as usize, &[mapd(8, 2), mapti(8, 0, 8192 + its, its), mapti(8, 1, 8192, its), sync(its)]);
    }
    for its in 0..3 {
        assert_eq!(rig.raise(its, 8, 0), [(its, 8192 + its as u32)]);
        assert_eq!(rig.raise(its, 8, 1), []);
    }
    // One device is unmapped, the others remain mapped.
    rig.post(1, &[unmapd(8), unmapc(1), unmapc(0)]);
    rig.set_its32(1, r::CTLR, 0);
    rig.set_its64(1, r::BASER0, 0);
    rig.set_its64(1, r::CBASER, r::VALID | POOL);
    assert_eq!(rig.raise(1, 8, 0), []);
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
    assert_eq!(rig.raise(2, 8, 0), [(2, 8194)]);
    rig.check();
}

#[test]
fn t45o_the_gic_is_quiescent_before_power_off() {
    let mut rig = Rig::linux(Config::qemu());
    rig.configure(8192, 0xa0);
    rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 0), int(8, 0), sync(0)]);
    let live = rig.live();
    rig.guard.quiesce().unwrap();
    assert_eq!(rig.model().read32(gic_model::Place::Its(0), 0) & 1, 0);
    assert_eq!(rig.live(), live);
    rig.model().settle();
    rig.check();
    // Permanently: the host's accesses are still emulated, and hardware is not used.
    let commands = rig.guard.stats().commands;
    rig.set_its32(0, r::CTLR, 1);
    let tail = rig.queue(0, &[unmapd(8), mapd(9, 2)]);
    rig.set_its64(0, r::CWRITER, tail);
    rig.set_rd32(0, r::CTLR, 0);
    assert_eq!(rig.guard.stats().commands, commands);
    assert_eq!(rig.live(), live);
    assert_eq!(rig.model().read32(gic_model::Place::Its(0), 0) & 1, 0);
    rig.check();
}
