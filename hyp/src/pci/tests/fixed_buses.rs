//! Segments whose bus numbers the host must not change.

use super::machine::*;
use crate::pci::Rid;
use crate::pci::ecam::{Answer, store as while_away};
use crate::pci::fixed_buses::{BusNumberError, check, store};

/// The buses that a bridge leads to.
fn numbered(secondary: u32, subordinate: u32) -> Bus {
    let bus = World::new().bus;
    bus.change(PORT, |function| function.set(0x18, secondary << 8 | subordinate << 16));
    bus
}

#[test]
fn t64_a_bridge_to_a_bus_outside_is_found_at_boot() {
    assert_eq!(check(&World::new().bus, (0, 3)), Ok(()));
    let outside = |rid| Err(BusNumberError::Outside(rid));
    for (numbers, found) in [
        ((1, 1), Ok(())),
        ((1, 3), Ok(())),
        ((0, 0), Ok(())),
        ((1, 4), outside(PORT)),
        ((4, 4), outside(PORT)),
        ((0, 4), outside(PORT)),
        ((4, 0), outside(PORT)),
    ] {
        assert_eq!(check(&numbered(numbers.0, numbers.1), (0, 3)), found, "{numbers:?}");
    }
    assert_eq!(check(&numbered(1, 1), (0, 0)), outside(PORT));
    // If bus 0 is not covered, a bridge without numbers is refused; a bridge to an outside bus is reported first.
    let bus = Bus::default();
    for (rid, numbers) in [(Rid::of(4, 0, 0), 0), (Rid::of(4, 1, 0), 0x0005_0500)] {
        bus.change(rid, |function| {
            function.set(0, 0x1234_1234);
            function.set(0xc, 1 << 16);
            function.set(0x18, numbers);
        });
    }
    assert_eq!(check(&bus, (4, 5)), Err(BusNumberError::Unnumbered(Rid::of(4, 0, 0))));
    assert_eq!(check(&bus, (4, 4)), outside(Rid::of(4, 1, 0)));
    let bus = World::new().bus;
    bus.change(EDU, |function| function.set(0xc, 2 << 16));
    assert_eq!(check(&bus, (0, 3)), outside(EDU), "a bridge to CardBus");
    let behind = World::new().bus;
    behind.change(BEHIND, |function| {
        function.set(0xc, 1 << 16);
        function.set(0x18, 9 << 8 | 9 << 16);
    });
    assert_eq!(check(&behind, (0, 3)), outside(BEHIND), "a bridge behind a bridge");
}

/// SR-IOV at 0x140.
fn virtual_functions(control: u32) -> Bus {
    let bus = World::new().bus;
    bus.change(NVME, |function| {
        function.set(0x100, 0x1401_0001);
        function.set(0x140, 0x0001_0010);
        function.set(0x148, control);
    });
    bus
}

#[test]
fn t64_virtual_functions_are_found_at_boot_and_cannot_be_enabled() {
    assert_eq!(check(&virtual_functions(0x18), (0, 3)), Ok(()));
    assert_eq!(check(&virtual_functions(0x19), (0, 3)), Err(BusNumberError::Outside(NVME)));
    let bus = virtual_functions(0);
    for offset in 0x100..0x1000_u16 {
        for bytes in [1, 2, 4_u16].into_iter().filter(|bytes| offset.is_multiple_of(*bytes)) {
            let answer = |value| store(&bus, || false, NVME, (offset, bytes), value);
            let denied = if offset == 0x148 { Answer::Denied } else { Answer::Hardware };
            assert_eq!(answer(0xffff_ffff), denied, "{offset:#x} {bytes}");
            assert_eq!(answer(0xffff_fffe), Answer::Hardware, "{offset:#x} {bytes}");
        }
    }
    let endless = World::new().bus;
    endless.change(NVME, |function| function.set(0x100, 0x1001_0001));
    assert_eq!(check(&endless, (0, 3)), Err(BusNumberError::Outside(NVME)));
    assert_eq!(store(&endless, || false, NVME, (0x100, 4), 0), Answer::Denied);
}

#[test]
fn t64_stores_denied_while_a_function_is_away_are_always_denied() {
    let bus = World::new().bus;
    for rid in [NVME, PORT, Rid::of(0, 30, 0)] {
        for offset in 0..0x100_u16 {
            for bytes in [1, 2, 4, 8] {
                for away in [false, true] {
                    let expected = while_away(&bus, || away, rid, (offset, bytes), 0);
                    assert_eq!(store(&bus, || away, rid, (offset, bytes), 0), expected, "{rid} {offset:#x} {bytes}");
                }
            }
        }
    }
}
