//! Tests the content of the tree.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};

use super::build::*;
use super::virt::*;
use crate::*;

pub(super) fn tree(machine: &Machine) -> DeviceTree {
    let description = machine.describe().unwrap_or_else(|error| panic!("{error}"));
    DeviceTree::from_fdt(&Fdt::new_unchecked(&description.dtb))
}

fn value(tree: &DeviceTree, path: &str, name: &str) -> Option<Vec<u8>> {
    let node = tree.find_node(path).unwrap_or_else(|| panic!("no {path}"));
    node.property(name).map(|property| property.value().to_vec())
}

#[track_caller]
pub(super) fn wide(tree: &DeviceTree, path: &str, name: &str) -> Vec<u64> {
    let value = value(tree, path, name).unwrap_or_else(|| panic!("no {name} in {path}"));
    value.chunks(8).map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap())).collect()
}

#[track_caller]
pub(super) fn cells(tree: &DeviceTree, path: &str, name: &str) -> Vec<u32> {
    let value = value(tree, path, name).unwrap_or_else(|| panic!("no {name} in {path}"));
    value.chunks(4).map(|chunk| u32::from_be_bytes(chunk.try_into().unwrap())).collect()
}

fn text(tree: &DeviceTree, path: &str, name: &str) -> String {
    let value = value(tree, path, name).unwrap_or_else(|| panic!("no {name} in {path}"));
    String::from_utf8(value).unwrap().trim_end_matches('\0').replace('\0', " ")
}

fn names(tree: &DeviceTree) -> Vec<String> {
    tree.root.children().map(|node: &DeviceTreeNode| node.name().to_string()).collect()
}

#[test]
fn a_machine_with_one_smmu_has_every_node() {
    let tree = tree(&virt());
    assert_eq!(
        names(&tree),
        [
            "psci",
            "cpus",
            "memory@40000000",
            "memory@76a10000",
            "interrupt-controller@8000000",
            "its@8080000",
            "iommu@9050000",
            "pci@4010000000",
            "flash@0",
            "flash@4000000",
            "rtc@9010000",
            "serial@9000000",
            "chosen"
        ]
    );
    assert_eq!(wide(&tree, "/memory@40000000", "reg"), [0x4000_0000, 0x36a0_0000]);
    assert_eq!(wide(&tree, "/memory@76a10000", "reg"), [0x76a1_0000, 0x8000_0000 - 0x76a1_0000]);
    assert_eq!(wide(&tree, "/chosen", "portcullis,own-memory"), [OWN.base, OWN.size]);
    assert_eq!(text(&tree, "/chosen", "bootargs"), virt().command_line);
    assert_eq!(text(&tree, "/chosen", "stdout-path"), "/serial@9000000");
    assert_eq!(text(&tree, "/serial@9000000", "compatible"), "arm,pl011");
    let gic = "/interrupt-controller@8000000";
    assert_eq!(wide(&tree, gic, "reg"), [0x800_0000, 0x1_0000, 0x80a_0000, 0xf6_0000]);
    assert_eq!(wide(&tree, "/its@8080000", "reg"), [0x808_0000, 0x2_0000]);
    assert_eq!(wide(&tree, "/iommu@9050000", "reg"), [SMMU, 0x2_0000]);
    assert_eq!(text(&tree, "/iommu@9050000", "interrupt-names"), "eventq priq gerror cmdq-sync");
    let wired = [0, 0x4a, 1, 0, 0x4b, 1, 0, 0x4d, 1, 0, 0x4c, 1];
    assert_eq!(cells(&tree, "/iommu@9050000", "interrupts"), wired);
    assert!(value(&tree, "/iommu@9050000", "msi-parent").is_none(), "all interrupts are wired");
    let smmu = cells(&tree, "/iommu@9050000", "phandle")[0];
    let pci = "/pci@4010000000";
    assert_eq!(wide(&tree, pci, "reg"), [ECAM, 256 * MIB]);
    assert_eq!(cells(&tree, pci, "bus-range"), [0, 0]);
    assert_eq!(cells(&tree, pci, "iommu-map"), [0, smmu, 0, 0x100]);
    let below = [0x200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2f00_0000];
    let above = [0x300_0000, 0x80, 0, 0x80, 0, 0x80, 0];
    assert_eq!(cells(&tree, pci, "ranges"), [below, above].concat());
    assert_eq!(wide(&tree, "/cpus/cpu@3", "reg"), [3]);
    assert_eq!(text(&tree, "/flash@0", "compatible"), "portcullis,firmware-code");
    assert_eq!(text(&tree, "/flash@4000000", "compatible"), "portcullis,firmware-variables");
    assert_eq!(text(&tree, "/rtc@9010000", "compatible"), "arm,pl031");
}

#[test]
fn two_smmus_are_two_hosts_of_one_segment() {
    let tree = tree(&virt_two());
    let smmu = |name| cells(&tree, name, "phandle")[0];
    let (first, second) = (smmu("/iommu@c000000"), smmu("/iommu@c020000"));
    assert_ne!(first, second);
    assert_eq!(wide(&tree, "/pci@4010000000", "reg"), [ECAM, 8 * MIB]);
    assert_eq!(cells(&tree, "/pci@4010000000", "iommu-map"), [0, first, 0, 0x100]);
    assert_eq!(wide(&tree, "/pci@4010800000", "reg"), [ECAM + 8 * MIB, 248 * MIB]);
    assert_eq!(cells(&tree, "/pci@4010800000", "bus-range"), [8, 10]);
    assert_eq!(cells(&tree, "/pci@4010800000", "iommu-map"), [0x800, second, 0x800, 0x300]);
    for path in ["/pci@4010000000", "/pci@4010800000"] {
        assert_eq!(cells(&tree, path, "linux,pci-domain"), [0]);
    }
}

#[test]
fn a_complete_map_keeps_all_buses() {
    let mut iort = Iort::default();
    let group = iort.group(0);
    let smmu = iort.smmu(SMMU, 106, &[(0, 0x1_0000, 0, group, 0)]);
    iort.root_complex(0, &[(0, 0x8000, 0, smmu, 0), (0x8000, 0x8000, 0x8000, smmu, 0)]);
    let tree = tree(&virt().with(iort.done()));
    assert_eq!(cells(&tree, "/pci@4010000000", "bus-range"), [0, 255]);
    assert_eq!(wide(&tree, "/pci@4010000000", "reg"), [ECAM, 256 * MIB]);
    let smmu = cells(&tree, "/iommu@9050000", "phandle")[0];
    assert_eq!(cells(&tree, "/pci@4010000000", "iommu-map"), [0, smmu, 0, 0x1_0000]);
}

#[test]
fn t70_a_bus_with_a_missing_id_is_not_in_the_tree() {
    let mut iort = Iort::default();
    let group = iort.group(0);
    let smmu = iort.smmu(SMMU, 106, &[(0, 0x1_0000, 0, group, 0)]);
    iort.root_complex(0, &[(0, 0x2ff, 0, smmu, 0), (0x400, 0x100, 0, smmu, 0)]);
    let tree = tree(&virt().with(iort.done()));
    assert_eq!(cells(&tree, "/pci@4010000000", "bus-range"), [0, 1]);
    assert_eq!(cells(&tree, "/pci@4010400000", "bus-range"), [4, 4]);
    assert!(names(&tree).iter().filter(|name| name.starts_with("pci@")).count() == 2);
}

#[test]
fn redistributors_of_single_cpus_are_joined() {
    for (version, size) in [(3, 0x2_0000), (4, 0x4_0000)] {
        let mut entries = vec![gicd(0x800_0000, version), its(0, 0x808_0000)];
        // Not in order, with a disabled CPU, and with a second group at other addresses.
        for (cpu, at, flags) in [(1, 1, 1), (0, 0, 1), (2, 2, 0), (0x100, 16, 9)] {
            entries.push(gicc(cpu, flags, 0x80a_0000 + at * size));
        }
        let tree = tree(&virt().with(madt(&entries)));
        let gic = "/interrupt-controller@8000000";
        assert_eq!(cells(&tree, gic, "#redistributor-regions"), [2]);
        let expected = [0x800_0000, 0x1_0000, 0x80a_0000, 3 * size, 0x80a_0000 + 16 * size, size];
        assert_eq!(wide(&tree, gic, "reg"), expected);
        assert!(tree.find_node("/cpus/cpu@2").is_none() && tree.find_node("/cpus/cpu@100").is_some());
    }
}

#[test]
fn each_kind_of_console_has_its_binding() {
    let compatible = |table: Vec<u8>| {
        let tree = tree(&virt().with(table));
        let node = tree.root.children().find(|node| node.name().starts_with("serial@")).map(Node::name);
        node.map(|name| text(&tree, &std::format!("/{name}"), "compatible"))
    };
    assert_eq!(compatible(spcr(0xe, 32, 3, 0x900_0000)).unwrap(), "arm,sbsa-uart");
    assert_eq!(compatible(spcr(0, 8, 1, 0x900_0000)).unwrap(), "ns16550a");
    assert_eq!(compatible(spcr(0x12, 32, 3, 0x900_0000)).unwrap(), "ns16550a");
    assert_eq!(compatible(spcr(0x10, 32, 3, 0x900_0000)), None, "a mini UART");
    assert_eq!(compatible(spcr(3, 32, 3, 0)), None, "console redirection is disabled");
    let mut machine = virt();
    machine.tables.retain(|table| &table[..4] != b"SPCR");
    assert!(value(&tree(&machine), "/chosen", "stdout-path").is_none());
}

#[test]
fn smmus_that_send_msis_have_an_msi_parent() {
    let parent = |revision: u8, data: Fields, index: u32| {
        let mut iort = Iort::default();
        let group = iort.group(0);
        let maps = [(0, 0x1_0000, 0, group, 0), (0, 1, 7, group, 1)];
        let smmu = iort.add(4, revision, &data.u32(48, index).0, &maps);
        iort.root_complex(0, &[(0, 0x1_0000, 0, smmu, 0)]);
        let tree = tree(&virt().with(iort.done_as(6)));
        value(&tree, "/iommu@9050000", "msi-parent").is_some()
    };
    assert!(!parent(0, smmu(SMMU, 0), 1), "this revision has no such field");
    assert!(parent(1, smmu(SMMU, 0), 1));
    assert!(!parent(1, smmu(SMMU, 106), 1));
    assert!(parent(5, smmu(SMMU, 106).u32(8, 0x11), 1));
    assert!(!parent(5, smmu(SMMU, 106), 1));
}

#[test]
fn errata_and_coherency_come_from_the_node() {
    let with = |data: Fields| {
        let mut iort = Iort::default();
        iort.group(0);
        let smmu = iort.add(4, 4, &data.0, &[]);
        iort.root_complex(0, &[(0, 0x1_0000, 0, smmu, 0)]);
        tree(&virt().with(iort.done()))
    };
    let has = |data, property| value(&with(data), "/iommu@9050000", property).is_some();
    assert!(has(smmu(SMMU, 0), "dma-coherent") && !has(smmu(SMMU, 0).u32(8, 0), "dma-coherent"));
    assert!(has(smmu(SMMU, 0).u32(24, 1), "hisilicon,broken-prefetch-cmd"));
    assert!(has(smmu(SMMU, 0).u32(24, 2), "cavium,cn9900-broken-page1-regspace"));
    assert!(!has(smmu(SMMU, 0), "interrupts"));
}

#[test]
fn named_components_have_streams_but_no_registers() {
    let mut iort = super::virt::one_smmu();
    let name = b"\\_SB.DMA0\0\0\0";
    let data = [Fields::new(13).u32(0, 0).0, name.to_vec()].concat();
    // The SMMU's node follows the ITS group's.
    iort.add(1, 4, &data, &[(0, 1, 0x1234, 72, 1), (0, 4, 0x2000, 72, 0)]);
    let machine = virt().with(iort.done());
    let tree = tree(&machine);
    let name = names(&tree).into_iter().find(|name| name.starts_with("component@")).unwrap();
    let smmu = cells(&tree, "/iommu@9050000", "phandle")[0];
    let path = std::format!("/{name}");
    assert_eq!(cells(&tree, &path, "iommu-map"), [0, smmu, 0x1234, 1, 0, smmu, 0x2000, 4]);
    assert!(value(&tree, &path, "reg").is_none());
}

#[test]
fn reserved_memory_ranges_are_the_hosts_and_not_in_the_pool() {
    let reserved = |machine: Machine, base: u64| {
        let mut iort = super::virt::one_smmu();
        let data = Fields::new(12).u32(4, 1).u32(8, 28 + 20).0;
        let descriptor = Fields::new(20).u64(0, base).u64(8, 0x1_0000).0;
        iort.add(6, 1, &data, &[(0, 1, 8, 72, 1)]);
        let mut table = iort.done();
        // The descriptor follows the mapping.
        table.extend(descriptor);
        let node = table.len() - 20 - 48;
        table[node + 1..node + 3].copy_from_slice(&68u16.to_le_bytes());
        sum(&mut table);
        machine.with(table)
    };
    let base = OWN.base + OWN.size + 10 * MIB;
    let inside = tree(&reserved(virt(), base));
    assert_eq!(wide(&inside, &std::format!("/reserved-memory/device-memory@{base:x}"), "reg"), [base, 0x1_0000]);
    assert_eq!(wide(&inside, "/memory@40000000", "reg"), [0x4000_0000, 1 << 30], "the memory node has no hole");
    reserved(virt(), OWN.base).refused(&["EL2's memory", "RMR"]);
    reserved(virt(), 0xd000_0000).refused(&["RMR", "not in the memory map"]);
    reserved(virt(), 0x5000_0800).refused(&["RMR", "whole pages"]);
    assert!(reserved(virt(), 0x5000_0000).describe().is_ok());
}

#[test]
fn each_withheld_part_has_a_note() {
    let notes = |machine: Machine| {
        machine.describe().unwrap().notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let plain = notes(virt());
    assert!(plain.contains("IORT") && plain.contains("0x100: RequesterIDs"), "{plain}");
    assert!(plain.contains("UEFI memory map") && plain.contains("0x76a00000"), "{plain}");
    assert!(!plain.contains("0x74000000"), "EL2's own memory is not noted: {plain}");
    let mut iort = super::virt::one_smmu();
    iort.add(3, 3, &Fields::new(60).u64(0, 0xaaaa_0000).0, &[]);
    iort.add(5, 1, &Fields::new(24).u64(0, 0xbbbb_0000).0, &[]);
    let more = notes(virt().with(iort.done()));
    assert!(more.contains("0xaaaa0000: SMMUv1") && more.contains("0xbbbb0000: performance counters"), "{more}");
}
