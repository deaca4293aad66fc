//! Starts from UEFI: EL2 uses only the memory that the firmware reserved.

use std::string::{String, ToString};
use std::vec::Vec;

use super::virt::*;
use crate::boot_info::layout::Start;
use crate::boot_info::{Entry, MmioPolicy, PhysRange, Platform, Request, layout, plan};
use hand_over::OWN_MEMORY;

const OWN: u64 = 0x7c00_0000;
const OWN_SIZE: u64 = 48 * MIB;
const RECORD: u64 = 0x1000;

/// The tree without boot modules, with `own` as the property of `/chosen`.
fn tree(own: Vec<u8>) -> Vec<u8> {
    modified(|tree| {
        let chosen = tree.root.child_mut("chosen").unwrap();
        for module in ["module@0x49000000", "module@0x4d000000"] {
            chosen.remove_child(module).unwrap();
        }
        set(chosen, &[(OWN_MEMORY, own)]);
    })
}

fn request(tree: &[u8]) -> Request<'static> {
    let image = range(OWN, 0x18_4000);
    let dtb = range(image.end().0, tree.len() as u64);
    let record = range(dtb.page_rounded().end().0, RECORD);
    Request { image, dtb, record, pool_size: 32 * MIB, kernel_header: None }
}

/// The layout after the check of the plan, or the message.
fn planned(tree: &[u8], change: impl FnOnce(&mut Request<'_>)) -> Result<layout::Layout, String> {
    let mut request = request(tree);
    change(&mut request);
    let platform = Platform::parse(tree).map_err(|error| error.to_string())?;
    let policy = MmioPolicy::decide(&platform).map_err(|error| error.to_string())?;
    let layout = layout::plan(&platform, &request).map_err(|error| error.to_string())?;
    plan::check(&platform, &policy, &layout).map_err(|error| error.to_string())?;
    Ok(layout)
}

#[test]
fn t70_the_host_gets_all_memory_except_the_reserved_memory() {
    let tree = tree(wide(&[OWN, OWN_SIZE]));
    let layout = planned(&tree, |_| {}).unwrap();
    assert_eq!(layout.start, Start::Firmware);
    assert_eq!(layout.image.base().0, OWN);
    assert_eq!(layout.image.end(), layout.pool.base());
    assert_eq!(layout.pool.end().0, OWN + OWN_SIZE);
    assert!(layout.image.end() >= request(&tree).record.end());
    assert!(!layout.host_ram.overlaps(&range(OWN, OWN_SIZE)));
    assert_eq!(layout.host_ram.total(), (1 << 30) - OWN_SIZE);
}

#[test]
fn a_start_from_uefi_needs_no_kernel() {
    let tree = tree(wide(&[OWN, OWN_SIZE]));
    let platform = Platform::parse(&tree).unwrap();
    assert_eq!(platform.entry, Entry::Uefi(range(OWN, OWN_SIZE)));
    assert!(platform.modules().is_none());
}

#[test]
fn t70_memory_that_is_only_partly_reserved_is_refused() {
    for own in [
        wide(&[OWN, 0]),
        wide(&[OWN + 1, OWN_SIZE]),
        wide(&[OWN, OWN_SIZE + 1]),
        wide(&[u64::MAX - 0xfff, OWN_SIZE]),
        wide(&[OWN, OWN_SIZE, 0]),
        wide(&[OWN]),
        Vec::new(),
        // After the end of memory.
        wide(&[0x7fff_f000, 0x2000]),
        // Registers.
        wide(&[0x0900_0000, 0x1000]),
    ] {
        assert!(Platform::parse(&tree(own.clone())).is_err(), "{own:x?}");
    }
}

#[test]
fn t70_image_tree_and_record_outside_the_reserved_memory_are_refused() {
    let tree = tree(wide(&[OWN, OWN_SIZE]));
    let outside = |change: fn(&mut Request<'_>)| planned(&tree, change).unwrap_err();
    assert!(outside(|r| r.image = range(OWN - 0x1000, 0x2000)).contains("EL2's image"));
    assert!(outside(|r| r.dtb = range(OWN + OWN_SIZE, 0x1000)).contains("EL2's device tree"));
    assert!(outside(|r| r.record = PhysRange::default()).contains("record"));
    assert!(outside(|r| r.record = r.dtb).contains("overlaps"));
}

#[test]
fn reserved_memory_without_room_for_the_pool_is_refused() {
    let tree = tree(wide(&[OWN, 16 * MIB]));
    assert!(planned(&tree, |_| {}).unwrap_err().contains("pool"));
}

#[test]
fn a_kernel_module_in_a_start_from_uefi_is_refused() {
    let tree = modified(|tree| set(tree.root.child_mut("chosen").unwrap(), &[(OWN_MEMORY, wide(&[OWN, OWN_SIZE]))]));
    let error = Platform::parse(&tree).unwrap_err().to_string();
    assert!(error.contains("although firmware"), "{error}");
}

#[test]
fn t70_a_reservation_in_el2s_memory_is_refused() {
    let own = wide(&[OWN, OWN_SIZE]);
    let tree = modified(|tree| {
        let chosen = tree.root.child_mut("chosen").unwrap();
        for module in ["module@0x49000000", "module@0x4d000000"] {
            chosen.remove_child(module).unwrap();
        }
        set(chosen, &[(OWN_MEMORY, own)]);
        let mut reserved = node(
            "reserved-memory",
            &[("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", Vec::new())],
        );
        reserved.add_child(node("tee@7d000000", &[("reg", wide(&[OWN + 0x100_0000, 0x1000]))]));
        tree.root.add_child(reserved);
    });
    assert!(Platform::parse(&tree).is_err());
}
