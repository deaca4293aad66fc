//! Masters that are behind an SMMU by one property but not by another: row T64 of the attack catalogue.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::virt::*;
use crate::boot_info::policy::{Given, Verdict, Withheld};
use crate::boot_info::{MmioPolicy, Platform};

#[test]
fn t64_one_phandle_twice_is_refused() {
    let second = |name: &str, property: &str, phandle: u32| {
        with_node(node(name, &[(property, cells(&[phandle])), ("compatible", text(&["vendor,iommu"]))]))
    };
    refused_for(&second("iommu", "phandle", SMMU), &["/iommu", "/smmuv3@9050000", "phandle"]);
    refused_for(&second("iommu", "linux,phandle", SMMU), &["/iommu", "phandle"]);
    refused_for(&second("iommu", "phandle", 0x8000), &["/iommu", "/apb-pclk", "phandle"]);
    refused_for(&second("iommu", "phandle", 0), &["/iommu", "phandle"]);
    refused_for(&second("iommu", "phandle", u32::MAX), &["/iommu", "phandle"]);
    let both = |old: u32| with_properties("/apb-pclk", &[("linux,phandle", cells(&[old]))]);
    assert!(boot(&both(0x8000)).is_ok());
    refused_for(&both(0x8001), &["/apb-pclk", "phandle"]);
    refused_for(&with_node(node("iommu", &[("phandle", vec![1])])), &["/iommu", "phandle"]);
}

const FOREIGN: u32 = 0x77;

/// A platform device at 0xf010000 behind the SMMU, with more properties.
fn dma(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut device = node(
        "dma@f010000",
        &[("reg", wide(&[0xf01_0000, 0x1000])), ("compatible", text(&["vendor,dma"])), ("iommus", cells(&[SMMU, 5]))],
    );
    set(&mut device, properties);
    with_node(device)
}

/// The streams of masters that are not PCI functions: one entry that cannot be decoded makes all of them unknown.
#[test]
fn t68_an_iommus_property_that_cannot_be_decoded_makes_all_streams_unknown() {
    let streams = |iommus: &[u32]| {
        let dtb = dma(&[("iommus", cells(iommus)), ("status", text(&["disabled"]))]);
        let platform = Platform::parse(&dtb).unwrap();
        platform.streams.map(|all| {
            let direct = all.iter().filter(|one| one.map_of.is_none() && one.count == 1);
            direct.map(|one| (one.smmu, one.sid)).collect::<Vec<_>>()
        })
    };
    assert_eq!(streams(&[SMMU, 5]), Some(vec![(0, 5)]));
    assert_eq!(streams(&[SMMU, 5, SMMU, 0x108]), Some(vec![(0, 5), (0, 0x108)]));
    assert_eq!(streams(&[FOREIGN, 5]), None);
    assert_eq!(streams(&[SMMU, 5, SMMU]), None);
    assert_eq!(streams(&[SMMU, 1].repeat(65)), None);
}

/// Streams of `iommu-map` properties are included for every kind of node; those of a PCI host belong to its segment.
#[test]
fn t68_an_iommu_map_that_cannot_be_decoded_makes_all_streams_unknown() {
    let streams = |map: &[u32]| {
        let dtb = dma(&[("iommu-map", cells(map)), ("status", text(&["disabled"]))]);
        let platform = Platform::parse(&dtb).unwrap();
        let pci = platform.pci[0].node;
        platform.streams.map(|all| {
            all.iter()
                .filter(|one| one.map_of != Some(pci))
                .map(|one| (one.smmu, one.sid, one.count))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(streams(&[0, SMMU, 0x108, 1]), Some(vec![(0, 5, 1), (0, 0x108, 1)]));
    assert_eq!(streams(&[0, SMMU, 0, 8, 8, SMMU, 0x20, 0x10]), Some(vec![(0, 5, 1), (0, 0, 8), (0, 0x20, 0x10)]));
    assert_eq!(streams(&[0, FOREIGN, 0, 1]), None);
    assert_eq!(streams(&[0, SMMU, 0]), None);
    assert_eq!(streams(&[0, SMMU, 0, 1].repeat(65)), None);
    let platform = dma(&[]);
    let platform = Platform::parse(&platform).unwrap();
    let host = &platform.pci[0];
    let own = platform.streams.unwrap().into_iter().filter(|one| one.map_of == Some(host.node));
    assert!(
        own.map(|one| (one.smmu, one.sid, one.count)).eq(host.ids.iter().map(|ids| (ids.smmu, ids.sid, ids.count)))
    );
}

/// With other bus numbers, devices could have IDs outside the map. So configuration space is not mapped, and EL2 checks
/// each store.
#[test]
fn t64_a_bridge_whose_map_covers_its_buses_only_has_no_mapped_configuration_space() {
    let path = "/pcie@10000000";
    let limited =
        |buses: &[u32], map: &[u32]| with_properties(path, &[("bus-range", cells(buses)), ("iommu-map", cells(map))]);
    let partly = Verdict::Withheld(Withheld::IommuMapPartly);
    let given = Verdict::Given(Given::PciBuses { smmu: 0 });
    assert_eq!(verdict(&limited(&[0, 0], &[0, SMMU, 0, 0x100]), path), given);
    assert_eq!(verdict(&limited(&[0, 0], &[0, SMMU, 0, 0xff]), path), partly);
    assert_eq!(verdict(&limited(&[0, 1], &[0, SMMU, 0, 0x100]), path), partly);
    assert_eq!(verdict(&limited(&[8, 10], &[0x800, SMMU, 0x800, 0x300]), path), given);
    assert_eq!(verdict(&limited(&[8, 10], &[0x800, SMMU, 0, 0x100, 0x900, SMMU, 0x100, 0x200]), path), given);
    assert_eq!(verdict(&limited(&[8, 10], &[0x800, SMMU, 0, 0x100, 0xa00, SMMU, 0x100, 0x200]), path), partly);
    assert_eq!(verdict(&limited(&[7, 10], &[0x800, SMMU, 0x800, 0x300]), path), partly);
    assert_eq!(verdict(&limited(&[0, 0], &[0, FOREIGN, 0, 0x100]), path), Verdict::Withheld(Withheld::ForeignIommu));
    assert_eq!(verdict(&limited(&[0, 0], &[0, SMMU, 0, 0x1_0000]), path), Verdict::Given(Given::Pci { smmu: 0 }));
    let dtb = limited(&[0, 0], &[0, SMMU, 0, 0x100]);
    let (platform, policy, _) = boot(&dtb).unwrap();
    let host = &platform.pci[0];
    assert!(!policy.mmio().overlaps(&host.ecam), "{}", policy.mmio());
    assert!(host.windows.iter().all(|window| policy.mmio().contains(window)));
    assert!(policy.given().iter().any(|part| part.range == host.ecam), "the check of the plan must include it");
    let masked = [("bus-range", cells(&[0, 0])), ("iommu-map-mask", cells(&[0xff]))];
    assert_eq!(verdict(&with_properties(path, &masked), path), partly);
    // Another node has the same addresses: they are not mapped for it either.
    let twice = modified(|tree| {
        set(
            tree.find_node_mut(path).unwrap(),
            &[("bus-range", cells(&[0, 0])), ("iommu-map", cells(&[0, SMMU, 0, 0x100]))],
        );
        tree.root.add_child(primecell("pl061@4010000000", "arm,pl061", 0x40_1000_0000));
    });
    let (platform, policy, _) = boot(&twice).unwrap();
    assert!(!policy.mmio().overlaps(&platform.pci[0].ecam), "{}", policy.mmio());
}

#[test]
fn t64_iommus_and_iommu_map_must_both_refer_to_the_smmu() {
    let path = "/dma@f010000";
    let given = Verdict::Given(Given::BehindSmmu { smmu: 0 });
    let foreign = Verdict::Withheld(Withheld::ForeignIommu);
    let map = |entries: &[u32]| dma(&[("iommu-map", cells(entries))]);
    assert_eq!(verdict(&dma(&[]), path), given);
    assert_eq!(verdict(&map(&[0, SMMU, 0, 0x1_0000]), path), given);
    assert_eq!(verdict(&map(&[0, FOREIGN, 0, 0x10]), path), foreign);
    assert_eq!(verdict(&map(&[0, FOREIGN, 0, 0x1_0000]), path), foreign);
    assert_eq!(verdict(&map(&[0, SMMU, 0, 0xfff0, 0xfff0, FOREIGN, 0, 0x10]), path), foreign);
    assert_eq!(verdict(&map(&[0, SMMU, 0, 0x10]), path), Verdict::Withheld(Withheld::IommuMapPartly));
    let masked = dma(&[("iommu-map", cells(&[0, SMMU, 0, 0x1_0000])), ("iommu-map-mask", cells(&[0xff]))]);
    assert_eq!(verdict(&masked, path), Verdict::Withheld(Withheld::IommuMapPartly));
    for bad in [&[][..], &[0, SMMU, 0], &[0, SMMU, u32::MAX, 0x1_0000], &[1, SMMU, 0, 0x1_0000]] {
        refused_for(&map(bad), &["iommu-map", path]);
    }
    refused_for(
        &dma(&[("iommu-map-mask", vec![1]), ("iommu-map", cells(&[0, SMMU, 0, 0x1_0000]))]),
        &["iommu-map-mask"],
    );
    // The same with the two properties exchanged.
    let only_map = dma(&[("iommus", cells(&[FOREIGN, 5])), ("iommu-map", cells(&[0, SMMU, 0, 0x1_0000]))]);
    assert_eq!(verdict(&only_map, path), foreign);
    let bridge = |iommus: &[u32]| with_properties("/pcie@10000000", &[("iommus", cells(iommus))]);
    assert_eq!(verdict(&bridge(&[SMMU, 5]), "/pcie@10000000"), Verdict::Given(Given::Pci { smmu: 0 }));
    assert_eq!(verdict(&bridge(&[FOREIGN, 5]), "/pcie@10000000"), foreign);
    // A known non-master with an `iommu-map`.
    let clock = with_properties("/pl031@9010000", &[("iommu-map", cells(&[0, FOREIGN, 0, 0x10]))]);
    assert_eq!(verdict(&clock, "/pl031@9010000"), foreign);
}

/// Access to a device's registers can start the DMA of its child nodes.
#[test]
fn t64_a_part_behind_another_iommu_withholds_the_device() {
    let part = |properties: &[(&str, Vec<u8>)]| {
        modified(|tree| {
            let mut device =
                node("dma@f010000", &[("reg", wide(&[0xf01_0000, 0x1000])), ("iommus", cells(&[SMMU, 5]))]);
            let mut middle = node("engine", &[]);
            middle.add_child(node("part", properties));
            device.add_child(middle);
            tree.root.add_child(device);
        })
    };
    let path = "/dma@f010000";
    let foreign = Verdict::Withheld(Withheld::ForeignIommu);
    assert_eq!(verdict(&part(&[("iommus", cells(&[SMMU, 6]))]), path), Verdict::Given(Given::BehindSmmu { smmu: 0 }));
    assert_eq!(verdict(&part(&[("iommus", cells(&[FOREIGN, 6]))]), path), foreign);
    assert_eq!(verdict(&part(&[("iommu-map", cells(&[0, FOREIGN, 0, 1]))]), path), foreign);
    let off = part(&[("iommus", cells(&[FOREIGN, 6])), ("status", text(&["disabled"]))]);
    assert_eq!(verdict(&off, path), foreign);
    let below_bridge = modified(|tree| {
        let properties = [("reg", cells(&[0x800, 0, 0, 0, 0])), ("iommus", cells(&[FOREIGN, 6]))];
        tree.find_node_mut("/pcie@10000000").unwrap().add_child(node("nic@1,0", &properties));
    });
    assert_eq!(verdict(&below_bridge, "/pcie@10000000"), foreign);
}

/// A StreamID is one cell at an SMMUv3: with another count every `iommus` would have another meaning.
#[test]
fn t64_an_smmu_with_another_count_of_iommu_cells_is_refused() {
    for bad in [cells(&[0]), cells(&[2]), cells(&[1, 1]), vec![]] {
        let dtb = with_properties("/smmuv3@9050000", &[("#iommu-cells", bad)]);
        refused_for(&dtb, &["#iommu-cells", "/smmuv3@9050000"]);
    }
    refused_for(&without("/smmuv3@9050000", "#iommu-cells"), &["#iommu-cells"]);
}

/// None of these affects isolation: stage 2 applies with any value.
#[test]
fn t64_properties_that_only_the_host_uses_change_no_decision() {
    let decisions = |dtb: &[u8]| {
        let platform = Platform::parse(dtb).unwrap();
        let policy = MmioPolicy::decide(&platform).unwrap();
        (policy.decisions().to_vec(), policy.mmio().to_string())
    };
    let usual = decisions(&modified(|_| {}));
    for (name, value) in [
        ("dma-ranges", cells(&[1, 2, 3])),
        ("dma-ranges", vec![]),
        ("dma-noncoherent", vec![]),
        ("msi-map", cells(&[0, FOREIGN, 0, 0x1_0000])),
        ("msi-map", vec![1]),
        ("msi-map-mask", cells(&[0])),
        ("msi-parent", cells(&[FOREIGN])),
    ] {
        assert_eq!(decisions(&with_properties("/pcie@10000000", &[(name, value)])), usual, "{name}");
    }
}
