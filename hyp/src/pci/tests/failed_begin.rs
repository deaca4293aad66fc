//! A first call in which two steps fail.

use std::vec::Vec;

use super::machine::{Step::*, *};
use crate::pci::{DeviceId, Devices, Error, Refusal};

#[test]
fn t68_a_function_with_registers_still_mapped_for_the_host_can_only_be_returned() {
    let mut world = World::new();
    world.bus.change(NVME, |function| {
        function.set(0x18, u32::try_from(BUS_WINDOW).unwrap() + 0x8000);
        function.masks.insert(0x18, 0xffff_f000);
    });
    let segment = world.segment();
    let id = DeviceId { segment: 7, rid: NVME };
    let mut devices = Devices::new();
    // Taking the second BAR fails, and so does giving back the first.
    world.fail = Vec::from([2, 3]);
    assert_eq!(devices.assign(&mut world, &segment, id, 0), Err(Error::NoMemory));
    assert_eq!(world.steps, [TakeConfig, TakeRegisters, TakeRegisters, GiveRegisters]);
    assert_eq!(world.taken.len(), 1);
    for _ in 0..3 {
        assert_eq!(devices.assign(&mut world, &segment, id, 0), Err(Error::Refused(Refusal::NotTheHosts)));
        world.bus.now.set(world.bus.now.get() + 1_000_000);
    }
    for _ in 0..3 {
        if devices.return_to_host(&mut world, &segment, id).is_ok() {
            break;
        }
        world.bus.now.set(world.bus.now.get() + 1_000_000);
    }
    assert!(world.config && world.taken.is_empty() && devices.away().is_empty());
    assert_eq!(world.alive[&0], 0);
}
