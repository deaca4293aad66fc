//! `virt` of QEMU 11 with two SMMUs: one for the root bus, one for the root bus of an expander (`pxb-pcie`).
//! QEMU describes the second one in ACPI only, and prints a warning: its device tree omits the second SMMU and maps
//! every RequesterID to the first. The machines of this module boot with a tree that describes both: each bus has its
//! own host bridge, with its own part of configuration space and of the windows.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::qemu::Machine;
use crate::tree::{Node, add_node, cell, cells, change_cell, cut};

/// The SMMUs of a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Smmus {
    /// The one of `virt`.
    One,
    /// Two: QEMU 11 or newer.
    Two,
}

impl Smmus {
    /// One, or two for all other numbers.
    #[must_use]
    pub fn of_number(number: u8) -> Self {
        if number == 1 { Self::One } else { Self::Two }
    }
}

/// Bus of a root port behind the second SMMU, as QEMU's `bus=`.
pub const SECOND_BUS: &str = "rp2";
/// StreamIDs of devices on that bus. The first bus behind the expander is the root port's own one.
pub const SECOND_BUS_SIDS: std::ops::Range<u64> = 0x900..0xa00;
/// The names that Linux gives to the SMMUs in `/sys/class/iommu`.
pub const LINUX_NAMES: [&str; 2] = ["smmu3.0x000000000c000000", "smmu3.0x000000000c020000"];

/// First bus number of the expander.
const EXPANDER: u32 = 8;
/// Windows of `virt`: ECAM, 32-bit and 64-bit memory. The second host bridge gets the second part of each.
const ECAM: (u32, u32) = (0x40, 0x1000_0000);
const ECAM_SIZE: u32 = 0x1000_0000;
const FIRST_ECAM_SIZE: u32 = EXPANDER << 20;
const WINDOW_32: u32 = 0x1000_0000;
const WINDOW_32_SIZE: u32 = 0x2eff_0000;
const FIRST_WINDOW_32_SIZE: u32 = 0x1000_0000;
/// Upper words of the 64-bit window: its address is also its size.
const WINDOW_64: u32 = 0x80;
const FIRST_WINDOW_64_SIZE: u32 = 0x40;
/// The registers and the first interrupt of the SMMUs: QEMU's platform bus assigns both in order.
const SMMUS: u32 = 0xc00_0000;
const SMMU_SIZE: u32 = 0x2_0000;
const FIRST_SPI: u32 = 0x70;
const SPIS_PER_SMMU: u32 = 4;
/// A phandle that QEMU's tree does not have.
const SECOND_SMMU: u32 = 0x9000;

const DUMP_DEADLINE: Duration = Duration::from_secs(60);

/// Replaces the machine's SMMU by two, and adds the expander with a root port, [`SECOND_BUS`]. Called after all devices
/// without a `bus` of their own, since they could be put on the expander.
pub fn add(machine: &mut Machine) {
    machine.machine = machine.machine.replace(",iommu=smmuv3", "");
    machine.device("arm-smmuv3,primary-bus=pcie.0,stage=nested");
    machine.device(&format!("pxb-pcie,id=pxb,bus_nr={EXPANDER},bus=pcie.0"));
    machine.device("arm-smmuv3,primary-bus=pxb,stage=nested");
    machine.device(&format!("pcie-root-port,id={SECOND_BUS},bus=pxb,chassis=2"));
}

/// Boots the machine with a tree that describes both SMMUs. Called last, when all options that affect QEMU's tree are
/// set. Files are written into `dir`.
///
/// # Errors
/// When QEMU does not write its tree, or writes another one than expected.
pub fn describe(machine: &mut Machine, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let file = dir.join("two-smmus.dtb");
    let path = file.to_str().context("the folder's path is not UTF-8")?;
    let mut dump = machine.clone();
    dump.machine.push_str(&format!(",dumpdtb={}", path.replace(',', ",,")));
    dump.run(&dir.join("dump"), DUMP_DEADLINE)?.require_clean_exit()?;
    let mut tree = fs::read(&file)?;
    cut(&mut tree)?;
    correct(&mut tree)?;
    fs::write(&file, tree)?;
    machine.arg("-dtb").arg(file);
    Ok(())
}

/// Describes the second SMMU and its host bridge in QEMU's tree.
fn correct(tree: &mut Vec<u8>) -> Result<()> {
    let first = |tree: &[u8], name: &str, index| cell(tree, "pcie@", name, index);
    let windows = [first(tree, "ranges", 9)?, first(tree, "ranges", 13)?, first(tree, "ranges", 19)?];
    ensure!(
        windows == [WINDOW_32, WINDOW_32_SIZE, WINDOW_64],
        "QEMU's windows have unexpected addresses: {windows:x?}"
    );
    let ecam = [first(tree, "reg", 0)?, first(tree, "reg", 1)?, first(tree, "reg", 3)?];
    ensure!(ecam == [ECAM.0, ECAM.1, ECAM_SIZE], "QEMU's configuration space is at an unexpected address: {ecam:x?}");
    let smmu = [cell(tree, "smmuv3@", "reg", 1)?, cell(tree, "smmuv3@", "interrupts", 1)?];
    ensure!(smmu == [SMMUS, FIRST_SPI], "QEMU's SMMUs are at unexpected addresses: {smmu:x?}");
    change_cell(tree, "pcie@", "bus-range", 1, EXPANDER - 1)?;
    change_cell(tree, "pcie@", "reg", 3, FIRST_ECAM_SIZE)?;
    change_cell(tree, "pcie@", "ranges", 13, FIRST_WINDOW_32_SIZE)?;
    change_cell(tree, "pcie@", "ranges", 19, FIRST_WINDOW_64_SIZE)?;
    let its = cell(tree, "pcie@", "msi-map", 1)?;
    add_smmu(tree)?;
    add_host_bridge(tree, its)
}

fn add_smmu(tree: &mut Vec<u8>) -> Result<()> {
    let interrupts: Vec<u32> =
        (0..SPIS_PER_SMMU).flat_map(|number| [0, FIRST_SPI + SPIS_PER_SMMU + number, 1]).collect();
    let properties: [(&str, &[u8]); 7] = [
        ("compatible", b"arm,smmu-v3\0"),
        ("reg", &cells(&[0, SMMUS + SMMU_SIZE, 0, SMMU_SIZE])),
        ("interrupts", &cells(&interrupts)),
        ("interrupt-names", b"eventq\0priq\0cmdq-sync\0gerror\0"),
        ("dma-coherent", &[]),
        ("#iommu-cells", &cells(&[1])),
        ("phandle", &cells(&[SECOND_SMMU])),
    ];
    add_node(tree, &Node { name: "smmuv3@c020000", properties: &properties, children: &[] })
}

fn add_host_bridge(tree: &mut Vec<u8>, its: u32) -> Result<()> {
    let base_32 = WINDOW_32 + FIRST_WINDOW_32_SIZE;
    let base_64 = WINDOW_64 + FIRST_WINDOW_64_SIZE;
    let ranges = [
        [0x200_0000, 0, base_32, 0, base_32, 0, WINDOW_32_SIZE - FIRST_WINDOW_32_SIZE],
        [0x300_0000, base_64, 0, base_64, 0, WINDOW_64 - FIRST_WINDOW_64_SIZE, 0],
    ];
    let properties: [(&str, &[u8]); 10] = [
        ("compatible", b"pci-host-ecam-generic\0"),
        ("device_type", b"pci\0"),
        ("#address-cells", &cells(&[3])),
        ("#size-cells", &cells(&[2])),
        ("reg", &cells(&[ECAM.0, ECAM.1 + FIRST_ECAM_SIZE, 0, ECAM_SIZE - FIRST_ECAM_SIZE])),
        ("bus-range", &cells(&[EXPANDER, 0xff])),
        ("linux,pci-domain", &cells(&[1])),
        ("ranges", &cells(&ranges.concat())),
        ("msi-map", &cells(&[0, its, 0, 0x1_0000])),
        ("iommu-map", &cells(&[0, SECOND_SMMU, 0, 0x1_0000])),
    ];
    add_node(tree, &Node { name: "pcie@20000000", properties: &properties, children: &[] })
}
