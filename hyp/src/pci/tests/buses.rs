//! Buses that the walk from the root does not reach.

use io_pgtable::Pa;

use super::machine::*;
use crate::boot_info::PhysRange;
use crate::boot_info::pci::PciHost;
use crate::boot_info::power::Switch;
use crate::pci::inspect::{Refusal, inspect};
use crate::pci::{Rid, Segment, numbering};

const BRIDGE: u32 = 1 << 16;

fn look(world: &World, segment: &Segment) -> Result<(), Refusal> {
    inspect(&world.bus, segment, NVME, &[]).map(drop)
}

fn function(world: &World, rid: Rid, header: u32) {
    world.bus.change(rid, |function| {
        function.set(0, 0x000c_1b36);
        function.set(0xc, header);
    });
}

/// Configuration space of buses 0 to 9, of which the tree names 0 to 3.
fn with_more_buses() -> PciHost {
    PciHost { ecam: PhysRange::new(Pa(0x40_1000_0000), 0xa0_0000).unwrap(), ..host() }
}

#[test]
fn t68_a_function_on_a_bus_that_no_bridge_leads_to_is_found_at_boot() {
    // A function on a second root bus, on a bus above the last one of the tree, and a device with function 7 only.
    for rid in [Rid::of(2, 0, 0), Rid::of(3, 31, 0), Rid::of(4, 0, 0), Rid::of(9, 31, 0), Rid::of(9, 0, 7)] {
        let world = World::new();
        function(&world, rid, 0);
        let mut segment = Segment::new(&with_more_buses()).unwrap();
        segment.enumerate(&mut world.bus.clone(), []);
        assert_eq!(look(&world, &segment), Err(Refusal::UnknownFunction), "{rid}");
    }
    let world = World::new();
    // Before the host has numbered the bridges.
    world.bus.change(PORT, |f| f.set(0x18, 0));
    world.bus.functions.borrow_mut().remove(&BEHIND);
    let mut segment = Segment::new(&with_more_buses()).unwrap();
    segment.enumerate(&mut world.bus.clone(), []);
    world.bus.change(PORT, |f| f.set(0x18, 0x0001_0100));
    assert_eq!(look(&world, &segment), Ok(()));
}

#[test]
fn t68_a_call_is_refused_if_a_function_is_on_an_unreachable_bus() {
    for rid in [Rid::of(2, 0, 0), Rid::of(4, 0, 0), Rid::of(9, 31, 0)] {
        let world = World::new();
        let mut segment = Segment::new(&with_more_buses()).unwrap();
        segment.enumerate(&mut world.bus.clone(), []);
        assert_eq!(look(&world, &segment), Ok(()));
        function(&world, rid, 0);
        assert_eq!(look(&world, &segment), Err(Refusal::BusNumbers), "{rid}");
    }
}

#[test]
fn t68_a_bridge_in_a_device_without_function_0_is_walked() {
    let world = World::new();
    let segment = world.segment();
    function(&world, Rid::of(0, 8, 5), BRIDGE);
    assert_eq!(look(&world, &segment), Err(Refusal::BusNumbers));
}

#[test]
fn t68_too_many_buses_are_refused() {
    for (count, answer) in [(numbering::MOST_BUSES, true), (numbering::MOST_BUSES + 1, false)] {
        let world = World::new();
        world.bus.functions.borrow_mut().clear();
        for bus in 0..u8::try_from(count).unwrap() - 1 {
            function(&world, Rid::of(bus, 0, 0), BRIDGE);
            world.bus.change(Rid::of(bus, 0, 0), |f| f.set(0x18, 0x0040_0000 | u32::from(bus + 1) << 8));
        }
        assert_eq!(numbering::check(&world.bus, (0, 0x40), 0x40).is_ok(), answer, "{count}");
    }
}

#[test]
fn t68_configuration_space_of_all_buses_is_unmapped() {
    let segment = Segment::new(&with_more_buses()).unwrap();
    assert_eq!(segment.area.range, with_more_buses().ecam);
    // More than there are bus numbers.
    let range = PhysRange::new(Pa(0x40_1000_0000), 0x1010_0000).unwrap();
    assert!(Segment::new(&PciHost { ecam: range, ..host() }).is_none());
}

#[test]
fn t68_the_call_is_refused_while_a_bridge_hides_functions() {
    // Held in reset; in D3.
    for (register, value) in [(0x3c, 0x40 << 16), (0x44, 3)] {
        let world = World::new();
        with_capabilities(&world.bus, PORT);
        let mut segment = Segment::new(&host()).unwrap();
        segment.enumerate(&mut world.bus.clone(), []);
        assert_eq!(look(&world, &segment), Ok(()));
        world.bus.change(PORT, |f| f.set(register, value));
        assert_eq!(look(&world, &segment), Err(Refusal::BusNumbers), "{register:#x}");
    }
}

#[test]
fn t68_functions_of_a_pci_host_that_can_be_switched_off_are_not_assigned() {
    assert!(Segment::new(&host()).is_some());
    assert!(Segment::new(&PciHost { switch: Switch::OtherNode, ..host() }).is_none());
}
