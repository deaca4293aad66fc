use std::string::ToString;
use std::vec::Vec;
use std::{format, vec};

use io_pgtable::Pa;

use super::virt::*;
use crate::boot_info::image::{HEADER_SIZE, PageSize};
use crate::boot_info::{Layout, Platform, Request, layout};

fn plan(dtb: &[u8], modify: impl FnOnce(&mut Request<'_>)) -> Result<Layout, std::string::String> {
    let header = kernel_header(KERNEL_SIZE + 0x40_0000);
    let mut request = request(dtb, &header);
    modify(&mut request);
    let platform = Platform::parse(dtb).unwrap();
    layout::plan(&platform, &request).map_err(|e| e.to_string())
}

fn plan_with_header(dtb: &[u8], header: [u8; HEADER_SIZE]) -> Result<Layout, std::string::String> {
    let platform = Platform::parse(dtb).unwrap();
    layout::plan(&platform, &request(dtb, &header)).map_err(|e| e.to_string())
}

#[test]
fn the_pool_follows_the_image_up_to_a_block_boundary() {
    let dtb = modified(|_| {});
    let plan = plan(&dtb, |_| {}).unwrap();
    assert_eq!(plan.image, range(IMAGE, 0x8_4000));
    assert_eq!(plan.pool.base(), plan.image.end());
    assert!(plan.pool.size() >= 32 * MIB && plan.pool.end().0.is_multiple_of(2 * MIB));
    assert_eq!(plan.host_ram.to_string(), format!("0x40000000..0x40200000, {:#x}..0x80000000", plan.pool.end()));
    assert_eq!(plan.kernel().unwrap().entry, Pa(KERNEL));
    assert_eq!(plan.scrub, range(DTB, dtb.len() as u64));
    assert_eq!(plan.kernel().unwrap().header.page_size, PageSize::Size4K);
    assert!(
        plan.host_ram.contains(&plan.kernel().unwrap().dtb) && plan.kernel().unwrap().dtb.base().0.is_multiple_of(8)
    );
    let taken =
        [plan.image, plan.pool, plan.scrub, range(KERNEL, KERNEL_SIZE + 0x40_0000), range(RAMDISK, RAMDISK_SIZE)];
    assert!(taken.iter().all(|t| !t.overlaps(&plan.kernel().unwrap().dtb)));
}

#[test]
fn a_pool_that_does_not_fit_next_to_the_image_gets_other_memory() {
    let dtb = modified(|_| {});
    let plan = plan(&dtb, |r| r.pool_size = 256 * MIB).unwrap();
    assert_eq!(plan.pool, range(0x4d20_0000, 256 * MIB));
    assert_eq!(plan.host_ram.iter().count(), 3);
}

#[test]
fn the_pool_option_overrides_the_default() {
    let line = format!("token={TOKEN} pool=4M");
    let dtb = with_properties("/chosen", &[("bootargs", text(&[&line]))]);
    let plan = plan(&dtb, |_| {}).unwrap();
    assert!((4 * MIB..6 * MIB).contains(&plan.pool.size()));
}

#[test]
fn the_pool_avoids_reservations_and_no_map_is_not_the_hosts() {
    let dtb = modified(|tree| {
        let mut reserved = node(
            "reserved-memory",
            &[("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])],
        );
        reserved.add_child(node("a@40300000", &[("reg", wide(&[0x4030_0000, 0x1000]))]));
        reserved.add_child(node("b@60000000", &[("reg", wide(&[0x6000_0000, 0x1001])), ("no-map", vec![])]));
        tree.root.add_child(reserved);
    });
    let plan = plan(&dtb, |_| {}).unwrap();
    assert!(!plan.pool.overlaps(&range(0x4030_0000, 0x1000)));
    assert!(plan.host_ram.contains(&range(0x4030_0000, 0x1000)));
    assert!(!plan.host_ram.overlaps(&range(0x6000_0000, 0x2000)));
}

#[test]
fn memory_in_two_banks() {
    let dtb = modified(|tree| {
        tree.root.add_child(node(
            "memory@880000000",
            &[("reg", wide(&[0x8_8000_0000, 512 * MIB])), ("device_type", text(&["memory"]))],
        ));
    });
    let plan = plan(&dtb, |r| r.pool_size = 400 * MIB).unwrap();
    assert_eq!(plan.pool.size(), 400 * MIB);
    assert!(plan.host_ram.to_string().ends_with("0x880000000..0x8a0000000"));
}

#[test]
fn too_little_memory_is_named() {
    let dtb = virt(1, 256 * MIB).to_dtb();
    assert!(plan(&dtb, |_| {}).is_ok());
    let refused = plan(&dtb, |r| r.pool_size = 240 * MIB).unwrap_err();
    assert!(
        refused.starts_with("too little memory: no free 0xf000000 contiguous bytes")
            && refused.contains("0x10000000 bytes of memory"),
        "{refused}"
    );
    assert!(plan(&dtb, |r| r.pool_size = u64::MAX).is_err());
    assert!(refusal(&virt(1, 64 * MIB).to_dtb()).contains("ends at 0x44000000"));
}

/// T58.
#[test]
fn t58_overlapping_load_addresses_are_refused() {
    let dtb = modified(|_| {});
    let clash = |modify: fn(&mut Request<'_>)| plan(&dtb, modify).unwrap_err();
    assert!(clash(|r| r.image = range(0x4a00_0000, 0x10_0000)).contains("the kernel at"));
    assert!(clash(|r| r.dtb = range(IMAGE + 0x1000, 0x1000)).contains("EL2's device tree at"));
    assert!(clash(|r| r.dtb = range(RAMDISK, 0x1000)).contains("the ramdisk at"));
    assert!(clash(|r| r.image = range(0x8000_0000, 0x1000)).contains("EL2's image at"));
    assert!(clash(|r| r.dtb = range(0x1000, 0x1000)).contains("EL2's device tree at"));
    assert!(clash(|r| r.image = range(IMAGE, 0)).contains("EL2's image at"));
}

/// T58.
#[test]
fn t58_the_kernel_needs_room_for_its_image_size() {
    let dtb = modified(|_| {});
    let over = plan_with_header(&dtb, kernel_header(RAMDISK - KERNEL + 1)).unwrap_err();
    assert!(
        over.contains("the ramdisk at 0x4d000000") && over.contains("load the ramdisk at 0x4d000001 or above"),
        "{over}"
    );
    assert!(plan_with_header(&dtb, kernel_header(RAMDISK - KERNEL)).is_ok());
    let alone =
        modified(|tree| drop(tree.find_node_mut("/chosen").unwrap().remove_child("module@0x4d000000").unwrap()));
    assert!(plan_with_header(&alone, kernel_header(0x3700_0000)).is_ok());
    assert!(plan_with_header(&alone, kernel_header(0x3700_0001)).unwrap_err().contains("not in the machine's memory"));
}

/// T58.
#[test]
fn t58_only_a_little_endian_image_is_started() {
    let dtb = modified(|_| {});
    let with = |change: fn(&mut [u8; HEADER_SIZE])| {
        let mut header = kernel_header(KERNEL_SIZE);
        change(&mut header);
        plan_with_header(&dtb, header)
    };
    assert!(with(|h| h[56] = 0).unwrap_err().contains("pass a raw Image (found 0x644d5200)"));
    assert!(with(|h| *h = [0x1f; HEADER_SIZE]).unwrap_err().contains("not an arm64 Image"));
    assert!(with(|h| (h[0], h[1], h[56]) = (0x1f, 0x8b, 0)).unwrap_err().contains("gzip"));
    assert!(with(|h| h[24] |= 1).unwrap_err().contains("big-endian"));
    assert!(with(|h| h[16..24].fill(0)).unwrap_err().contains("newer"));
    assert!(with(|h| h[16..24].fill(0xff)).unwrap_err().contains("impossible"));
    assert!(with(|h| h[8..16].fill(0xff)).unwrap_err().contains("impossible"));
    assert!(with(|h| h[10] = 8).unwrap_err().contains("0x80000 bytes above a multiple of 2 MiB"));
    let sizes: Vec<_> = [0u8, 2, 4, 6]
        .map(|flags| {
            let mut header = kernel_header(KERNEL_SIZE);
            header[24] = flags;
            plan_with_header(&dtb, header).unwrap().kernel().unwrap().header.page_size
        })
        .into();
    assert_eq!(sizes, [PageSize::Unspecified, PageSize::Size4K, PageSize::Size16K, PageSize::Size64K]);
}

#[test]
fn a_text_offset_moves_the_kernel() {
    let dtb = with_properties("/chosen/module@0x49000000", &[("reg", wide(&[KERNEL + 0x8_0000, KERNEL_SIZE]))]);
    assert!(plan(&dtb, |_| {}).unwrap_err().contains("0x49080000"));
    let mut header = kernel_header(KERNEL_SIZE);
    header[8..16].copy_from_slice(&0x8_0000u64.to_le_bytes());
    assert_eq!(plan_with_header(&dtb, header).unwrap().kernel().unwrap().entry, Pa(KERNEL + 0x8_0000));
}
