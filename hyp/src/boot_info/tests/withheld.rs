//! Ranges that are withheld together with a node: row T64 of the attack catalogue.

use std::vec;
use std::vec::Vec;

use dtoolkit::model::DeviceTreeNode;

use super::virt::*;
use crate::boot_info::policy::{Given, Verdict, Withheld};

fn other_pci(status: &str, compatible: &str, base: u64) -> DeviceTreeNode {
    let mut ranges = cells(&[0x200_0000, 0, 0x5000_0000]);
    ranges.extend(wide(&[base, 0x10_0000]));
    node(
        "pcie@5000000000",
        &[
            ("compatible", text(&[compatible])),
            ("device_type", text(&["pci"])),
            ("#address-cells", cells(&[3])),
            ("#size-cells", cells(&[2])),
            ("bus-range", cells(&[0, 0])),
            ("reg", wide(&[0x50_0000_0000, 0x10_0000])),
            ("ranges", ranges),
            ("status", text(&[status])),
        ],
    )
}

#[test]
fn t64_the_windows_of_a_withheld_bridge_are_withheld() {
    let shares = Verdict::Withheld(Withheld::SharesPage);
    let given = Verdict::Given(Given::Pci { smmu: 0 });
    for (status, compatible) in [
        ("okay", "pci-host-ecam-generic"),
        ("okay", "vendor,pcie"),
        ("disabled", "pci-host-ecam-generic"),
        ("disabled", "vendor,pcie"),
    ] {
        let over = with_node(other_pci(status, compatible, 0x2000_0000));
        assert_eq!(verdict(&over, "/pcie@10000000"), shares, "{status} {compatible}");
        let beside = with_node(other_pci(status, compatible, 0x3f00_0000));
        assert_eq!(verdict(&beside, "/pcie@10000000"), given, "{status} {compatible}");
        // The window of a withheld bridge must not overlap host memory.
        refused_for(&with_node(other_pci(status, compatible, 0x5000_0000)), &["/pcie@5000000000", "overlap", "memory"]);
        refused_for(&with_node(other_pci(status, compatible, 0x80a_0000)), &["/intc@8000000"]);
        let mut cut = other_pci(status, compatible, 0x3f00_0000);
        set(&mut cut, &[("ranges", cells(&[0x200_0000, 0, 0x5000_0000]))]);
        refused_for(&with_node(cut), &["/pcie@5000000000", "ranges"]);
    }
}

fn bus(properties: &[(&str, Vec<u8>)], base: u32, children: Vec<DeviceTreeNode>) -> DeviceTreeNode {
    let mut bus = node(
        "bus@f000000",
        &[
            ("#address-cells", cells(&[1])),
            ("#size-cells", cells(&[1])),
            ("ranges", cells(&[0, 0, base, 0x1_0000])),
            ("compatible", text(&["vendor,bus"])),
        ],
    );
    set(&mut bus, properties);
    children.into_iter().for_each(|child| bus.add_child(child));
    bus
}

#[test]
fn t64_the_ranges_of_a_withheld_bus_are_withheld() {
    let bridge = |dtb: &[u8]| verdict(dtb, "/pcie@10000000");
    let (shares, given) = (Verdict::Withheld(Withheld::SharesPage), Verdict::Given(Given::Pci { smmu: 0 }));
    let off = [("status", text(&["disabled"]))];
    let unknown = [("reg", wide(&[0xf00_0000, 0x1000]))];
    for withheld in [&off, &unknown] {
        assert_eq!(bridge(&with_node(bus(withheld, 0x2000_0000, vec![]))), shares);
        assert_eq!(bridge(&with_node(bus(withheld, 0xf01_0000, vec![]))), given);
        refused_for(&with_node(bus(withheld, 0x5000_0000, vec![])), &["/bus@f000000", "overlap", "memory"]);
        refused_for(&with_node(bus(withheld, IMAGE as u32, vec![])), &["/bus@f000000", "overlap", "EL2's image"]);
        // A register block takes precedence over the `ranges` of a bus that is not its parent.
        let around_clock = with_node(bus(withheld, 0x901_0000, vec![]));
        assert_eq!(verdict(&around_clock, "/pl031@9010000"), Verdict::Given(Given::Rtc));
        let mut cut = bus(withheld, 0x2000_0000, vec![]);
        set(&mut cut, &[("ranges", cells(&[0, 0, 0x2000_0000]))]);
        refused_for(&with_node(cut), &["/bus@f000000", "ranges"]);
    }
    // The ranges of a bus that is not withheld are not withheld.
    assert_eq!(bridge(&with_node(bus(&[], 0x2000_0000, vec![]))), given);
    // A bus below a withheld one, and a withheld one below a bus.
    let inner = |base: u32, properties: &[(&str, Vec<u8>)]| {
        let counts = [("#address-cells", cells(&[1])), ("#size-cells", cells(&[1]))];
        let mut inner = node("inner", &counts);
        set(&mut inner, &[("ranges", cells(&[0, base, 0x1000]))]);
        set(&mut inner, properties);
        inner
    };
    assert_eq!(bridge(&with_node(bus(&off, 0x1fff_f000, vec![inner(0x1000, &[])]))), shares);
    let mut wide_bus = bus(&[], 0x1000_0000, vec![inner(0x1000_0000, &off)]);
    set(&mut wide_bus, &[("ranges", cells(&[0, 0, 0x1000_0000, 0x1000_1000]))]);
    assert_eq!(bridge(&with_node(wide_bus)), shares);
}

/// Nodes below a node that is withheld later are also withheld.
#[test]
fn t64_nodes_below_a_node_withheld_later_are_withheld() {
    let rtc = node("rtc@8000", &[("reg", cells(&[0x8000, 0x1000])), ("compatible", text(&["arm,pl031"]))]);
    let master =
        [("reg", wide(&[0xf00_0000, 0x1000])), ("iommus", cells(&[SMMU, 5])), ("compatible", text(&["vendor,dma"]))];
    let dtb = |reset: u64| {
        modified(|tree| {
            tree.root.add_child(bus(&master, 0xf01_0000, vec![rtc.clone()]));
            let properties = [("reg", wide(&[reset, 0x10])), ("compatible", text(&["vendor,reset"]))];
            tree.root.add_child(node("reset@1", &properties));
        })
    };
    assert_eq!(verdict(&dtb(0xf7f_0000), "/bus@f000000/rtc@8000"), Verdict::Given(Given::Rtc));
    assert_eq!(verdict(&dtb(0xf00_0800), "/bus@f000000"), Verdict::Withheld(Withheld::SharesPage));
    assert_eq!(verdict(&dtb(0xf00_0800), "/bus@f000000/rtc@8000"), Verdict::Withheld(Withheld::Parent));
}

/// Ranges of a given node that the host does not get are also withheld if another node has them.
#[test]
fn t64_registers_of_a_given_node_that_are_not_given_are_withheld() {
    // The legacy frames of the CPU interface: GICC, GICH, GICV.
    let mut reg = wide(&[0x800_0000, 0x1_0000, 0x80a_0000, 0xf6_0000]);
    reg.extend(wide(&[0x2000_0000, 0x1_0000]));
    let dtb = with_properties("/intc@8000000", &[("reg", reg)]);
    assert_eq!(verdict(&dtb, "/pcie@10000000"), Verdict::Withheld(Withheld::SharesPage));
    let mut reg = wide(&[0x40_1000_0000, 0x1000_0000]);
    reg.extend(wide(&[0x901_0000, 0x1000]));
    let dtb = with_properties("/pcie@10000000", &[("reg", reg)]);
    assert_eq!(verdict(&dtb, "/pl031@9010000"), Verdict::Withheld(Withheld::SharesPage));
}

/// A BAR of a device behind a withheld bridge is in that bridge's windows, or not mapped.
#[test]
fn t64_assigned_addresses_change_no_decision() {
    let with_bar = |bar: u32| {
        let mut host = other_pci("okay", "vendor,pcie", 0x3f00_0000);
        let properties =
            [("reg", cells(&[0x800, 0, 0, 0, 0])), ("assigned-addresses", cells(&[0x8200_0810, 0, bar, 0, 0x1000]))];
        host.add_child(node("nic@1,0", &properties));
        with_node(host)
    };
    for bar in [0x5000_0000, 0x2000_0000] {
        assert_eq!(verdict(&with_bar(bar), "/pcie@10000000"), Verdict::Given(Given::Pci { smmu: 0 }));
    }
}

#[test]
fn t64_a_bus_without_cell_counts_is_refused() {
    let soc = |properties: &[(&str, Vec<u8>)]| {
        let mut soc = node("soc", &[("compatible", text(&["simple-bus"])), ("ranges", vec![])]);
        set(&mut soc, properties);
        let reset = [("reg", wide(&[0x901_0800, 0x10])), ("compatible", text(&["vendor,reset"]))];
        soc.add_child(node("reset@9010800", &reset));
        with_node(soc)
    };
    // Linux uses those of a higher node, the specification uses 2 and 1.
    let two = |name| (name, cells(&[2]));
    refused_for(&soc(&[]), &["/soc", "#address-cells"]);
    refused_for(&soc(&[two("#size-cells")]), &["/soc", "#address-cells"]);
    refused_for(&soc(&[two("#address-cells")]), &["/soc", "#size-cells"]);
    let whole = soc(&[two("#address-cells"), two("#size-cells")]);
    assert_eq!(verdict(&whole, "/pl031@9010000"), Verdict::Withheld(Withheld::SharesPage));
    refused_for(&without("/", "#address-cells"), &["#address-cells"]);
    refused_for(&without("/", "#size-cells"), &["#size-cells"]);
}

/// A bus that maps only the start of a register block: Linux would map the whole block.
#[test]
fn t64_registers_that_a_bus_maps_in_part_are_refused() {
    let reset =
        |at: u32, size: u32| node("reset@1", &[("reg", cells(&[at, size])), ("compatible", text(&["vendor,reset"]))]);
    let dtb = |at, size| {
        modified(|tree| {
            let mut soc = bus(&[], 0x900_0000, vec![reset(at, size)]);
            set(&mut soc, &[("ranges", cells(&[0x1000, 0, 0x900_f800, 0x800]))]);
            tree.root.add_child(soc);
        })
    };
    refused_for(&dtb(0x1000, 0x1000), &["/bus@f000000", "ranges"]);
    refused_for(&dtb(0xf00, 0x200), &["/bus@f000000", "ranges"]);
    assert!(boot(&dtb(0x1000, 0x800)).is_ok());
    assert!(boot(&dtb(0x3000, 0x800)).is_ok());
}
