//! The register traces of an unmodified Linux driver, replayed: no access is denied, and each read returns what hardware
//! returned, except for the listed differences.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{CFGI_ALL, Rig, SYNC, r};
use smmu_drv::AccessSize;
use smmu_model::Config;

/// One access of the trace.
struct Access {
    write: bool,
    offset: u32,
    size: AccessSize,
    value: u64,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// Lines `L index R|W offset size = value cpu phase`.
fn parse(text: &str) -> Vec<Access> {
    text.lines()
        .filter(|line| line.starts_with("L "))
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            Access {
                write: fields[2] == "W",
                offset: hex(fields[3]) as u32,
                size: AccessSize::from_bytes(fields[4].parse().unwrap()).unwrap(),
                value: hex(fields[6]),
            }
        })
        .collect()
}

/// Reads that differ from hardware: register, hardware's value, the emulated value, the reason.
fn difference(offset: u32, hardware: u64) -> Option<u64> {
    match offset {
        // S2P, VMID16 hidden; MSI shown.
        r::IDR0 => Some(hardware & !(1 | 1 << 18) | 1 << 13),
        // Queues limited to 2^14 commands and 2^7 events.
        r::IDR1 => Some(hardware & !(0x3ff << 16) | 7 << 16 | 14 << 21),
        // XNX hidden.
        r::IDR3 => Some(hardware & !(1 << 4)),
        // OAS limited to the 40-bit IPA space.
        r::IDR5 => Some(hardware & !7 | 2),
        _ => None,
    }
}

fn replay(text: &str) -> Rig {
    let mut rig = Rig::new(Config::qemu());
    let memory = |base: u64| common::RAM + (base & 0xff_ffff & !0xfff);
    let mut queue = 0;
    let mut prod = 0;
    let accesses = parse(text);
    assert!(accesses.len() > 390);
    for Access { write, offset, size, value } in accesses {
        if !write {
            let got = rig.smmu.mmio_read(&mut rig.host, offset, size);
            let expected = match (difference(offset, value), offset) {
                (Some(expected), _) => expected,
                // The queue is smaller, so the indices wrap earlier.
                (None, r::CMDQ_CONS) => value & 0x7fff,
                (None, _) => value,
            };
            assert_eq!(got, expected, "read of {offset:#x}");
            continue;
        }
        let value = match offset {
            // The trace's machine had 1 GiB; the structures move into the test's RAM.
            r::STRTAB_BASE | r::EVENTQ_BASE => value & !0xff_ffff_f000 | memory(value),
            r::CMDQ_BASE => {
                queue = memory(value);
                value & !0xff_ffff_f000 | queue
            }
            r::CMDQ_PROD => {
                // Linux ends every batch with CMD_SYNC.
                let new = (value & 0x7fff) as u32;
                while prod != new {
                    let slot = queue + u64::from(prod & 0x3fff) * 16;
                    prod = (prod + 1) & 0x7fff;
                    let cmd = if prod == new { SYNC } else { CFGI_ALL };
                    rig.store(slot, cmd[0]);
                    rig.store(slot + 8, cmd[1]);
                }
                u64::from(new)
            }
            _ => value,
        };
        match size {
            AccessSize::Double => rig.write64(offset, value),
            _ => rig.write(offset, value),
        }
    }
    assert_eq!(rig.smmu.stats().denied_accesses, 0);
    assert_eq!(rig.smmu.stats().illegal_commands, 0);
    assert_eq!(rig.hazards(), []);
    rig
}

#[test]
fn the_trace_of_linux_6_1_matches() {
    let rig = replay(include_str!("data/linux-6.1.192-smmu.trace"));
    assert!(rig.smmu.stats().host_commands > 300);
}

#[test]
fn the_trace_of_linux_6_12_matches() {
    let rig = replay(include_str!("data/linux-6.12.117-smmu.trace"));
    assert!(rig.smmu.stats().host_commands > 300);
}
