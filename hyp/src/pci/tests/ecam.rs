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
            assert_eq!(store(&bus, || true, NVME, offset, bytes), Answer::Denied);
            let plain = bytes < 8 && offset % bytes == 0;
            let expected = if plain { Answer::Hardware } else { Answer::Denied };
            assert_eq!(load(|| false, offset, bytes), expected, "{offset:#x} {bytes}");
            assert_eq!(store(&bus, || false, EDU, offset, bytes), expected, "{offset:#x} {bytes}");
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
                assert_eq!(store(&bus, || false, bridge, offset, bytes), expected, "{offset:#x} {bytes}");
            }
        }
        assert_eq!(load(|| false, 0x18, 4), Answer::Hardware);
    }
    // The same offsets are BARs of other functions; an absent function has none.
    assert_eq!(store(&bus, || false, EDU, 0x18, 4), Answer::Hardware);
    assert_eq!(store(&bus, || false, Rid::of(0, 30, 0), 0x18, 4), Answer::Denied);
}
