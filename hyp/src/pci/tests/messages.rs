//! Capabilities that the host enabled before a guest gets the function.

use super::machine::*;
use crate::boot_info::cmdline::PciKind;
use crate::pci::{DeviceId, Devices, Error};

/// Capabilities that send messages: the offset of the control word, its value before, and the required value after.
const CONTROLS: [(u16, u32, u32); 6] = [
    (0x44, 0x0000_0003, 0x0000_0000),  // Power management: D3hot.
    (0x50, 0x0081_6005, 0x0080_6005),  // MSI.
    (0x60, 0x8003_0011, 0x0003_0011),  // MSI-X.
    (0x104, 0x8000_0020, 0x0000_0020), // ATS.
    (0x114, 0x0000_0001, 0x0000_0000), // PRI.
    (0x124, 0x0007_0f00, 0x0000_0f00), // PASID.
];

#[test]
fn t68_message_capabilities_that_the_host_enabled_are_disabled() {
    let mut world = World::new();
    world.bus.change(EDU, |function| {
        function.set(4, 0x0010_0006);
        function.set(0x34, 0x40);
        for (at, word) in [(0x40, 0x5001), (0x100, 0x1101_000f), (0x110, 0x1201_0013), (0x120, 0x0001_001b)] {
            function.set(at, word);
        }
        for (at, set, _) in CONTROLS {
            function.set(at, set);
        }
    });
    let segment = world.segment();
    let id = DeviceId { segment: 7, rid: EDU };
    let mut devices = Devices::new();
    devices.allow_without_reset(&[PciKind { vendor: 0x1234, device: 0x11e8 }]);
    assert_eq!(devices.assign(&mut world, &segment, id, 0), Err(Error::Busy(500_000)));
    world.bus.now.set(500_000);
    assert_eq!(devices.assign(&mut world, &segment, id, 0), Ok(()));
    for (at, _, left) in CONTROLS {
        assert_eq!(world.bus.get(EDU, at), left, "{at:#x}");
    }
}

#[test]
fn t68_a_function_whose_messages_cannot_be_disabled_is_not_assigned() {
    let mut world = World::new();
    world.bus.change(EDU, |function| {
        function.set(4, 0x0010_0006);
        function.set(0x34, 0x50);
        function.set(0x50, 0x0001_0005);
        function.masks.insert(0x50, 0);
    });
    let segment = world.segment();
    let id = DeviceId { segment: 7, rid: EDU };
    let mut devices = Devices::new();
    devices.allow_without_reset(&[PciKind { vendor: 0x1234, device: 0x11e8 }]);
    assert!(devices.assign(&mut world, &segment, id, 0).is_err());
    world.bus.now.set(500_000);
    assert_eq!(devices.assign(&mut world, &segment, id, 0), Err(Error::Io));
    assert_eq!(world.owner(0x1010), Owner::Nobody);
}
