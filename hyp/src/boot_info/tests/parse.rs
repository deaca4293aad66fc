use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use dtoolkit::memreserve::MemoryReservation;
use io_pgtable::Pa;

use super::virt::*;
use crate::boot_info::gic::{Spi, Trigger};
use crate::boot_info::pci::{IdRange, MasterStreams, Upstream};
use crate::boot_info::{BootError, Early, Platform, dtb_size};
use smmu_drv::Coherency;
use smmu_drv::errata::{Issue, Quirks};

#[test]
fn every_field_of_the_default_machine_is_parsed() {
    let dtb = modified(|_| {});
    let platform = Platform::parse(&dtb).unwrap();
    assert_eq!(platform.options.token, Some(TOKEN));
    assert_eq!(platform.memory.ram.to_string(), "0x40000000..0x80000000");
    assert_eq!(platform.modules().unwrap().kernel.range, range(KERNEL, KERNEL_SIZE));
    assert_eq!(platform.modules().unwrap().kernel.bootargs, Some("console=ttyAMA0 quiet"));
    assert_eq!(platform.modules().unwrap().ramdisk.unwrap().range, range(RAMDISK, RAMDISK_SIZE));
    assert_eq!(platform.cpus.iter().map(|c| c.mpidr).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(platform.uarts.host.unwrap().range.base(), Pa(0x900_0000));
    assert_eq!(platform.uarts.el2.unwrap().range.base(), Pa(0x904_0000));
    assert_eq!(platform.gic.distributor, range(0x800_0000, 0x1_0000));
    assert_eq!(&*platform.gic.redistributors, [range(0x80a_0000, 0xf6_0000)]);
    assert_eq!(platform.gic.its[0].translater(), Pa(0x809_0000));
    let smmu = platform.smmus[0];
    assert_eq!(platform.smmus.len(), 1);
    assert_eq!((smmu.range, smmu.coherency), (range(0x905_0000, 0x2_0000), Coherency::Coherent));
    let edge = |intid| Some(Spi { intid, trigger: Trigger::Edge });
    assert_eq!(smmu.interrupts.eventq, edge(106));
    assert_eq!(smmu.interrupts.priq, edge(107));
    assert_eq!(smmu.interrupts.cmdq_sync, edge(108));
    assert_eq!(smmu.interrupts.gerror, edge(109));
    assert_eq!((smmu.interrupts.combined, smmu.msi_parent, smmu.data_override), (None, false, false));
    assert_eq!(platform.pci[0].ecam, range(0x40_1000_0000, 0x1000_0000));
    assert_eq!(platform.pci[0].windows.len(), 3);
    assert_eq!(platform.pci[0].upstream, Upstream::Smmu { first: 0 });
    // Only memory windows, by their bus addresses, which are equal to CPU addresses here.
    let memory = platform.pci[0].memory.iter().map(|window| (window.bus, window.cpu.base().0)).collect::<Vec<_>>();
    assert_eq!(memory, [(0x1000_0000, 0x1000_0000), (0x80_0000_0000, 0x80_0000_0000)]);
    assert_eq!(platform.pci[0].ids.as_slice(), [IdRange { rid: 0, count: 0x1_0000, smmu: 0, sid: 0 }]);
    assert_eq!((platform.pci[0].segment, platform.pci[0].buses), (0, (0, 0xff)));
    let map_of = Some(platform.pci[0].node);
    let streams = MasterStreams { map_of, smmu: 0, sid: 0, count: 0x1_0000 };
    assert_eq!(platform.streams.as_deref(), Some(&[streams][..]));
    assert_eq!(platform.path(smmu.node).to_string(), "/smmuv3@9050000");
    assert_eq!(platform.path(platform.gic.its[0].node).to_string(), "/intc@8000000/its@8080000");
}

#[test]
fn size_is_taken_from_a_real_header_only() {
    let dtb = modified(|_| {});
    let start = |bytes: &[u8]| <[u8; 8]>::try_from(&bytes[..8]).unwrap();
    assert_eq!(dtb_size(&start(&dtb)), Ok(dtb.len()));
    assert_eq!(dtb_size(b"\x7fELF\x02\x01\x01\x00"), Err(BootError::NotADtb { magic: 0x7f45_4c46 }));
    for size in [0u32, 39, (2 << 20) + 1, u32::MAX] {
        let mut bad = start(&dtb);
        bad[4..].copy_from_slice(&size.to_be_bytes());
        assert_eq!(dtb_size(&bad), Err(BootError::DtbSize { size }));
    }
}

#[test]
fn every_truncation_is_refused() {
    let dtb = modified(|_| {});
    for length in 0..dtb.len() {
        let mut cut = dtb[..length].to_vec();
        assert!(matches!(Platform::parse(&cut), Err(BootError::Dtb { .. })), "{length} bytes");
        if length >= 8 {
            // A loader that adjusts the header to the copied size.
            cut[4..8].copy_from_slice(&(length as u32).to_be_bytes());
            assert!(matches!(Platform::parse(&cut), Err(BootError::Dtb { .. })), "{length} bytes, adjusted");
        }
        assert_eq!(Early::read(&cut), Early::default());
    }
    assert!(
        refusal(&dtb[..100])
            .starts_with("malformed device tree: the length differs from the length in the header (offset 0x4)")
    );
}

#[test]
fn console_and_token_are_known_even_when_the_machine_is_refused() {
    let dtb = modified(|tree| {
        tree.root.remove_child("smmuv3@9050000").unwrap();
    });
    let early = Early::read(&dtb);
    assert_eq!(early.token, Some(TOKEN));
    assert_eq!(early.uarts.el2.unwrap().range.base(), Pa(0x904_0000));
    assert!(Platform::parse(&dtb).is_err());
}

#[test]
fn a_machine_that_cannot_be_isolated_is_refused() {
    let removed = |name: &str| refusal(&modified(|tree| drop(tree.root.remove_child(name).unwrap())));
    assert!(removed("smmuv3@9050000").contains("iommu=smmuv3"));
    assert!(removed("intc@8000000").contains("gic-version=3"));
    assert!(removed("psci").starts_with("no PSCI"));
    assert!(removed("memory@40000000").starts_with("no memory"));
    assert!(removed("cpus").starts_with("no CPU"));
    assert!(removed("chosen").contains("no kernel module for the host"));
    let hvc = with_properties("/psci", &[("method", text(&["hvc"]))]);
    assert!(refusal(&hvc).contains("virtualization=on"));
    let disabled = with_properties("/smmuv3@9050000", &[("status", text(&["disabled"]))]);
    refused_for(&disabled, &["/smmuv3@9050000", "status \"disabled\""]);
    let spin = with_properties("/cpus/cpu@1", &[("enable-method", text(&["spin-table"]))]);
    assert!(refusal(&spin).starts_with("/cpus/cpu@1: a CPU with an enable-method"));
    let twice = with_properties("/cpus/cpu@1", &[("reg", cells(&[2]))]);
    assert!(refusal(&twice).contains("/cpus/cpu@2 repeats"));
}

#[test]
fn t64_two_properties_with_one_name_are_refused() {
    // The second one has its own copy of the name.
    let mut dtb = modified(|tree| set(tree.find_node_mut("/pl031@9010000").unwrap(), &[("rex", cells(&[0, 0, 0, 0]))]));
    assert!(Platform::parse(&dtb).is_ok());
    let at = dtb.windows(5).position(|bytes| bytes == b"\0rex\0").unwrap();
    dtb[at + 1..at + 4].copy_from_slice(b"reg");
    let error = Platform::parse(&dtb).unwrap_err().to_string();
    assert!(error.contains("a node has two properties with the same name"), "{error}");
}

#[test]
fn t64_a_node_with_too_many_properties_is_refused() {
    let dtb = |count: usize| {
        modified(|tree| {
            let node = tree.find_node_mut("/aliases").unwrap();
            (0..count).for_each(|n| set(node, &[(&format!("alias{n}"), vec![])]));
        })
    };
    assert!(Platform::parse(&dtb(4000)).is_ok());
    let dtb = dtb(4200);
    let error = Platform::parse(&dtb).unwrap_err().to_string();
    assert!(error.contains("a node has more than 4096 properties"), "{error}");
}

#[test]
fn a_malformed_smmu_is_refused() {
    let smmu = |properties: &[(&str, Vec<u8>)]| refusal(&with_properties("/smmuv3@9050000", properties));
    assert!(smmu(&[("reg", wide(&[0x905_0000, 0x1_0000]))]).contains("smaller than 0x20000"));
    assert!(smmu(&[("reg", wide(&[0x905_1000, 0x2_0000]))]).contains("64 KiB pages"));
    assert!(smmu(&[("reg", cells(&[0x905_0000, 0x2_0000]))]).contains("cut short"));
    assert!(smmu(&[("reg", vec![1, 2, 3])]).contains("32-bit cells"));
    assert!(smmu(&[("reg", wide(&[u64::MAX - 0xffff, 0x2_0000]))]).contains("52-bit"));
    assert!(smmu(&[("interrupts", cells(&[0, 0x4a, 1]))]).contains("fewer entries"));
    assert!(smmu(&[("interrupt-names", text(&["eventq"]))]).contains("more entries"));
    assert!(smmu(&[("interrupt-names", text(&["eventq", "eventq", "gerror", "priq"]))]).contains("twice"));
    assert!(smmu(&[("phandle", vec![1])]).contains("phandle"));
}

#[test]
fn t63_errata_properties_are_passed_to_the_driver() {
    let with = |properties: &[(&str, Vec<u8>)]| with_properties("/smmuv3@9050000", properties);
    let issue = |compatible: &[&str]| {
        let dtb = with(&[("compatible", text(compatible))]);
        Platform::parse(&dtb).unwrap().smmus[0].quirks.issue
    };
    assert_eq!(issue(&["nvidia,tegra264-smmu", "arm,smmu-v3"]), Issue::Twice);
    assert_eq!(issue(&["arm,smmu-v3", "nvidia,tegra264-smmu"]), Issue::Twice);
    assert_eq!(issue(&["nvidia,tegra264", "arm,smmu-v3"]), Issue::Once);
    assert_eq!(issue(&["arm,smmu-v3"]), Issue::Once);
    // Neither a suffix of a property's name nor a longer name that ends with it is the property.
    let elsewhere = with(&[("nvidia,tegra264-smmu", vec![])]);
    assert_eq!(Platform::parse(&elsewhere).unwrap().smmus[0].quirks.issue, Issue::Once);
    let page_0_only = "cavium,cn9900-broken-page1-regspace";
    refused_for(&with(&[(page_0_only, vec![])]), &["/smmuv3@9050000", page_0_only]);
    let part = with(&[("compatible", text(&[page_0_only, "arm,smmu-v3"]))]);
    assert_eq!(Platform::parse(&part).unwrap().smmus[0].quirks.refused, None);
    let prefetch = with(&[("hisilicon,broken-prefetch-cmd", vec![])]);
    assert_eq!(Platform::parse(&prefetch).unwrap().smmus[0].quirks, Quirks::default());
}

#[test]
fn t64_an_its_that_is_not_aligned_to_its_pages_is_refused() {
    let at = |base| with_properties("/intc@8000000/its@8080000", &[("reg", wide(&[base, 0x2_0000]))]);
    assert!(Platform::parse(&at(0x808_0000)).is_ok());
    for base in [0x808_0800, 0x808_1000, 0x808_8000] {
        assert!(refusal(&at(base)).contains("is not aligned to the 64 KiB"), "{base:#x}");
    }
}

#[test]
fn an_smmu_listed_twice_or_overlapping_a_node_is_refused() {
    let second = |base, phandle| {
        modified(|tree| {
            let mut copy = tree.find_node("/smmuv3@9050000").unwrap().clone();
            set(&mut copy, &[("reg", wide(&[base, 0x2_0000])), ("phandle", cells(&[phandle]))]);
            let mut other = node("iommu@1", &[]);
            for property in ["reg", "phandle", "#iommu-cells", "compatible", "interrupts", "interrupt-names"] {
                use dtoolkit::{Node, Property};
                let value = copy.property(property).unwrap().value().to_vec();
                set(&mut other, &[(property, value)]);
            }
            tree.root.add_child(other);
        })
    };
    for base in [0x905_0000, 0x906_0000, 0x800_0000] {
        assert!(refusal(&second(base, 9)).contains("overlaps"), "{base:#x}");
    }
    assert!(refusal(&second(0x909_0000, SMMU)).contains("has the phandle 0x8005 of /smmuv3@9050000"));
    let dtb = second(0x909_0000, 9);
    assert_eq!(Platform::parse(&dtb).unwrap().smmus.len(), 2);
}

#[test]
fn coherency_is_inherited_and_can_be_overridden() {
    let coherency = |dtb: Vec<u8>| Platform::parse(&dtb).unwrap().smmus[0].coherency;
    let inherited =
        modified(|tree| drop(tree.find_node_mut("/smmuv3@9050000").unwrap().remove_property("dma-coherent")));
    assert_eq!(coherency(inherited), Coherency::Coherent);
    let neither = modified(|tree| {
        tree.root.remove_property("dma-coherent");
        tree.find_node_mut("/smmuv3@9050000").unwrap().remove_property("dma-coherent");
    });
    assert_eq!(coherency(neither), Coherency::NonCoherent);
    let taken_back = with_properties("/smmuv3@9050000", &[("dma-noncoherent", vec![])]);
    assert_eq!(coherency(taken_back), Coherency::NonCoherent);
}

/// T58.
#[test]
fn t58_invalid_modules_are_refused() {
    let kernel = |properties: &[(&str, Vec<u8>)]| refusal(&with_properties("/chosen/module@0x49000000", properties));
    let outside = kernel(&[("reg", wide(&[0x8000_0000, KERNEL_SIZE]))]);
    assert!(outside.contains("0x80000000..0x829f0000") && outside.contains("ends at 0x80000000"), "{outside}");
    assert!(kernel(&[("reg", wide(&[0x7f00_0000, KERNEL_SIZE]))]).contains("not in the machine's memory"));
    assert!(kernel(&[("reg", wide(&[u64::MAX - 0xfff, KERNEL_SIZE]))]).contains("one address and one size"));
    assert!(kernel(&[("reg", wide(&[KERNEL, 0]))]).contains("size above zero"));
    assert!(kernel(&[("reg", wide(&[KERNEL, KERNEL_SIZE, KERNEL, KERNEL_SIZE]))]).contains("one address"));
    assert!(kernel(&[("reg", wide(&[KERNEL, 63]))]).contains("shorter than the header"));
    assert!(kernel(&[("reg", cells(&[1]))]).contains("one address"));
    let over = kernel(&[("reg", wide(&[0x4c00_0000, KERNEL_SIZE]))]);
    assert!(
        over.contains("ramdisk module at 0x4d000000") && over.contains("load the ramdisk module at 0x4e9f0000"),
        "{over}"
    );
    assert!(
        kernel(&[("compatible", text(&["multiboot,module", "multiboot,ramdisk"]))]).contains("two ramdisk modules")
    );
    assert!(kernel(&[("compatible", text(&["multiboot,module", "xen,xsm"]))]).contains("neither"));
    assert!(kernel(&[("bootargs", vec![b'a'])]).contains("is not one string"));
}

#[test]
fn modules_may_have_their_own_cell_counts() {
    let dtb = modified(|tree| {
        let chosen = tree.find_node_mut("/chosen").unwrap();
        set(chosen, &[("#address-cells", cells(&[1])), ("#size-cells", cells(&[1]))]);
        for (name, base, size) in
            [("module@0x49000000", KERNEL, KERNEL_SIZE), ("module@0x4d000000", RAMDISK, RAMDISK_SIZE)]
        {
            set(chosen.child_mut(name).unwrap(), &[("reg", cells(&[base as u32, size as u32]))]);
        }
    });
    let platform = Platform::parse(&dtb).unwrap();
    assert_eq!(platform.modules().unwrap().kernel.range, range(KERNEL, KERNEL_SIZE));
    assert_eq!(platform.modules().unwrap().ramdisk.unwrap().range, range(RAMDISK, RAMDISK_SIZE));
}

/// T58.
#[test]
fn t58_a_malformed_iommu_map_is_refused() {
    let map = |value: &[u32]| with_properties("/pcie@10000000", &[("iommu-map", cells(value))]);
    for bad in [
        &[][..],
        &[0, SMMU, 0],
        &[0, SMMU, 0, 0x1_0000, 0],
        &[0, SMMU, 0, 0],
        &[0, SMMU, 0, 0x1_0001],
        &[1, SMMU, 0, 0x1_0000],
        &[0, SMMU, u32::MAX, 0x1_0000],
        &[0, SMMU, 0, 0x9000, 0x8000, SMMU, 0x8000, 0x8000],
        &[0xffff_ffff, SMMU, 0, 0xffff_ffff],
    ] {
        assert!(refusal(&map(bad)).contains("iommu-map"), "{bad:x?}");
    }
    let upstream = |dtb: Vec<u8>| Platform::parse(&dtb).unwrap().pci[0].upstream;
    assert_eq!(upstream(map(&[0, SMMU, 0, 0x8000, 0x8000, SMMU, 0x8000, 0x8000])), Upstream::Smmu { first: 0 });
    assert_eq!(upstream(map(&[0, SMMU, 0, 0xffff])), Upstream::Partly);
    assert_eq!(upstream(map(&[0, 7, 0, 0x1_0000])), Upstream::Foreign);
    assert_eq!(upstream(map(&[0, SMMU, 0, 0x8000, 0x8000, 7, 0, 0x8000])), Upstream::Foreign);
    assert_eq!(upstream(without("/pcie@10000000", "iommu-map")), Upstream::Nothing);
    let masked = with_properties("/pcie@10000000", &[("iommu-map-mask", cells(&[0xff]))]);
    assert_eq!(upstream(masked), Upstream::Partly);
    let buses = [("bus-range", cells(&[1, 2])), ("iommu-map", cells(&[0x100, SMMU, 0x100, 0x200]))];
    assert_eq!(upstream(with_properties("/pcie@10000000", &buses)), Upstream::Buses { first: 0 });
}

#[test]
fn a_malformed_pci_host_is_refused() {
    let pci = |properties: &[(&str, Vec<u8>)]| refusal(&with_properties("/pcie@10000000", properties));
    assert!(pci(&[("bus-range", cells(&[0]))]).contains("bus-range"));
    assert!(pci(&[("bus-range", cells(&[9, 1]))]).contains("bus-range"));
    assert!(pci(&[("bus-range", cells(&[0, 0x100]))]).contains("bus-range"));
    assert!(pci(&[("reg", wide(&[0x40_1000_0000, 0x100_0000]))]).contains("configuration space"));
    assert!(pci(&[("ranges", cells(&[0x200_0000, 0, 0]))]).contains("cut short"));
    assert!(pci(&[("ranges", cells(&[0, 0, 0, 0, 0, 0, 1]))]).contains("a window of configuration space"));
    assert!(pci(&[("ranges", cells(&[0x200_0000, 0, 0, u32::MAX, u32::MAX, 0, 1]))]).contains("outside"));
    assert!(pci(&[("#address-cells", cells(&[2]))]).contains("must be 3"));
}

/// T58.
#[test]
fn t58_huge_counts_are_refused() {
    let many = |count: u64| wide(&(0..count).flat_map(|n| [0x4000_0000 + n * 0x2000, 0x1000]).collect::<Vec<_>>());
    let ram = with_properties("/memory@40000000", &[("reg", many(17))]);
    assert!(refusal(&ram).contains("more than 16 ranges of memory"));
    let cpus = virt(513, 1024 * MIB).to_dtb();
    assert!(refusal(&cpus).contains("more than 512 CPUs"));
    let gic = with_properties("/intc@8000000", &[("#redistributor-regions", cells(&[u32::MAX]))]);
    assert!(refusal(&gic).contains("#redistributor") || refusal(&gic).contains("all redistributors"));
    let address_cells = modified(|tree| set(&mut tree.root, &[("#address-cells", cells(&[u32::MAX]))]));
    assert!(refusal(&address_cells).contains("#address-cells"));
    let deep = modified(|tree| {
        let mut inner = node("n", &[]);
        for _ in 0..40 {
            let mut outer = node("n", &[]);
            outer.add_child(inner);
            inner = outer;
        }
        tree.root.add_child(inner);
    });
    assert!(refusal(&deep).contains("levels"));
    let wide_tree = modified(|tree| {
        for n in 0..600 {
            tree.root.add_child(node(&std::format!("d@{n}"), &[("reg", wide(&[n << 12, 1]))]));
        }
    });
    assert!(refusal(&wide_tree).contains("more than 512 device tree nodes"));
}

#[test]
fn reserved_memory_is_known() {
    let dtb = modified(|tree| {
        let mut reserved = node(
            "reserved-memory",
            &[("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])],
        );
        reserved.add_child(node("keep@50000000", &[("reg", wide(&[0x5000_0000, 0x1000]))]));
        reserved.add_child(node("fw@60000000", &[("reg", wide(&[0x6000_0000, 0x2000])), ("no-map", vec![])]));
        reserved.add_child(node("pool", &[("size", wide(&[0x10_0000]))]));
        tree.root.add_child(reserved);
        tree.memory_reservations.push(MemoryReservation::new(0x7000_0800, 0x10));
    });
    let memory = Platform::parse(&dtb).unwrap().memory;
    assert_eq!(memory.reserved.to_string(), "0x50000000..0x50001000, 0x60000000..0x60002000, 0x70000000..0x70001000");
    assert_eq!(memory.no_map.to_string(), "0x60000000..0x60002000");
    let bad = modified(|tree| tree.memory_reservations.push(MemoryReservation::new(u64::MAX, 2)));
    assert!(refusal(&bad).contains("/memreserve/"));
}

#[test]
fn the_page_at_address_zero_is_not_memory() {
    let reg = wide(&[0, 0x1_0000, 0x4000_0000, 0x4000_0000]);
    let dtb = with_properties("/memory@40000000", &[("reg", reg)]);
    let memory = Platform::parse(&dtb).unwrap().memory;
    assert_eq!(memory.ram.to_string(), "0x1000..0x10000, 0x40000000..0x80000000");
}

#[test]
fn overlapping_memory_nodes_are_refused() {
    let dtb = modified(|tree| {
        tree.root.add_child(node(
            "memory@50000000",
            &[("reg", wide(&[0x5000_0000, 0x1000])), ("device_type", text(&["memory"]))],
        ));
    });
    assert!(refusal(&dtb).contains("/memory@50000000 overlaps memory"));
}

#[test]
fn the_consoles_follow_stdout_path() {
    let uarts = |stdout: &str| {
        let dtb = with_properties("/chosen", &[("stdout-path", text(&[stdout]))]);
        let found = Platform::parse(&dtb).unwrap().uarts;
        (found.host.unwrap().range.base().0, found.el2.unwrap().range.base().0)
    };
    let (first, second) = (0x900_0000, 0x904_0000);
    assert_eq!(uarts("/pl011@9000000"), (first, second));
    assert_eq!(uarts("/pl011@9040000"), (second, first));
    assert_eq!(uarts("serial1:115200n8"), (second, first));
    assert_eq!(uarts("/no/such/node"), (first, second));
    assert_eq!(uarts("nonsense"), (first, second));
    let one = modified(|tree| drop(tree.root.remove_child("pl011@9040000").unwrap()));
    let found = Platform::parse(&one).unwrap().uarts;
    assert_eq!(found.host.unwrap().range.base().0, first);
    assert_eq!(found.el2, None);
}
