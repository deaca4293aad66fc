//! Every offset of configuration space at every size, of a function that is away and of others.

use super::machine::*;
use crate::pci::Rid;
use crate::pci::ecam::{Answer, load, store};

#[test]
fn t68_a_function_that_is_away_is_absent() {
    let bus = World::new().bus;
    for offset in 0..4096 {
        for bytes in [1, 2, 4, 8] {
            assert_eq!(load(|| true, offset, bytes), Answer::Denied);
            assert_eq!(store(&bus, || true, NVME, (offset, bytes), 0), Answer::Denied);
            let plain = bytes < 8 && offset % bytes == 0;
            let expected = if plain { Answer::Hardware } else { Answer::Denied };
            assert_eq!(load(|| false, offset, bytes), expected, "{offset:#x} {bytes}");
            assert_eq!(store(&bus, || false, EDU, (offset, bytes), u64::MAX), expected, "{offset:#x} {bytes}");
        }
    }
}

#[test]
fn t68_the_bus_numbers_of_bridges_do_not_change() {
    let bus = World::new().bus;
    bus.change(Rid::of(0, 6, 0), |function| function.set(0xc, 2 << 16));
    for bridge in [PORT, Rid::of(0, 6, 0)] {
        for offset in 0..4096_u16 {
            for bytes in [1, 2, 4_u16] {
                let numbers = offset < 0x1c && 0x18 < offset + bytes;
                let denied = numbers || offset % bytes != 0;
                let expected = if denied { Answer::Denied } else { Answer::Hardware };
                assert_eq!(store(&bus, || false, bridge, (offset, bytes), 0), expected, "{offset:#x} {bytes}");
            }
        }
        assert_eq!(load(|| false, 0x18, 4), Answer::Hardware);
    }
    // The same offsets are BARs of other functions; an absent function has none.
    assert_eq!(store(&bus, || false, EDU, (0x18, 4), 0), Answer::Hardware);
    assert_eq!(store(&bus, || false, Rid::of(0, 30, 0), (0x18, 4), 0), Answer::Denied);
}

#[test]
fn t68_no_store_resets_functions_behind_a_bridge() {
    let bus = World::new().bus;
    for rid in [PORT, EDU] {
        with_capabilities(&bus, rid);
    }
    bus.change(PORT, |function| function.set(0x100, 0x0001_001d));
    // Secondary bus reset; D1, D2, D3; link disable; slot power off; DPC's trigger enable and its software trigger.
    let conventional = [(0x3e_u16, 0x40_u64), (0x44, 1), (0x44, 2), (0x44, 3), (0x90, 0x10), (0x98, 0x400)];
    for (at, mask) in conventional.into_iter().chain([(0x106, 1), (0x106, 2), (0x106, 0x40)]) {
        for (offset, bytes) in [(at & !3, 4), (at & !1, 2), (at, 1), (at + 1, 1)] {
            let shifted = if at >= offset { mask << (8 * (at - offset)) } else { mask >> 8 };
            // Bytes above those that are stored do not count.
            let value = shifted | !0 << (8 * bytes);
            let set = value & ((1 << (8 * bytes)) - 1) != 0;
            let expected = if set { Answer::Denied } else { Answer::Hardware };
            assert_eq!(store(&bus, || false, PORT, (offset, bytes), value), expected, "{offset:#x} {bytes} {mask:#x}");
            assert_eq!(store(&bus, || false, EDU, (offset, bytes), value), Answer::Hardware, "no bridge");
        }
    }
    // The host can write the other bits of these registers.
    for (offset, value) in
        [(0x3c, !(0x40_u64 << 16)), (0x44, !3), (0x90, !0x10), (0x98, !0x400), (0x104, !(0x43 << 16))]
    {
        assert_eq!(store(&bus, || false, PORT, (offset, 4), value & 0xffff_ffff), Answer::Hardware, "{offset:#x}");
    }
    // A circular list may contain any capability.
    bus.change(PORT, |function| function.set(0x100, 0x1001_0001));
    assert_eq!(store(&bus, || false, PORT, (0x104, 4), 0), Answer::Denied);
}
