//! Extended capabilities of functions that cannot be assigned to guests.

use super::machine::*;
use crate::pci::inspect::{Refusal, inspect};

fn with(capabilities: &[(u16, u32)]) -> Result<(), Refusal> {
    let world = World::new();
    let segment = world.segment();
    world.bus.change(NVME, |function| {
        for &(at, word) in capabilities {
            function.set(at, word);
        }
    });
    inspect(&world.bus, &segment, NVME, &[]).map(drop)
}

#[test]
fn t68_a_function_whose_bars_can_be_resized_is_refused() {
    assert_eq!(with(&[(0x100, 0x0001_0015)]), Err(Refusal::BarOutside));
    assert_eq!(with(&[(0x100, 0x1401_0001), (0x140, 0xffc1_0003), (0xffc, 0x0001_0015)]), Err(Refusal::BarOutside));
    assert_eq!(with(&[(0x100, 0x1401_0001), (0x140, 0x0001_0003)]), Ok(()));
    assert_eq!(with(&[(0x100, u32::MAX)]), Ok(()), "no extended configuration space");
}

#[test]
fn t68_a_function_with_virtual_functions_is_refused() {
    assert_eq!(with(&[(0x100, 0x1401_0001), (0x140, 0x0001_0010)]), Err(Refusal::SharedDevice));
}

#[test]
fn t68_a_circular_list_of_extended_capabilities_is_refused() {
    assert_eq!(with(&[(0x100, 0x1001_0001)]), Err(Refusal::SharedDevice), "a circle");
    assert_eq!(with(&[(0x100, 0x0401_0001)]), Err(Refusal::SharedDevice), "into the header");
}
