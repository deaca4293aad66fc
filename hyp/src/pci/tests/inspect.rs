//! One test for each refusal, and for the functions that boot finds.

use std::vec::Vec;

use io_pgtable::{Ipa, Pa};

use super::machine::*;
use crate::boot_info::cmdline::PciKind;
use crate::boot_info::pci::IdRange;
use crate::pci::config::ConfigSpace;
use crate::pci::inspect::{Function as Found, Refusal, inspect};
use crate::pci::reset::Reset;
use crate::pci::segment::{DeviceId, MOST_OTHERS, Others};
use crate::pci::{Rid, Segment, Stream, bars, numbering};

const EDU_KIND: PciKind = PciKind { vendor: 0x1234, device: 0x11e8 };

fn look(world: &World, segment: &Segment, rid: Rid) -> Result<Found, Refusal> {
    inspect(&world.bus, segment, rid, &[])
}

/// The result for the NVMe after the machine was changed after boot.
fn after(change: impl FnOnce(&World)) -> Result<Found, Refusal> {
    let world = World::new();
    let segment = world.segment();
    change(&world);
    look(&world, &segment, NVME)
}

#[test]
fn a_function_with_a_reset_and_page_aligned_bars_can_be_assigned() {
    let found = after(|_| ()).unwrap();
    assert_eq!(found.reset, Reset::Express(EXPRESS));
    assert_eq!(found.stream, Stream { smmu: 0, sid: 0x1008 });
    assert_eq!(found.registers.len(), 1);
    assert_eq!((found.registers[0].base(), found.registers[0].size()), (Pa(CPU_WINDOW), 0x4000));
    assert_eq!((found.saved.command, found.saved.bars[0]), (6, 0x1000_0004));
}

#[test]
fn bars_are_measured_with_decoding_off_and_restored() {
    let world = World::new();
    let before: Vec<u32> = (0..0x40).step_by(4).map(|at| world.bus.get(NVME, at)).collect();
    let segment = world.segment();
    assert!((0..0x40).step_by(4).map(|at| world.bus.get(NVME, at)).eq(before));
    let sizes = |rid| segment.known(rid).unwrap().sizes;
    assert_eq!((sizes(NVME).bars, sizes(NVME).rom), ([0x4000, 0, 0, 0, 0, 0], 0));
    assert_eq!((sizes(EDU).bars[0], sizes(PORT).bars), (0x10_0000, [0; 6]));
    assert_eq!(segment.known(BEHIND), None);
    let port = bars::ranges(&world.bus, PORT, &sizes(PORT));
    assert_eq!(port.as_slice(), [bars::BusRange { base: 0x1020_0000, size: 0x10_0000 }]);
}

#[test]
fn t68_only_single_functions_on_the_root_bus_are_accepted() {
    let world = World::new();
    let mut segment = world.segment();
    let kinds = [EDU_KIND];
    assert_eq!(look(&world, &segment, BEHIND), Err(Refusal::NotOnRootBus));
    assert_eq!(look(&world, &segment, PORT), Err(Refusal::NotAnEndpoint));
    assert_eq!(look(&world, &segment, Rid::of(0, 9, 0)), Err(Refusal::UnknownFunction));
    assert_eq!(look(&world, &segment, EDU), Err(Refusal::NoReset));
    assert_eq!(inspect(&world.bus, &segment, EDU, &kinds).map(|found| found.reset), Ok(Reset::Quiet));
    // A function that appears after boot, and a function that replaces another.
    let late = Rid::of(0, 5, 0);
    let copy = world.bus.functions.borrow()[&NVME].clone();
    world.bus.change(late, |function| *function = copy);
    assert_eq!(look(&world, &segment, late), Err(Refusal::UnknownFunction));
    assert_eq!(after(|world| world.bus.change(NVME, |f| f.set(0, 0x5678_1234))), Err(Refusal::UnknownFunction));
    segment.functions = None;
    assert_eq!(look(&world, &segment, NVME), Err(Refusal::UnknownFunction));
}

#[test]
fn t68_a_device_with_another_function_is_refused() {
    assert_eq!(after(|world| world.bus.change(NVME, |f| f.set(0xc, 1 << 23))), Err(Refusal::SharedDevice));
    for other in 1..8 {
        let shared = after(|world| world.bus.change(Rid::of(0, 1, other), |f| f.set(0, 1)));
        assert_eq!(shared, Err(Refusal::SharedDevice), "function {other}");
    }
}

#[test]
fn t68_a_stream_shared_with_another_requester_is_refused() {
    let world = World::new();
    let mut segment = world.segment();
    segment.ids[0].count = 0x100;
    assert!(look(&world, &segment, NVME).is_ok());
    segment.ids.push(IdRange { rid: 0x100, count: 0x100, smmu: 1, sid: 0x1000 });
    assert!(look(&world, &segment, NVME).is_ok(), "the stream of another SMMU");
    segment.ids.push(IdRange { rid: 0x200, count: 0x100, smmu: 0, sid: 0xf09 });
    assert_eq!(look(&world, &segment, NVME), Err(Refusal::SharedStream));
    segment.ids[2].sid = 0x1009;
    assert!(look(&world, &segment, NVME).is_ok(), "the next stream");
    let other = |smmu, sid| Others { first: Stream { smmu, sid }, count: 1 };
    for (others, answer) in [
        (Vec::from([Some(other(0, 0x1009)), Some(other(1, 0x1008)), Some(other(0, 0x1007))]), Ok(())),
        (Vec::from([Some(other(0, 0x1008))]), Err(Refusal::SharedStream)),
        (Vec::from([None]), Err(Refusal::UnknownFunction)),
        (Vec::from([Some(other(0, 0)); MOST_OTHERS + 1]), Err(Refusal::UnknownFunction)),
    ] {
        let mut segment = Segment::new(&host()).unwrap();
        segment.enumerate(&mut world.bus.clone(), others);
        assert_eq!(look(&world, &segment, NVME).map(drop), answer);
    }
    segment.ids[0].count = 8;
    assert_eq!(look(&world, &segment, NVME), Err(Refusal::SharedStream), "no stream at all");
    let phantoms = after(|world| world.bus.change(NVME, |f| f.set(EXPRESS + 4, 1 << 28 | 1 << 3)));
    assert_eq!(phantoms, Err(Refusal::SharedStream));
}

#[test]
fn a_reset_is_found_or_refused() {
    assert_eq!(after(|world| world.bus.change(NVME, |f| f.set(EXPRESS + 4, 0))), Err(Refusal::NoReset));
    // Advanced Features, with both bits, after another capability.
    let af = |flags: u32| {
        after(|world| {
            world.bus.change(NVME, |f| {
                f.set(EXPRESS + 4, 0);
                f.set(EXPRESS, 0x4410);
                f.set(0x44, 0x0613 | flags << 24);
            });
        })
    };
    assert_eq!(af(3).map(|found| found.reset), Ok(Reset::Af(0x44)));
    assert_eq!([af(0), af(1), af(2)], [(); 3].map(|()| Err(Refusal::NoReset)));
    // A circular list, and an empty list.
    assert_eq!(after(|world| world.bus.change(NVME, |f| f.set(EXPRESS, 0x8005))), Err(Refusal::NoReset));
    assert_eq!(after(|world| world.bus.change(NVME, |f| f.set(4, 6))), Err(Refusal::NoReset));
}

#[test]
fn t68_bars_in_wrong_places_are_refused() {
    let moved = |bar: u64| {
        after(|world| {
            world.bus.change(NVME, |f| {
                f.set(0x10, u32::try_from(bar & 0xffff_fff0).unwrap() | 4);
                f.set(0x14, u32::try_from(bar >> 32).unwrap());
            });
        })
        .map(|found| found.registers[0].base().0)
    };
    assert_eq!(moved(BUS_WINDOW + 0x8000), Ok(CPU_WINDOW + 0x8000));
    assert_eq!(moved(BUS_WINDOW + 0xff_c000), Ok(CPU_WINDOW + 0xff_c000));
    for outside in [0, BUS_WINDOW - 0x4000, BUS_WINDOW + 0x100_0000, BUS_WINDOW + 0xff_e000, 1 << 40, u64::MAX << 14] {
        assert_eq!(moved(outside), Err(Refusal::BarOutside), "{outside:#x}");
    }
    for over in [EDU_BAR, EDU_BAR + 0xf_c000, EDU_BAR - 0x2000, 0x1020_0000, 0x102f_c000] {
        assert_eq!(moved(over), Err(Refusal::BarOverlaps), "{over:#x}");
    }
    assert_eq!(moved(0x1030_0000), Ok(CPU_WINDOW + 0x30_0000), "above the window of the root port");
    let allocated = after(|world| {
        world.bus.change(NVME, |f| {
            f.set(EXPRESS, 0x4410);
            f.set(0x44, 0x14);
        });
    });
    assert_eq!(allocated, Err(Refusal::BarOutside), "addresses outside the BARs");
    let world = World::new();
    let mut segment = world.segment();
    for (size, answer) in [(0x800, Err(Refusal::BarNotPages)), (0x1000, Ok(())), (0x2000, Ok(()))] {
        segment.functions.as_mut().unwrap()[0].sizes.bars[0] = size;
        assert_eq!(look(&world, &segment, NVME).map(drop), answer, "{size:#x}");
    }
}

#[test]
fn t68_bridges_with_conflicting_bus_numbers_are_refused() {
    let numbers = |numbers: u32| after(|world| world.bus.change(PORT, |f| f.set(0x18, numbers))).map(drop);
    assert_eq!(numbers(0x0003_0100), Ok(()));
    // Without numbers, with the root's number, in the wrong order, above the last bus.
    for bad in [0, 0x0001_0000, 0x0003_0000, 0x0001_0200, 0x0004_0100, 0x0004_0400] {
        assert_eq!(numbers(bad), Err(Refusal::BusNumbers), "{bad:#x}");
    }
    let second = |upper: u32, lower: Option<u32>| {
        after(|world| {
            let bridge = world.bus.functions.borrow()[&PORT].clone();
            world.bus.change(PORT, |f| f.set(0x18, upper));
            let below = if lower.is_some() { Rid::of(1, 4, 0) } else { Rid::of(0, 4, 0) };
            world.bus.change(below, |f| {
                *f = bridge;
                f.set(0x18, lower.unwrap_or(0x0002_0200));
            });
        })
        .map(drop)
    };
    assert_eq!(second(0x0001_0100, None), Ok(()));
    assert_eq!(second(0x0002_0100, None), Err(Refusal::BusNumbers), "two ports with one bus");
    assert_eq!(second(0x0003_0100, Some(0x0003_0200)), Ok(()));
    for lower in [0, 0x0001_0000, 0x0001_0100, 0x0003_0100, 0x0004_0200] {
        assert_eq!(second(0x0003_0100, Some(lower)), Err(Refusal::BusNumbers), "{lower:#x} below");
    }
    assert_eq!(after(|world| world.bus.change(Rid::of(0, 6, 0), |f| f.set(0xc, 2 << 16))), Err(Refusal::BusNumbers));
    assert_eq!(numbering::check(&World::new().bus, (0, 3), 3), Ok(()));
}

#[test]
fn device_numbers_and_ecam_addresses_decode() {
    assert_eq!(DeviceId::of(0x7_0108), Some(DeviceId { segment: 7, rid: Rid::of(1, 1, 0) }));
    assert_eq!((DeviceId::of(1 << 48), DeviceId::of(u64::MAX)), (None, None));
    let area = World::new().segment().area;
    assert_eq!(area.address(NVME, 0xffc), Some(Pa(0x40_1000_8ffc)));
    assert_eq!(area.address(Rid::of(3, 31, 7), 0), Some(Pa(0x40_103f_f000)));
    assert_eq!((area.address(Rid::of(4, 0, 0), 0), area.address(NVME, 0x1000)), (None, None));
    assert_eq!(area.register(Ipa(0x40_1000_8010)), Some((NVME, 0x10)));
    assert_eq!((area.register(Ipa(0x40_0fff_ffff)), area.register(Ipa(0x40_1040_0000))), (None, None));
    let numbers: Vec<u64> = Refusal::ALL.iter().map(|refusal| refusal.number()).collect();
    assert!(numbers.into_iter().eq(1..=12));
    assert_eq!(World::new().bus.read32(Rid::of(0, 30, 0), 0), u32::MAX);
}
