//! A tree with the nodes, addresses and numbers of QEMU 10.0's `virt` with
//! `gic-version=3,iommu=smmuv3,virtualization=on` and two guest-loader modules, built so that a test can change one
//! property at a time.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use io_pgtable::Pa;

use crate::boot_info::image::HEADER_SIZE;
use crate::boot_info::policy::Verdict;
use crate::boot_info::{BootError, Layout, MmioPolicy, PhysRange, Platform, Request, evaluate};

pub(super) const TOKEN: &str = "5eC0ffee0123456789abcdef";
pub(super) const GIC: u32 = 0x8003;
pub(super) const ITS: u32 = 0x8004;
pub(super) const SMMU: u32 = 0x8005;
pub(super) const KERNEL: u64 = 0x4900_0000;
pub(super) const KERNEL_SIZE: u64 = 0x29f_0000;
pub(super) const RAMDISK: u64 = 0x4d00_0000;
pub(super) const RAMDISK_SIZE: u64 = 0x15_2345;
pub(super) const IMAGE: u64 = 0x4020_0000;
pub(super) const DTB: u64 = 0x4800_0000;
pub(super) const MIB: u64 = 1 << 20;

pub(super) fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

/// Pairs of 64-bit numbers in two cells each.
pub(super) fn wide(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

pub(super) fn text(strings: &[&str]) -> Vec<u8> {
    strings.iter().flat_map(|s| s.bytes().chain([0])).collect()
}

pub(super) fn node(name: &str, properties: &[(&str, Vec<u8>)]) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    set(&mut node, properties);
    node
}

pub(super) fn set(node: &mut DeviceTreeNode, properties: &[(&str, Vec<u8>)]) {
    for (name, value) in properties {
        node.add_property(DeviceTreeProperty::new_unchecked(*name, value.as_slice()));
    }
}

fn with(mut parent: DeviceTreeNode, children: Vec<DeviceTreeNode>) -> DeviceTreeNode {
    for child in children {
        parent.add_child(child);
    }
    parent
}

/// The machine, with `cpus` CPUs and `ram` bytes of memory.
pub(super) fn virt(cpus: u32, ram: u64) -> DeviceTree {
    let mut tree = DeviceTree::new();
    let root = &mut tree.root;
    set(
        root,
        &[
            ("interrupt-parent", cells(&[GIC])),
            ("dma-coherent", vec![]),
            ("model", text(&["linux,dummy-virt"])),
            ("#size-cells", cells(&[2])),
            ("#address-cells", cells(&[2])),
            ("compatible", text(&["linux,dummy-virt"])),
        ],
    );
    root.add_child(node(
        "psci",
        &[("method", text(&["smc"])), ("compatible", text(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]))],
    ));
    root.add_child(node("memory@40000000", &[("reg", wide(&[0x4000_0000, ram])), ("device_type", text(&["memory"]))]));
    root.add_child(node(
        "platform-bus@c000000",
        &[
            ("ranges", cells(&[0, 0, 0xc00_0000, 0x200_0000])),
            ("#address-cells", cells(&[1])),
            ("#size-cells", cells(&[1])),
            ("compatible", text(&["qemu,platform", "simple-bus"])),
        ],
    ));
    root.add_child(device("fw-cfg@9020000", "qemu,fw-cfg-mmio", 0x902_0000, 0x18));
    for slot in 0..32 {
        let base = 0xa00_0000 + slot * 0x200;
        root.add_child(device(&format!("virtio_mmio@{base:x}"), "virtio,mmio", base, 0x200));
    }
    root.add_child(primecell("pl061@9030000", "arm,pl061", 0x903_0000));
    root.add_child(node(
        "smmuv3@9050000",
        &[
            ("phandle", cells(&[SMMU])),
            ("#iommu-cells", cells(&[1])),
            ("dma-coherent", vec![]),
            ("interrupt-names", text(&["eventq", "priq", "cmdq-sync", "gerror"])),
            ("interrupts", cells(&[0, 0x4a, 1, 0, 0x4b, 1, 0, 0x4c, 1, 0, 0x4d, 1])),
            ("reg", wide(&[0x905_0000, 0x2_0000])),
            ("compatible", text(&["arm,smmu-v3"])),
        ],
    ));
    root.add_child(pcie());
    root.add_child(primecell("pl031@9010000", "arm,pl031", 0x901_0000));
    root.add_child(primecell("pl011@9000000", "arm,pl011", 0x900_0000));
    root.add_child(primecell("pl011@9040000", "arm,pl011", 0x904_0000));
    root.add_child(with(
        node(
            "intc@8000000",
            &[
                ("phandle", cells(&[GIC])),
                ("reg", wide(&[0x800_0000, 0x1_0000, 0x80a_0000, 0xf6_0000])),
                ("#redistributor-regions", cells(&[1])),
                ("compatible", text(&["arm,gic-v3"])),
                ("ranges", vec![]),
                ("#size-cells", cells(&[2])),
                ("#address-cells", cells(&[2])),
                ("interrupt-controller", vec![]),
                ("#interrupt-cells", cells(&[3])),
            ],
        ),
        vec![node(
            "its@8080000",
            &[
                ("phandle", cells(&[ITS])),
                ("reg", wide(&[0x808_0000, 0x2_0000])),
                ("msi-controller", vec![]),
                ("compatible", text(&["arm,gic-v3-its"])),
            ],
        )],
    ));
    root.add_child(node(
        "flash@0",
        &[("reg", wide(&[0, 0x400_0000, 0x400_0000, 0x400_0000])), ("compatible", text(&["cfi-flash"]))],
    ));
    let cpus = (0..cpus).map(|n| {
        node(
            &format!("cpu@{n:x}"),
            &[
                ("reg", cells(&[n])),
                ("enable-method", text(&["psci"])),
                ("compatible", text(&["arm,cortex-a76"])),
                ("device_type", text(&["cpu"])),
            ],
        )
    });
    root.add_child(with(
        node("cpus", &[("#size-cells", cells(&[0])), ("#address-cells", cells(&[1]))]),
        cpus.collect(),
    ));
    root.add_child(node("timer", &[("compatible", text(&["arm,armv8-timer"]))]));
    root.add_child(node("apb-pclk", &[("phandle", cells(&[0x8000])), ("compatible", text(&["fixed-clock"]))]));
    root.add_child(node("aliases", &[("serial0", text(&["/pl011@9000000"])), ("serial1", text(&["/pl011@9040000"]))]));
    root.add_child(chosen());
    tree
}

fn device(name: &str, compatible: &str, base: u64, size: u64) -> DeviceTreeNode {
    node(name, &[("dma-coherent", vec![]), ("reg", wide(&[base, size])), ("compatible", text(&[compatible]))])
}

pub(super) fn primecell(name: &str, compatible: &str, base: u64) -> DeviceTreeNode {
    node(
        name,
        &[
            ("clocks", cells(&[0x8000])),
            ("reg", wide(&[base, 0x1000])),
            ("compatible", text(&[compatible, "arm,primecell"])),
        ],
    )
}

fn pcie() -> DeviceTreeNode {
    let mut ranges = cells(&[0x100_0000, 0, 0]);
    ranges.extend(wide(&[0x3eff_0000, 0x1_0000]));
    ranges.extend(cells(&[0x200_0000, 0, 0x1000_0000]));
    ranges.extend(wide(&[0x1000_0000, 0x2eff_0000]));
    ranges.extend(cells(&[0x300_0000, 0x80, 0]));
    ranges.extend(wide(&[0x80_0000_0000, 0x80_0000_0000]));
    node(
        "pcie@10000000",
        &[
            ("iommu-map", cells(&[0, SMMU, 0, 0x1_0000])),
            ("ranges", ranges),
            ("reg", wide(&[0x40_1000_0000, 0x1000_0000])),
            ("msi-map", cells(&[0, ITS, 0, 0x1_0000])),
            ("dma-coherent", vec![]),
            ("bus-range", cells(&[0, 0xff])),
            ("#size-cells", cells(&[2])),
            ("#address-cells", cells(&[3])),
            ("device_type", text(&["pci"])),
            ("compatible", text(&["pci-host-ecam-generic"])),
        ],
    )
}

fn chosen() -> DeviceTreeNode {
    with(
        node(
            "chosen",
            &[
                ("bootargs", text(&[&format!("token={TOKEN}")])),
                ("stdout-path", text(&["/pl011@9000000"])),
                ("rng-seed", vec![0x5a; 32]),
                ("kaslr-seed", vec![0xa5; 8]),
            ],
        ),
        vec![
            node(
                "module@0x4d000000",
                &[
                    ("compatible", text(&["multiboot,module", "multiboot,ramdisk"])),
                    ("reg", wide(&[RAMDISK, RAMDISK_SIZE])),
                ],
            ),
            node(
                "module@0x49000000",
                &[
                    ("bootargs", text(&["console=ttyAMA0 quiet"])),
                    ("compatible", text(&["multiboot,module", "multiboot,kernel"])),
                    ("reg", wide(&[KERNEL, KERNEL_SIZE])),
                ],
            ),
        ],
    )
}

/// The default machine, modified by `modify`.
pub(super) fn modified(modify: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    let mut tree = virt(4, 1024 * MIB);
    modify(&mut tree);
    tree.to_dtb()
}

/// The default machine with properties of one node replaced.
pub(super) fn with_properties(path: &str, properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    modified(|tree| set(tree.find_node_mut(path).unwrap(), properties))
}

/// The default machine without a property.
pub(super) fn without(path: &str, property: &str) -> Vec<u8> {
    modified(|tree| {
        tree.find_node_mut(path).unwrap().remove_property(property).unwrap();
    })
}

/// A kernel header with this `image_size`.
pub(super) fn kernel_header(image_size: u64) -> [u8; HEADER_SIZE] {
    let mut header = [0; HEADER_SIZE];
    header[16..24].copy_from_slice(&image_size.to_le_bytes());
    header[24..32].copy_from_slice(&0b1010u64.to_le_bytes());
    header[56..60].copy_from_slice(b"ARM\x64");
    header
}

pub(super) fn range(base: u64, size: u64) -> PhysRange {
    PhysRange::new(Pa(base), size).unwrap()
}

pub(super) fn request<'h>(dtb: &[u8], header: &'h [u8; HEADER_SIZE]) -> Request<'h> {
    Request {
        image: range(IMAGE, 0x8_3210),
        dtb: range(DTB, dtb.len() as u64),
        record: PhysRange::default(),
        pool_size: 32 * MIB,
        kernel_header: Some(header),
    }
}

/// All boot steps up to the plan check.
pub(super) fn boot(dtb: &[u8]) -> Result<(Platform<'_>, MmioPolicy, Layout), BootError<'_>> {
    let header = kernel_header(KERNEL_SIZE + 0x40_0000);
    let evaluated = evaluate(dtb, &request(dtb, &header))?;
    Ok((evaluated.platform, evaluated.policy, evaluated.layout))
}

/// The error message for a refused tree.
#[track_caller]
pub(super) fn refusal(dtb: &[u8]) -> String {
    match boot(dtb) {
        Ok(_) => panic!("accepted"),
        Err(error) => format!("{error}"),
    }
}

/// The decision about `path` in a tree that boots.
#[track_caller]
pub(super) fn verdict(dtb: &[u8], path: &str) -> Verdict {
    let (platform, policy, _) = boot(dtb).unwrap_or_else(|error| panic!("{error}"));
    let found = policy.decisions().iter().find(|d| platform.path(d.node).to_string() == path);
    found.unwrap_or_else(|| panic!("no decision about {path}")).verdict
}

/// The default machine with one more node.
pub(super) fn with_node(new: DeviceTreeNode) -> Vec<u8> {
    modified(|tree| tree.root.add_child(new))
}

#[track_caller]
pub(super) fn refused_for(dtb: &[u8], words: &[&str]) {
    let message = refusal(dtb);
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}
