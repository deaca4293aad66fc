//! Nodes and properties of real boards that QEMU's device trees do not have.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};

use super::virt::*;
use crate::boot_info::fdt_edit::write_host_dtb;
use crate::boot_info::policy::{Given, Verdict, Withheld};
use crate::boot_info::{Early, Platform};

/// The tree that the host gets.
#[track_caller]
fn hosts(dtb: &[u8]) -> DeviceTree {
    let (platform, policy, layout) = boot(dtb).unwrap_or_else(|error| panic!("{error}"));
    let mut out = vec![0; layout.kernel().unwrap().dtb.size() as usize];
    let length = write_host_dtb(&platform, &policy, &layout, &mut out).unwrap();
    DeviceTree::from_fdt(&Fdt::new_unchecked(&out[..length]))
}

#[track_caller]
fn status(tree: &DeviceTree, path: &str) -> Option<String> {
    let node = tree.find_node(path).unwrap_or_else(|| panic!("no {path}"));
    node.property("status")
        .map(|status| String::from_utf8(status.value().strip_suffix(&[0]).unwrap().to_vec()).unwrap())
}

fn named(name: &str, property: &str) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    node.add_property(DeviceTreeProperty::new_unchecked(property, [1u8, 2, 3].as_slice()));
    node
}

const LONG_NODE: &str = "a-node-whose-name-is-longer-than-the-specification-has-it@12345";
const LONG_PROPERTY: &str = "vendor,a-property-whose-name-is-longer-than-the-specification";

#[test]
fn long_names_are_read_and_written() {
    let dtb = with_node(named(LONG_NODE, LONG_PROPERTY));
    assert_eq!(Early::read(&dtb).token, Some(TOKEN));
    let tree = hosts(&dtb);
    let node = tree.find_node(&std::format!("/{LONG_NODE}")).unwrap();
    assert_eq!(node.property(LONG_PROPERTY).unwrap().value(), [1, 2, 3]);
    assert_eq!(crate::gic_frames::check_stride(&dtb), Ok(()));
}

#[test]
fn t64_names_cannot_write_lines_of_the_log() {
    let line = "a\nportcullis: exit token=1";
    for dtb in [with_node(named(line, "reg")), with_node(named("a", line)), with_node(named("a/b", "reg"))] {
        let message = refusal(&dtb);
        assert!(message.contains("name") && !message.contains('\n'), "{message}");
    }
    // The limit ensures that a path fits the console's buffer.
    refused_for(&with_node(named(&"n".repeat(256), "reg")), &["more than 255 characters"]);
    refused_for(&with_node(named("a", &"n".repeat(256))), &["more than 255 characters"]);
    assert!(boot(&with_node(named(&"n".repeat(255), &"n".repeat(255)))).is_ok());
}

fn moved_psci(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    modified(|tree| {
        tree.root.remove_child("psci").unwrap();
        let mut firmware = node("firmware", &[]);
        let usual = [("method", text(&["smc"])), ("compatible", text(&["arm,psci-1.0"]))];
        let mut psci = node("power-states", &usual);
        set(&mut psci, properties);
        firmware.add_child(psci);
        tree.root.add_child(firmware);
    })
}

#[test]
fn psci_is_found_by_its_compatible() {
    assert!(boot(&moved_psci(&[])).is_ok());
    refused_for(&moved_psci(&[("method", text(&["hvc"]))]), &["/firmware/power-states", "virtualization=on"]);
    refused_for(&moved_psci(&[("compatible", text(&["arm,psci"]))]), &["/firmware/power-states", "PSCI 0.1"]);
    refused_for(&moved_psci(&[("status", text(&["disabled"]))]), &["no PSCI"]);
}

#[test]
fn only_the_master_behind_a_foreign_iommu_without_cells_is_withheld() {
    for iommus in [&[0x77u32][..], &[0x77, 0x78], &[SMMU, 5, 0x77]] {
        let mut master = node("vop@f100000", &[("reg", wide(&[0xf10_0000, 0x1000]))]);
        set(&mut master, &[("iommus", cells(iommus))]);
        assert_eq!(
            verdict(&with_node(master), "/vop@f100000"),
            Verdict::Withheld(Withheld::ForeignIommu),
            "{iommus:?}"
        );
    }
    let map = with_properties("/pcie@10000000", &[("iommu-map", cells(&[0, 0x77, 0x1_0000]))]);
    assert_eq!(verdict(&map, "/pcie@10000000"), Verdict::Withheld(Withheld::ForeignIommu));
}

fn four_cells(tree: &mut DeviceTree, interrupts: &[u32]) {
    set(tree.find_node_mut("/intc@8000000").unwrap(), &[("#interrupt-cells", cells(&[4]))]);
    set(tree.find_node_mut("/smmuv3@9050000").unwrap(), &[("interrupts", cells(interrupts))]);
}

#[test]
fn interrupts_have_the_cell_count_of_their_parent() {
    let dtb = modified(|tree| four_cells(tree, &[0, 1, 1, 0, 0, 2, 1, 0, 0, 3, 4, 0, 0, 4, 1, 0]));
    let found = Platform::parse(&dtb).unwrap_or_else(|error| panic!("{error}")).smmus[0].interrupts;
    let numbers = [found.eventq, found.priq, found.cmdq_sync, found.gerror].map(|spi| spi.unwrap().intid);
    assert_eq!(numbers, [33, 34, 35, 36]);
}

#[test]
fn interrupts_that_el2_cannot_raise_are_absent() {
    // An extended SPI, a PPI, a number above the SPIs, a falling edge; then an interrupt that can be raised.
    for bad in [[2, 7, 4], [1, 7, 4], [0, 988, 4], [0, 7, 2]] {
        let interrupts = [bad, [0, 2, 1], [0, 3, 1], [0, 4, 1]].concat();
        let dtb = with_properties("/smmuv3@9050000", &[("interrupts", cells(&interrupts))]);
        let found = Platform::parse(&dtb).unwrap_or_else(|error| panic!("{error}")).smmus[0].interrupts;
        assert_eq!((found.eventq, found.priq.map(|spi| spi.intid)), (None, Some(34)), "{bad:?}");
    }
    let elsewhere = with_properties("/smmuv3@9050000", &[("interrupt-parent", cells(&[0x8000]))]);
    let found = Platform::parse(&elsewhere).unwrap_or_else(|error| panic!("{error}")).smmus[0].interrupts;
    assert_eq!((found.eventq, found.gerror), (None, None));
    let other_name =
        with_properties("/smmuv3@9050000", &[("interrupt-names", text(&["eventq", "new", "gerror", "priq"]))]);
    let found = Platform::parse(&other_name).unwrap_or_else(|error| panic!("{error}")).smmus[0].interrupts;
    assert_eq!((found.eventq.map(|spi| spi.intid), found.cmdq_sync), (Some(106), None));
    // Each interrupt is listed with its parent.
    let extended = modified(|tree| {
        set(tree.find_node_mut("/apb-pclk").unwrap(), &[("#interrupt-cells", cells(&[1]))]);
        let smmu = tree.find_node_mut("/smmuv3@9050000").unwrap();
        smmu.remove_property("interrupts");
        set(smmu, &[("interrupts-extended", cells(&[0x8000, 7, GIC, 0, 2, 1, GIC, 0, 3, 1, GIC, 0, 4, 1]))]);
    });
    let found = Platform::parse(&extended).unwrap_or_else(|error| panic!("{error}")).smmus[0].interrupts;
    assert_eq!((found.eventq, found.gerror.map(|spi| spi.intid)), (None, Some(36)));
}

/// A bus with `reg` and `ranges`, around the SMMU and a master.
fn around(reg: [u64; 2]) -> Vec<u8> {
    modified(|tree| {
        let smmu = tree.root.remove_child("smmuv3@9050000").unwrap();
        let counts = [("#address-cells", cells(&[2])), ("#size-cells", cells(&[2]))];
        let mut bus = node("bus@9050000", &counts);
        set(&mut bus, &[("compatible", text(&["fsl,aips-bus", "simple-bus"])), ("reg", wide(&reg))]);
        set(&mut bus, &[("ranges", wide(&[0x905_0000, 0x905_0000, 0x8_0000]))]);
        bus.add_child(smmu);
        bus.add_child(node("dma@90a0000", &[("reg", wide(&[0x90a_0000, 0x1000])), ("iommus", cells(&[SMMU, 5]))]));
        tree.root.add_child(bus);
    })
}

#[test]
fn a_bus_is_not_handled_as_a_device() {
    for reg in [[0x905_0000, 0x8_0000], [0x905_0000, 0x1000]] {
        let dtb = around(reg);
        assert_eq!(verdict(&dtb, "/bus@9050000/dma@90a0000"), Verdict::Given(Given::BehindSmmu { smmu: 0 }));
        let tree = hosts(&dtb);
        assert_eq!(status(&tree, "/bus@9050000"), None);
        assert_eq!(status(&tree, "/bus@9050000/smmuv3@9050000"), None);
    }
}

#[test]
fn t64_registers_of_a_bus_are_withheld() {
    let dtb = around([0x90e_0000, 0x1000]);
    let (platform, policy, _) = boot(&dtb).unwrap();
    assert!(policy.withheld().iter().any(|part| part.range == range(0x90e_0000, 0x1000)));
    assert!(!policy.mmio().overlaps(&range(0x90e_0000, 0x1000)));
    assert_eq!(platform.smmus.len(), 1);
    assert_eq!(status(&hosts(&dtb), "/bus@9050000"), None);
    // A child node with the same registers is not given.
    let over = modified(|tree| {
        *tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
        tree.root.add_child(node("x@90e0000", &[("reg", wide(&[0x90e_0000, 0x1000])), ("iommus", cells(&[SMMU, 6]))]));
    });
    assert_eq!(verdict(&over, "/x@90e0000"), Verdict::Withheld(Withheld::SharesPage));
    let (platform, policy, _) = boot(&over).unwrap();
    let lines = policy.decisions().iter().map(|decision| policy.shown(&platform, decision).to_string());
    let shared = "shares a 4 KiB page with registers that are withheld: /bus@9050000";
    assert_eq!(lines.filter(|line| line == shared).count(), 1);
}

#[test]
fn only_the_its_with_its_doorbell_in_another_device_is_withheld() {
    let pre = [("socionext,synquacer-pre-its", cells(&[0x100_0000, 0x40_0000]))];
    for size in [0x1_0000, 0x2_0000] {
        let mut dtb = with_properties("/intc@8000000/its@8080000", &pre);
        dtb = modified(|tree| {
            *tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
            set(tree.find_node_mut("/intc@8000000/its@8080000").unwrap(), &[("reg", wide(&[0x808_0000, size]))]);
        });
        assert!(matches!(verdict(&dtb, "/intc@8000000/its@8080000"), Verdict::Withheld(_)));
        let (platform, policy, _) = boot(&dtb).unwrap();
        assert_eq!(policy.translaters(&platform).count(), 0, "devices may not write to its page");
        // The ITS is still in the list, because EL2 must disable it at boot.
        assert_eq!(platform.gic.its.len(), 1);
        assert_eq!(status(&hosts(&dtb), "/intc@8000000/its@8080000").as_deref(), Some("disabled"));
    }
}

#[test]
fn a_disabled_smmu_is_named() {
    let dtb = with_properties("/smmuv3@9050000", &[("status", text(&["fail"]))]);
    refused_for(&dtb, &["enabled: /smmuv3@9050000 has status \"fail\""]);
    let parent = modified(|tree| {
        *tree = DeviceTree::from_fdt(&Fdt::new(&around([0x90e_0000, 0x1000])).unwrap());
        set(tree.find_node_mut("/bus@9050000").unwrap(), &[("status", text(&["disabled"]))]);
    });
    refused_for(&parent, &["/bus@9050000/smmuv3@9050000", "smmuv3@9050000: /bus@9050000 has status \"disabled\""]);
}
