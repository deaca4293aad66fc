//! A host that attacks through the redistributors, or the allow-list; and hardware that does not respond.
#![allow(clippy::unwrap_used)]

use gic_guard::emul::{gicr, gits};
use gic_guard::platform::Frame;
use gic_guard::{AccessSize, ItsError, TakeOverError};
use gic_tests::*;

const ON: u8 = 0xa1;
const TARGETS: [u64; 5] = [POOL, GUEST, RAM + RAM_SIZE - 0x1000, RAM - 0x1000, 0xf_ffff_ffff_0000];

#[test]
fn t45g_lpi_table_bases_are_stored_and_never_reach_hardware() {
    for target in TARGETS {
        let mut rig = Rig::new(Config::qemu());
        rig.linux_its(0);
        for bits in [0, 12, 13, 15, 16, 31] {
            let prop = target & 0xf_ffff_ffff_f000 | r::RD_WB | bits;
            let pend = target & 0xf_ffff_ffff_0000 | r::RD_WB;
            rig.set_rd32(0, r::CTLR, 0);
            rig.set_rd64(0, r::PROPBASER, prop | 1 << 63 | 1 << 5);
            // The table is not zero, although PTZ is set.
            rig.board.memory().write64(PEND, !0);
            rig.set_rd64(0, r::PENDBASER, pend | 1 << 62 | 1 << 63);
            assert_eq!(rig.rd64(0, r::PROPBASER), prop);
            assert_eq!(rig.rd64(0, r::PENDBASER), pend, "PTZ is write-only");
            rig.set_rd32(0, r::CTLR, 1);
            // While LPIs are enabled, the registers do not change.
            rig.set_rd64(0, r::PROPBASER, PROP | 15);
            rig.set_rd64(0, r::PENDBASER, PEND);
            assert_eq!(rig.rd64(0, r::PROPBASER), prop);
            assert_eq!(rig.rd64(0, r::PENDBASER), pend);
            rig.post(0, &[mapc(0, 0), sync(0), mapd(8, 4), mapti(8, 0, 8192, 0), inv(8, 0), invall(0), sync(0)]);
            assert_eq!(rig.raise(0, 8, 0), [], "its configuration cannot be read");
            rig.post(0, &[unmapd(8)]);
        }
    }
}

#[test]
fn t45g_lpis_above_the_hosts_intid_bits_are_disabled() {
    for (bits, there) in [(12, [false, false]), (13, [true, false]), (14, [true, true]), (31, [true, true])] {
        let mut rig = Rig::new(Config::qemu());
        rig.linux_its(0);
        for lpi in [9000, 17000] {
            rig.configure(lpi, ON);
        }
        rig.set_rd64(0, r::PROPBASER, r::RD_WB | PROP | bits);
        rig.set_rd32(0, r::CTLR, 1);
        rig.post(0, &[mapc(0, 0), sync(0), mapd(8, 4), mapti(8, 0, 9000, 0), mapti(8, 1, 17000, 0), sync(0)]);
        let got = [!rig.raise(0, 8, 0).is_empty(), !rig.raise(0, 8, 1).is_empty()];
        assert_eq!(got, there, "IDbits {bits}");
    }
}

#[test]
fn t45h_lpis_are_enabled_and_disabled_in_any_order() {
    for clearable in [true, false] {
        let mut rig = Rig::new(Config { clearable, cpus: 3, ..Config::qemu() });
        rig.linux_its(0);
        // LPIs are enabled before there is a table.
        rig.set_rd32(2, r::CTLR, 1);
        rig.set_rd32(2, r::CTLR, 0);
        rig.configure(8192, ON);
        rig.linux_cpu(2);
        rig.linux_cpu(0);
        rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 2), sync(2)]);
        for _ in 0..3 {
            assert_eq!(rig.raise(0, 8, 0), [(2, 8192)]);
            rig.set_rd32(2, r::CTLR, 0);
            assert_eq!(rig.rd32(2, r::CTLR) & 0b1011, 0b10, "CES; RWP is 0 when the store is done");
            assert_eq!(rig.raise(0, 8, 0), [], "no LPI reaches the CPU");
            assert_eq!(rig.raise(0, 8, 0), []);
            // The ITS is disabled and enabled again.
            rig.set_its32(0, r::CTLR, 0);
            rig.set_rd32(2, r::CTLR, 1);
            assert_eq!(rig.raise(0, 8, 0), []);
            rig.set_its32(0, r::CTLR, 1);
        }
        // EnableLPIs of hardware was set once.
        assert_eq!(rig.model().read32(gic_model::Place::Rd(2), 0) & 1, 1);
        rig.check();
    }
}

#[test]
fn t45h_a_pending_interrupt_is_dropped_when_lpis_are_disabled() {
    let mut rig = Rig::linux(Config::qemu());
    rig.configure(8192, 0xa0);
    rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 1), int(8, 0), sync(1)]);
    rig.set_rd32(1, r::CTLR, 0);
    rig.configure(8192, ON);
    rig.set_rd32(1, r::CTLR, 1);
    assert_eq!(rig.delivered(), []);
    assert_eq!(rig.raise(0, 8, 0), [(1, 8192)]);
    rig.check();
}

#[test]
fn t45h_registers_unrelated_to_lpis_are_built_from_fields() {
    let mut rig = Rig::linux(Config { virtual_lpis: true, ..Config::qemu() });
    rig.set_rd32(0, r::CTLR, u64::from(u32::MAX));
    assert_eq!(rig.rd32(0, r::CTLR), 7 << 24 | 3);
    assert_eq!(rig.model().read32(gic_model::Place::Rd(0), 0) >> 24, 7);
    rig.set_rd32(0, r::WAKER, u64::from(u32::MAX));
    assert_eq!(rig.rd32(0, r::WAKER), 0b110);
    rig.set_rd32(0, r::WAKER, 0);
    assert_eq!(rig.rd32(0, r::WAKER), 0);
    // DirectLPI, Dirty, RVPEID, VSGI are hidden; VLPIS gives the size of the frames.
    assert_eq!(rig.rd64(1, r::TYPER), 1 << 32 | 1 << 24 | 1 << 8 | 1 << 5 | 1 << 4 | 1 << 1 | 1);
    assert_eq!(rig.its64(0, r::TYPER), 1 | 11 << 4 | 12 << 8 | 15 << 13 | 8 << 32 | 1 << 36);
    assert_eq!(rig.its32(0, r::TYPER + 4), 8 | 1 << 4);
    rig.check();
}

#[test]
fn t45i_hardware_uses_a_copy_of_the_configuration_byte() {
    let mut rig = Rig::linux(Config::qemu());
    rig.configure(8192, ON);
    rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 0), sync(0)]);
    // The host's byte changes without a command.
    rig.configure(8192, 0);
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
    // Then the page is donated: no claim prevents that, and the page is no longer read.
    rig.host.donated.insert(PROP);
    rig.board.memory().write64(PROP, !0);
    rig.post(0, &[inv(8, 0), sync(0)]);
    assert_eq!(rig.raise(0, 8, 0), [], "an LPI whose byte cannot be read is disabled");
    rig.post(0, &[invall(0), sync(0), discard(8, 0)]);
    rig.post(0, &[mapti(8, 0, 8192, 0), sync(0)]);
    assert_eq!(rig.raise(0, 8, 0), []);
    assert!(rig.guard.stats().claims_refused >= 3);
    rig.host.donated.clear();
    rig.post(0, &[invall(0), sync(0)]);
    assert_eq!(rig.delivered(), [(0, 8192)], "it was pending");
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
}

#[test]
fn t45i_a_table_is_read_with_the_hosts_cacheability() {
    for (attributes, sharing) in [
        (r::RD_WB, gic_guard::Sharing::Cacheable),
        (1 << 7, gic_guard::Sharing::Memory),
        (7 << 7, gic_guard::Sharing::Memory),
        (7 << 7 | 1 << 10 | 1 << 56, gic_guard::Sharing::Memory),
    ] {
        let mut rig = Rig::new(Config::qemu());
        rig.linux_its(0);
        rig.set_rd64(0, r::PROPBASER, attributes | PROP | 15);
        rig.set_rd32(0, r::CTLR, 1);
        rig.post(0, &[mapc(0, 0), mapd(8, 4)]);
        let tail = rig.queue(0, &[mapti(8, 0, 8192, 0)]);
        rig.set_its64(0, r::CWRITER, tail);
        assert_eq!(rig.host.last_sharing.get(), Some(sharing), "{attributes:#x}");
    }
}

const SIZES: [AccessSize; 4] = [AccessSize::Byte, AccessSize::Half, AccessSize::Word, AccessSize::Double];

#[test]
fn t45j_registers_without_a_row_read_as_zero_and_ignore_writes() {
    let mut rig = Rig::linux(Config { virtual_lpis: true, ..Config::qemu() });
    let offsets = (0..0x200).chain(0xff00..0x1_0200).chain(0x1_ff00..0x2_0200).chain((0..0x4_0000).step_by(252));
    for offset in offsets {
        for size in SIZES {
            for (frame, listed) in [
                (Frame::Its(0), gits::search(offset, size).is_some()),
                (Frame::Rd(0), gicr::search(offset, size).is_some()),
                (Frame::Its(1), false),
                (Frame::Rd(2), false),
                (Frame::Its(usize::MAX), false),
                (Frame::Rd(usize::MAX), false),
            ] {
                if listed {
                    continue;
                }
                let denied = rig.guard.stats().denied_accesses;
                assert_eq!(rig.read(frame, offset, size), 0);
                rig.write(frame, offset, size, u64::MAX);
                assert_eq!(rig.guard.stats().denied_accesses - denied, 2, "{frame:?} {offset:#x} {size:?}");
            }
        }
    }
    rig.check();
    // Rows have the width of the architecture; halves of 64-bit registers are tested separately.
    for (_, offset, width, ..) in gits::Register::ROWS {
        let wide = *width == gic_guard::emul::Width::Bits64;
        assert_eq!(gits::search(*offset, AccessSize::Double).is_some(), wide);
        assert!(gits::search(*offset, AccessSize::Word).is_some());
        assert_eq!(gits::search(*offset + 4, AccessSize::Word).is_some(), wide || [0, 4].contains(offset));
        assert!(gits::search(*offset + 2, AccessSize::Half).is_none());
    }
}

#[test]
fn t45j_halves_of_a_register_are_written_one_by_one() {
    let mut rig = Rig::linux(Config::qemu());
    rig.set_its32(0, r::CTLR, 0);
    rig.set_its64(0, r::BASER0, 0);
    rig.set_its32(0, r::BASER0 + 4, 0x8765_4321);
    rig.set_its32(0, r::BASER0, 0x1234_5201);
    // Type and Entry_Size do not change.
    assert_eq!(rig.its64(0, r::BASER0), 0x8167_4321_1234_5201);
    assert_eq!(rig.its32(0, r::BASER0 + 4), 0x8167_4321);
    rig.set_rd32(0, r::CTLR, 0);
    rig.set_rd64(0, r::PROPBASER, 0);
    rig.set_rd32(0, r::PROPBASER + 4, 0x000f_0001);
    rig.set_rd32(0, r::PROPBASER, 0x8000_000f);
    assert_eq!(rig.rd64(0, r::PROPBASER), 0x000f_0001_8000_000f);
}

#[test]
fn t45j_commands_of_gicv4_and_reserved_ones_do_nothing() {
    let mut rig = Rig::linux(Config { virtual_lpis: true, ..Config::qemu() });
    let commands = rig.guard.stats().commands;
    let known = [0x01, 0x03, 0x04, 0x05, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f];
    for opcode in (0..256_u64).filter(|opcode| !known.contains(opcode)) {
        for fill in [0, POOL, r::VALID | POOL, !0 << 8] {
            let tail = rig.queue(0, &[[opcode | fill & !0xff, fill, fill, fill]]);
            rig.set_its64(0, r::CWRITER, tail);
            assert_eq!(rig.its64(0, r::CREADR), tail, "the queue continues");
        }
    }
    assert_eq!(rig.guard.stats().commands, commands);
    // Bits that a command does not define do not reach hardware.
    let junk = !0xffff_ffff_0000_00ff;
    rig.post(0, &[[8 << 32 | 0x08 | junk, 3 | !0x1f, r::VALID | !0xf_ffff_ffff_ff00, !0]]);
    rig.post(0, &[[8 << 32 | 0x0a | junk, 8192 << 32, !0xffff, !0], [0x05 | !0xff, !0, 0xffff, !0]]);
    rig.configure(8192, ON);
    rig.post(0, &[inv(8, 0), sync(0)]);
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
}

#[test]
fn t45p_an_its_that_stops_is_failed_and_the_others_continue() {
    for after in 0..40 {
        let mut rig = Rig::new(Config { its: 2, stops_after: Some((0, after)), ..Config::qemu() });
        rig.linux_its(0);
        rig.linux_its(1);
        rig.configure(8192, ON);
        for cpu in 0..2 {
            rig.set_rd64(cpu, r::PROPBASER, r::RD_WB | PROP | 15);
            rig.set_rd32(cpu, r::CTLR, 1);
        }
        let mut slow = 0;
        for round in 0..8 {
            let commands = [mapc(0, 0), mapd(8, 4), mapti(8, 0, 9000, 0), inv(8, 0), invall(0), sync(0), unmapd(8)];
            let tail = rig.queue(0, &commands);
            let start = rig.board.now();
            rig.set_its64(0, r::CWRITER, tail);
            let took = rig.board.now() - start;
            assert!(took < 1_100_000, "{took} us");
            slow += u32::from(took > 900_000);
            if rig.guard.failed(0).is_some() {
                let lost = rig.its64(0, r::CREADR);
                assert_ne!(lost, tail, "round {round}: the host sees that CREADR does not advance");
            }
        }
        assert!(slow <= 1, "only the first access waits");
        if after < 16 {
            assert_eq!(rig.guard.failed(0), Some(ItsError::Timeout), "after {after}");
        }
        rig.set_its32(0, r::CTLR, 0);
        rig.set_rd32(1, r::CTLR, 0);
        rig.set_rd32(1, r::CTLR, 1);
        // The other ITS works.
        rig.post(1, &[mapc(0, 0), mapd(8, 4), mapti(8, 0, 8192, 0), sync(0)]);
        assert_eq!(rig.raise(1, 8, 0), [(0, 8192)]);
        rig.check();
    }
}

#[test]
fn t45p_a_command_that_stalls_is_replaced() {
    for opcode in [0x01, 0x03, 0x05, 0x08, 0x09, 0x0a, 0x0c, 0x0d, 0x0f] {
        for times in [1, 3, 1000] {
            let mut rig = Rig::new(Config { stalls: Some((opcode, times)), ..Config::qemu() });
            rig.linux_its(0);
            for cpu in 0..2 {
                rig.set_rd64(cpu, r::PROPBASER, r::RD_WB | PROP | 15);
                rig.set_rd32(cpu, r::CTLR, 1);
            }
            for _ in 0..4 {
                let commands =
                    [mapc(0, 0), mapc(1, 1), mapd(8, 4), mapti(8, 0, 9000, 0), movi(8, 0, 1), int(8, 0), invall(1)];
                rig.queue(0, &commands);
                let tail = rig.queue(0, &[inv(8, 0), discard(8, 0), sync(1), unmapd(8)]);
                let start = rig.board.now();
                rig.set_its64(0, r::CWRITER, tail);
                assert!(rig.board.now() - start < 1_100_000);
                let closed = rig.guard.failed(0);
                assert!(closed.is_none() || times > 3, "opcode {opcode:#x}, {times} times");
                // A SYNC that replaces a SYNC stalls again.
                assert!(closed == Some(ItsError::Stalls) || times <= 4 || opcode != 0x05);
                if closed.is_none() {
                    assert_eq!(rig.its64(0, r::CREADR), tail);
                }
            }
            rig.model().settle();
            let foreign = rig.model().foreign();
            assert_eq!(foreign, [], "opcode {opcode:#x}");
            // Hardware did not execute the commands that it refused, so later commands may be in error; but all its
            // addresses are in EL2's memory.
            let outside =
                rig.model().hazards().into_iter().find(|hazard| matches!(hazard, gic_model::Hazard::Foreign(..)));
            assert_eq!(outside, None, "opcode {opcode:#x}, {times} times");
        }
    }
}

#[test]
fn t45p_hardware_that_cannot_be_taken_over_is_refused_with_its_error() {
    let qemu = Config::qemu();
    let error = |config| take_over(config).err();
    assert_eq!(error(Config { never_quiescent: true, ..qemu }), Some(TakeOverError::Busy(0)));
    assert_eq!(error(Config { left_on: Some(RAM), clearable: false, ..qemu }), Some(TakeOverError::LpisOn(0)));
    assert_eq!(error(Config { its: 9, ..qemu }), Some(TakeOverError::TooMany));
    assert_eq!(error(Config { cpus: 65, ..qemu }), Some(TakeOverError::TooMany));
    assert_eq!(error(Config { collection_table: false, cpus: 17, ..qemu }), Some(TakeOverError::Unusable(0)));
    // The firmware's tables are not used any more.
    let mut rig = Rig::linux(Config { left_on: Some(RAM), ..qemu });
    rig.check();
    for left in 0..12 {
        let (board, mut guard, _) = bare(qemu);
        board.0.allocations.set(left);
        let rds = rds(qemu);
        let config = gic_guard::Config { its: 1, rds: &rds, intid_bits: 16 };
        let result = guard.take_over(&config);
        if result.is_ok() {
            assert!(left >= 8, "{left} allocations");
            break;
        }
        assert_eq!(result, Err(TakeOverError::NoMemory));
    }
}

#[test]
fn a_guard_before_take_over_is_raz_wi() {
    let (_, mut guard, mut host) = bare(Config::qemu());
    assert_eq!(guard.mmio_read(Frame::Its(0), r::TYPER, AccessSize::Double), 0);
    let _ = guard.mmio_write(&mut host, Frame::Rd(0), r::CTLR, AccessSize::Word, 1);
    assert_eq!(guard.mmio_read(Frame::Rd(0), r::CTLR, AccessSize::Word), 0);
    let stats = guard.stats();
    assert_eq!(stats.denied_accesses, 3);
    assert_eq!((stats.its_exits, stats.rd_exits), (1, 2), "denied accesses are counted");
}
