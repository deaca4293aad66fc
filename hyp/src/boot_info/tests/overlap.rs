//! Memory nodes over other ranges, and reservations without a usable address: row T64 of the attack catalogue.

use std::string::ToString;
use std::vec::Vec;
use std::{format, vec};

use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};

use super::virt::*;
use crate::boot_info::Platform;
use crate::boot_info::policy::{Verdict, Withheld};

fn memory(name: &str, base: u64, size: u64) -> DeviceTreeNode {
    node(name, &[("device_type", text(&["memory"])), ("reg", wide(&[base, size]))])
}

#[test]
fn t64_memory_over_registers_is_refused() {
    for (base, size, other) in [
        (0x905_0000, 0x2_0000, "/smmuv3@9050000"),
        (0x906_f000, 0x1000, "/smmuv3@9050000"),
        (0x800_0000, 0x1_0000, "/intc@8000000"),
        (0x80a_0000, 0x2_0000, "/intc@8000000"),
        (0x808_0000, 0x2_0000, "/intc@8000000/its@8080000"),
        (0x904_0000, 0x1000, "/pl011@9040000"),
        (0x900_0000, 0x1000, "/pl011@9000000"),
        (0x902_0000, 0x1000, "/fw-cfg@9020000"),
        (0xa00_0000, 0x1000, "/virtio_mmio@a000000"),
        (0x400_0000, 0x1000, "/flash@0"),
        (0xc00_0000, 0x1000, "/platform-bus@c000000"),
        (0x3000_0000, 0x1000, "/pcie@10000000"),
        (0x40_1000_0000, 0x1000, "/pcie@10000000"),
    ] {
        let dtb = with_node(memory("ram@1", base, size));
        refused_for(&dtb, &["/ram@1", other, "overlap", &format!("{base:#x}")]);
    }
    // Adjacent to it, memory is accepted.
    assert!(boot(&with_node(memory("ram@1", 0x908_0000, 0x1_0000))).is_ok());
}

/// A disabled memory node still describes memory: secure memory is described in this way.
#[test]
fn t64_disabled_memory_is_withheld() {
    let mut secure = memory("secram@e000000", 0xe00_0000, 0x100_0000);
    set(&mut secure, &[("status", text(&["disabled"])), ("secure-status", text(&["okay"]))]);
    assert_eq!(verdict(&with_node(secure.clone()), "/secram@e000000"), Verdict::Withheld(Withheld::Disabled));
    set(&mut secure, &[("reg", wide(&[0x2000_0000, 0x1000]))]);
    assert_eq!(verdict(&with_node(secure), "/pcie@10000000"), Verdict::Withheld(Withheld::SharesPage));
    let mut over = memory("secram@50000000", 0x5000_0000, 0x1000);
    set(&mut over, &[("status", text(&["reserved"]))]);
    refused_for(&with_node(over), &["/secram@50000000", "overlap"]);
}

fn reserved_memory(properties: &[(&str, Vec<u8>)], children: Vec<DeviceTreeNode>) -> Vec<u8> {
    let mut reserved = node("reserved-memory", properties);
    children.into_iter().for_each(|child| reserved.add_child(child));
    with_node(reserved)
}

fn usual_cells() -> Vec<(&'static str, Vec<u8>)> {
    vec![("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])]
}

fn tee(reg: Vec<u8>) -> DeviceTreeNode {
    node("tee@60000000", &[("reg", reg), ("no-map", vec![])])
}

#[test]
fn t64_a_reservation_that_cannot_be_translated_is_refused() {
    let whole = wide(&[0x6000_0000, 0x10_0000]);
    let cells_of = |a, s| vec![("#address-cells", cells(&[a])), ("#size-cells", cells(&[s]))];
    let with_ranges = |mut properties: Vec<(&'static str, Vec<u8>)>, ranges: Vec<u8>| {
        properties.push(("ranges", ranges));
        properties
    };
    for (properties, reg) in [
        // Without `ranges` they are not CPU addresses.
        (cells_of(2, 2), whole.clone()),
        // `ranges` that map other addresses, or only a part.
        (with_ranges(cells_of(2, 2), wide(&[0, 0, 0x1000_0000])), whole.clone()),
        (with_ranges(cells_of(2, 2), wide(&[0x6000_0000, 0x6000_0000, 0x8_0000])), whole.clone()),
        // Cell counts that are wrong or missing.
        (with_ranges(cells_of(2, 0), vec![]), wide(&[0x6000_0000])),
        (with_ranges(cells_of(3, 2), vec![]), cells(&[0, 0, 0x6000_0000, 0, 0x10_0000])),
        (with_ranges(cells_of(2, 1), vec![]), whole.clone()),
        (vec![("ranges", vec![])], whole.clone()),
        // Empty reservations, truncated numbers, ranges past the end of the address space.
        (usual_cells(), wide(&[0x6000_0000, 0])),
        (usual_cells(), vec![]),
        (usual_cells(), cells(&[0x6000_0000, 0x10_0000])),
        (usual_cells(), vec![1, 2, 3]),
        (usual_cells(), wide(&[u64::MAX - 0xfff, 0x1000])),
        (usual_cells(), wide(&[0x6000_0000, u64::MAX])),
    ] {
        for no_map in [true, false] {
            let mut child = tee(reg.clone());
            if !no_map {
                child.remove_property("no-map");
            }
            let dtb = reserved_memory(&properties, vec![child]);
            let message = refusal(&dtb);
            assert!(message.contains("/reserved-memory"), "{properties:x?} {reg:x?}: {message}");
        }
    }
}

#[test]
fn t64_a_reservation_without_an_address_is_refused_unless_the_host_places_it() {
    let refused = |properties: &[(&str, Vec<u8>)]| {
        refusal(&reserved_memory(&usual_cells(), vec![node("tee", properties)])).contains("/reserved-memory/tee")
    };
    assert!(refused(&[("no-map", vec![])]));
    assert!(refused(&[]));
    // Linux allocates it from its own memory.
    let chosen = node("pool", &[("size", wide(&[0x10_0000])), ("no-map", vec![])]);
    let (platform, ..) = (Platform::parse(&reserved_memory(&usual_cells(), vec![chosen])).map(|p| p.memory))
        .map_or_else(|error| panic!("{error}"), |memory| (memory, ()));
    assert_eq!(platform.no_map.total(), 0);
}

#[test]
fn t64_only_the_reservations_own_status_is_used() {
    let no_map = |dtb: &[u8]| Platform::parse(dtb).unwrap().memory.no_map.to_string();
    let with_status = |status: Vec<u8>| {
        let mut child = tee(wide(&[0x6000_0000, 0x1000]));
        set(&mut child, &[("status", status)]);
        reserved_memory(&usual_cells(), vec![child])
    };
    assert_eq!(no_map(&with_status(text(&["okay"]))), "0x60000000..0x60001000");
    assert_eq!(no_map(&with_status(text(&["disabled"]))), "none");
    // Linux checks the reservation's own status only.
    let mut above = usual_cells();
    above.push(("status", text(&["disabled"])));
    assert_eq!(no_map(&reserved_memory(&above, vec![tee(wide(&[0x6000_0000, 0x1000]))])), "0x60000000..0x60001000");
    for bad in [b"okay".to_vec(), text(&["okay", "okay"]), text(&["Okay"]), vec![], text(&[""])] {
        refused_for(&with_status(bad), &["/reserved-memory/tee@60000000", "status"]);
    }
}

#[test]
fn t64_a_reservation_listed_twice_counts_once() {
    let twice = |first: DeviceTreeNode, mut second: DeviceTreeNode| {
        set(&mut second, &[("reg", wide(&[0x6000_0800, 0x1000]))]);
        let mut renamed = node("again@60000800", &[]);
        use dtoolkit::{Node, Property};
        second.properties().for_each(|p| set(&mut renamed, &[(p.name(), p.value().to_vec())]));
        let dtb = reserved_memory(&usual_cells(), vec![first, renamed]);
        Platform::parse(&dtb).unwrap().memory.no_map.to_string()
    };
    let hard = tee(wide(&[0x6000_0000, 0x1000]));
    let mut soft = hard.clone();
    soft.remove_property("no-map");
    assert_eq!(twice(hard.clone(), hard.clone()), "0x60000000..0x60002000");
    assert_eq!(twice(hard.clone(), soft.clone()), "0x60000000..0x60001000");
    assert_eq!(twice(soft.clone(), hard), "0x60000000..0x60002000");
    assert_eq!(twice(soft.clone(), soft), "none");
}

#[test]
fn t64_a_partial_memreserve_entry_is_refused() {
    let with = |address, size| modified(|tree| tree.memory_reservations.push(MemoryReservation::new(address, size)));
    for (address, size) in [(u64::MAX, 2), (1 << 52, 0x1000), (0x6000_0000, 0), (0, u64::MAX)] {
        refused_for(&with(address, size), &["/memreserve/"]);
    }
    assert!(boot(&with(0, 0x1000)).is_ok());
}

/// No device may overlap a reservation.
#[test]
fn t64_nothing_is_given_over_a_no_map_reservation() {
    let over = |base: u64| reserved_memory(&usual_cells(), vec![tee(wide(&[base, 0x1000]))]);
    assert_eq!(verdict(&over(0x901_0000), "/pl031@9010000"), Verdict::Withheld(Withheld::SharesPage));
    assert_eq!(verdict(&over(0x2000_0000), "/pcie@10000000"), Verdict::Withheld(Withheld::SharesPage));
    refused_for(&over(0x80a_0000), &["/intc@8000000"]);
    refused_for(&over(IMAGE), &["EL2's image"]);
    refused_for(&over(DTB), &["EL2's device tree"]);
    refused_for(&over(KERNEL), &["kernel"]);
    refused_for(&over(RAMDISK), &["ramdisk"]);
}

/// After a crash kernel or UEFI, memory has owners that this tree does not describe.
#[test]
fn t64_memory_with_owners_outside_the_tree_is_refused() {
    for name in [
        "linux,usable-memory-range",
        "linux,elfcorehdr",
        "linux,uefi-system-table",
        "linux,uefi-mmap-start",
        "linux,kho-fdt",
    ] {
        let dtb = with_properties("/chosen", &[(name, wide(&[0x5000_0000, 0x1000_0000]))]);
        refused_for(&dtb, &["/chosen", name]);
    }
    let capped = wide(&[0x4000_0000, 0x1000_0000]);
    let dtb = with_properties("/memory@40000000", &[("linux,usable-memory", capped)]);
    refused_for(&dtb, &["/memory@40000000", "linux,usable-memory"]);
    let twice =
        modified(|tree: &mut DeviceTree| tree.root.add_child(node("chosen@1", &[("bootargs", text(&["pool=4M"]))])));
    refused_for(&twice, &["/chosen@1"]);
}

/// Memory that can be unplugged is memory; Linux and EL2 ignore memory nodes that are not children of the root.
#[test]
fn t64_memory_in_other_forms() {
    let mut pluggable = memory("memory@880000000", 0x8_8000_0000, 0x1000_0000);
    set(&mut pluggable, &[("hotpluggable", vec![]), ("numa-node-id", cells(&[1]))]);
    let dtb = with_node(pluggable.clone());
    assert_eq!(
        Platform::parse(&dtb).unwrap().memory.ram.to_string(),
        "0x40000000..0x80000000, 0x880000000..0x890000000"
    );
    let mut numa = node("numa", &usual_cells());
    numa.add_child(pluggable);
    let dtb = with_node(numa);
    assert_eq!(Platform::parse(&dtb).unwrap().memory.ram.to_string(), "0x40000000..0x80000000");
    assert_eq!(verdict(&dtb, "/numa/memory@880000000"), Verdict::Withheld(Withheld::Unknown));
}

/// `/chosen` may have `ranges`: modules and a framebuffer below it are still memory.
#[test]
fn t64_modules_and_framebuffers_below_chosen_are_memory() {
    let dtb = modified(|tree| {
        let chosen = tree.find_node_mut("/chosen").unwrap();
        set(chosen, &usual_cells());
        let screen = [("compatible", text(&["simple-framebuffer"])), ("reg", wide(&[0x4030_0000, 0x10_0000]))];
        chosen.add_child(node("framebuffer@40300000", &screen));
    });
    let (platform, _, layout) = boot(&dtb).unwrap();
    let screen = range(0x4030_0000, 0x10_0000);
    assert!(platform.memory.reserved.contains(&screen) && layout.host_ram.contains(&screen));
    assert!(!layout.pool.overlaps(&screen));
}
