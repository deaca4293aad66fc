use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use dtoolkit::fdt::Fdt;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};

use super::virt::*;
use crate::boot_info::fdt_edit::write_host_dtb;
use crate::boot_info::{BootError, Layout};

/// The host's tree, and the whole buffer to which it was written.
fn host(dtb: &[u8]) -> (DeviceTree, Vec<u8>, Layout) {
    let (platform, policy, layout) = boot(dtb).unwrap();
    let mut out = vec![0xaa; layout.kernel().unwrap().dtb.size() as usize];
    let length = write_host_dtb(&platform, &policy, &layout, &mut out).unwrap();
    assert!(out[length..].iter().all(|&b| b == 0), "the rest of the buffer is zero");
    (DeviceTree::from_fdt(&Fdt::new(&out[..length]).unwrap()), out, layout)
}

fn value(node: &DeviceTreeNode, name: &str) -> Option<Vec<u8>> {
    node.property(name).map(|p| p.value().to_vec())
}

fn at(tree: &DeviceTree, path: &str, name: &str) -> Option<Vec<u8>> {
    value(tree.find_node(path).unwrap(), name)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn the_hosts_tree_has_only_the_required_differences() {
    let mut expected = virt(4, 1024 * MIB);
    let dtb = expected.to_dtb();
    let (tree, _, layout) = host(&dtb);

    let pool_end = layout.pool.end().0;
    set(
        expected.find_node_mut("/memory@40000000").unwrap(),
        &[("reg", wide(&[0x4000_0000, 0x20_0000, pool_end, 0x8000_0000 - pool_end]))],
    );
    let disabled = [("status", text(&["disabled"]))];
    for path in ["/platform-bus@c000000", "/fw-cfg@9020000", "/pl011@9040000", "/flash@0"] {
        set(expected.find_node_mut(path).unwrap(), &disabled);
    }
    for slot in 0..32 {
        let path = format!("/virtio_mmio@{:x}", 0xa00_0000 + slot * 0x200);
        set(expected.find_node_mut(&path).unwrap(), &disabled);
    }
    expected.find_node_mut("/aliases").unwrap().remove_property("serial1").unwrap();
    let chosen = expected.find_node_mut("/chosen").unwrap();
    chosen.remove_child("module@0x49000000").unwrap();
    chosen.remove_child("module@0x4d000000").unwrap();
    set(
        chosen,
        &[
            ("bootargs", text(&["console=ttyAMA0 quiet"])),
            ("linux,initrd-start", wide(&[RAMDISK])),
            ("linux,initrd-end", wide(&[RAMDISK + RAMDISK_SIZE])),
        ],
    );
    assert_eq!(tree, expected);
}

#[test]
fn el2s_command_line_is_not_in_the_hosts_tree() {
    let dtb = modified(|tree| {
        let line = format!("token={TOKEN} allow=/flash@0 withhold=/pl031@9010000");
        set(tree.find_node_mut("/chosen").unwrap(), &[("bootargs", text(&[&line]))]);
    });
    assert!(contains(&dtb, TOKEN.as_bytes()));
    let (_, out, _) = host(&dtb);
    for trace in [TOKEN, "token", "allow=", "withhold=", "multiboot"] {
        assert!(!contains(&out, trace.as_bytes()), "{trace}");
    }
}

#[test]
fn a_token_elsewhere_in_the_tree_is_refused() {
    let places: [(&str, &str, String); 3] = [
        ("/chosen/module@0x49000000", "bootargs", format!("x={TOKEN}")),
        ("/", "model", TOKEN.into()),
        ("/", "model", TOKEN.to_ascii_uppercase()),
    ];
    for (path, property, text_value) in places {
        let dtb = with_properties(path, &[(property, text(&[&text_value]))]);
        let (platform, policy, layout) = boot(&dtb).unwrap();
        let mut out = vec![0xaa; layout.kernel().unwrap().dtb.size() as usize];
        let error = write_host_dtb(&platform, &policy, &layout, &mut out).unwrap_err();
        assert!(matches!(error, BootError::TokenLeft { .. }), "{error}");
        assert!(out.iter().all(|&b| b == 0));
    }
}

#[test]
fn without_ramdisk_or_bootargs_the_properties_are_absent() {
    let dtb = modified(|tree| {
        let chosen = tree.find_node_mut("/chosen").unwrap();
        chosen.remove_child("module@0x4d000000").unwrap();
        chosen.child_mut("module@0x49000000").unwrap().remove_property("bootargs").unwrap();
        set(chosen, &[("linux,initrd-start", wide(&[1])), ("linux,initrd-end", wide(&[2]))]);
    });
    let (tree, ..) = host(&dtb);
    for stale in ["bootargs", "linux,initrd-start", "linux,initrd-end"] {
        assert_eq!(at(&tree, "/chosen", stale), None);
    }
    assert_eq!(at(&tree, "/chosen", "rng-seed"), Some(vec![0x5a; 32]));
    assert_eq!(at(&tree, "/chosen", "kaslr-seed"), Some(vec![0xa5; 8]));
}

#[test]
fn a_status_is_replaced_not_doubled() {
    let dtb = with_properties("/flash@0", &[("status", text(&["okay"]))]);
    let (tree, out, _) = host(&dtb);
    assert_eq!(at(&tree, "/flash@0", "status"), Some(text(&["disabled"])));
    assert!(!contains(&out, b"okay"));
}

#[test]
fn stdout_path_is_removed_if_it_names_a_withheld_node() {
    let (tree, ..) = host(&modified(|_| {}));
    assert_eq!(at(&tree, "/chosen", "stdout-path"), Some(text(&["/pl011@9000000"])));
    let (tree, ..) = host(&with_properties("/chosen", &[("stdout-path", text(&["serial1:9600"]))]));
    assert_eq!(at(&tree, "/chosen", "stdout-path"), Some(text(&["serial1:9600"])));
    assert_eq!(at(&tree, "/aliases", "serial0"), None);
    assert_eq!(at(&tree, "/pl011@9000000", "status"), Some(text(&["disabled"])));
    let (tree, ..) = host(&with_properties("/chosen", &[("stdout-path", text(&["/flash@0"]))]));
    assert_eq!(at(&tree, "/chosen", "stdout-path"), None);
}

#[test]
fn memory_nodes_keep_their_place_and_empty_ones_are_removed() {
    let dtb = modified(|tree| {
        set(tree.find_node_mut("/memory@40000000").unwrap(), &[("reg", wide(&[0x4040_0000, 0x3fc0_0000]))]);
        let small = [("reg", wide(&[IMAGE, 0x8_4000])), ("device_type", text(&["memory"]))];
        tree.root.add_child(node("memory@40200000", &small));
        let high = [
            ("reg", wide(&[0x8_8000_0000, 0x4000_0000])),
            ("device_type", text(&["memory"])),
            ("numa-node-id", cells(&[1])),
        ];
        tree.root.add_child(node("memory@880000000", &high));
    });
    let (tree, ..) = host(&dtb);
    assert!(tree.find_node("/memory@40200000").is_none());
    assert_eq!(at(&tree, "/memory@880000000", "reg"), Some(wide(&[0x8_8000_0000, 0x4000_0000])));
    assert_eq!(at(&tree, "/memory@880000000", "numa-node-id"), Some(cells(&[1])));
}

#[test]
fn reservations_are_kept() {
    let kept = MemoryReservation::new(0x7000_0000, 0x1000);
    let (tree, ..) = host(&modified(|tree| tree.memory_reservations.push(kept)));
    assert_eq!(tree.memory_reservations, [kept]);
}

#[test]
fn too_small_a_buffer_is_an_error_and_left_empty() {
    let dtb = modified(|_| {});
    let (platform, policy, layout) = boot(&dtb).unwrap();
    let mut out = vec![0; layout.kernel().unwrap().dtb.size() as usize];
    let needed = write_host_dtb(&platform, &policy, &layout, &mut out).unwrap();
    assert!(needed < dtb.len() + 2048);
    for room in [0, 1, 39, 40, 72, needed / 2, needed - 1] {
        let mut small = vec![0xaa; room];
        let refused = write_host_dtb(&platform, &policy, &layout, &mut small);
        assert!(matches!(refused, Err(BootError::HostDtbRoom { .. })), "{room}");
        assert!(small.iter().all(|&b| b == 0));
    }
    let mut exact = vec![0xaa; needed];
    assert_eq!(write_host_dtb(&platform, &policy, &layout, &mut exact), Ok(needed));
    assert_eq!(exact, out[..needed]);
}

#[test]
fn unused_space_in_the_source_is_not_copied() {
    // QEMU's tree is 1 MiB long, most of it unused, with arbitrary content.
    let mut dtb = modified(|_| {});
    let stray = format!("token={TOKEN}");
    dtb.extend(stray.bytes());
    dtb.resize(1 << 20, 0);
    let total = dtb.len() as u32;
    dtb[4..8].copy_from_slice(&total.to_be_bytes());
    let (_, out, _) = host(&dtb);
    assert!(!contains(&out, TOKEN.as_bytes()));
    assert!(out.len() < 64 << 10, "{}", out.len().to_string());
}

/// EL2 implements the property: the emulated SMMU has no override, and the host's driver would fail to probe.
#[test]
fn the_hosts_tree_has_no_data_override() {
    let property = "arm,instdata-override";
    let dtb = modified(|tree| set(tree.find_node_mut("/smmuv3@9050000").unwrap(), &[(property, vec![])]));
    let (platform, ..) = boot(&dtb).unwrap();
    assert!(platform.smmus[0].data_override);
    let (tree, ..) = host(&dtb);
    assert_eq!(at(&tree, "/smmuv3@9050000", property), None);
    assert_eq!(at(&tree, "/smmuv3@9050000", "compatible"), Some(text(&["arm,smmu-v3"])));
}
