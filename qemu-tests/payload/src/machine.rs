//! The machine's description, parsed once from the device tree into fixed-size tables.

use core::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property, ToCellInt};

use crate::mmio;
use crate::num::{low32, u64_of, usize_of};
use crate::sysreg::MAX_CPUS;

/// Maximum size of the device tree, in bytes.
const DTB_MAX: usize = 2 << 20;
/// Maximum number of ranges of RAM.
const RAM_MAX: usize = 16;
/// Start of RAM on QEMU virt.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Load address of an arm64 Image in QEMU: that of EL2's own image, if there is a hypervisor.
pub const EL2_IMAGE: u64 = 0x4020_0000;

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By SMC: a hypervisor may run at EL2.
    Smc,
    /// By HVC: QEMU implements PSCI, there is no hypervisor.
    Hvc,
}

/// One window of PCI memory space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Address for the CPU and for PCI: both are the same on every supported machine.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
}

/// A second SMMU, with its own PCI host. The configuration spaces of both hosts are contiguous.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// SMMU register base.
    pub smmu: u64,
    /// First bus of its PCI host.
    pub bus: u32,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// PSCI conduit.
    pub conduit: Conduit,
    /// UART for the console, 0 if there is none.
    pub uart: u64,
    /// SMMU register base, 0 if there is none.
    pub smmu: u64,
    /// The second SMMU.
    pub second: Option<Second>,
    /// Interrupt numbers of the SMMU: event queue, PRI queue, SYNC, global error.
    pub smmu_interrupts: [u32; 4],
    /// PCI configuration space, 0 if there is none.
    pub ecam: u64,
    /// The last bus of the PCI host.
    pub last_bus: u32,
    /// 32-bit PCI memory window.
    pub window32: Window,
    /// 64-bit PCI memory window.
    pub window64: Window,
    /// StreamID of PCI requester 0.
    pub sid_base: u32,
    /// GIC distributor.
    pub gicd: u64,
    /// First GIC redistributor.
    pub gicr: u64,
    /// GIC ITS, 0 if there is none.
    pub its: u64,
    /// Affinities of the CPUs, in device-tree order.
    pub cpus: [u64; MAX_CPUS],
    /// Number of CPUs.
    pub cpu_count: usize,
    /// Address of the device tree at entry.
    pub dtb: u64,
    ram: [(u64, u64); RAM_MAX],
    ram_count: usize,
    fdt: Fdt<'static>,
}

/// The device tree's copy: the original may be in memory used by the allocator.
struct DtbCopy(core::cell::UnsafeCell<[u8; DTB_MAX]>);

// SAFETY: (1) the boot CPU writes it once, before any other CPU runs; it is then read-only.
#[allow(unsafe_code)]
unsafe impl Sync for DtbCopy {}

static DTB: DtbCopy = DtbCopy(core::cell::UnsafeCell::new([0; DTB_MAX]));

#[allow(unsafe_code)]
fn copy_dtb(dtb: u64) -> &'static [u8] {
    assert!(mmio::read32(dtb).swap_bytes() == 0xd00d_feed, "no device tree at {dtb:#x}");
    let size = usize_of(u64::from(mmio::read32(dtb + 4).swap_bytes()));
    assert!(size <= DTB_MAX, "device tree of {size:#x} bytes");
    // SAFETY: (1) only the boot CPU runs and calls this once, so the reference is the only one.
    let copy = unsafe { &mut *DTB.0.get() };
    for (index, byte) in copy.iter_mut().enumerate().take(size) {
        *byte = mmio::read8(dtb + u64_of(index));
    }
    &copy[..size]
}

fn first_reg(node: FdtNode<'_>) -> Option<Range<u64>> {
    let reg = node.reg().ok()??.next()?;
    let base: u64 = reg.address().ok()?;
    Some(base..base + reg.size::<u64>().ok()?)
}

fn enabled(node: &FdtNode<'_>) -> bool {
    node.property("status").is_none_or(|status| matches!(status.value(), b"okay\0" | b"ok\0"))
}

impl Machine {
    /// Reads the device tree at `dtb`.
    pub fn parse(dtb: u64) -> Self {
        let fdt = Fdt::new(copy_dtb(dtb)).expect("malformed device tree");
        let mut machine = Self {
            conduit: Conduit::Hvc,
            uart: 0,
            smmu: 0,
            second: None,
            smmu_interrupts: [0; 4],
            ecam: 0,
            last_bus: 0xff,
            window32: Window::default(),
            window64: Window::default(),
            sid_base: 0,
            gicd: 0,
            gicr: 0,
            its: 0,
            cpus: [0; MAX_CPUS],
            cpu_count: 0,
            dtb,
            ram: [(0, 0); RAM_MAX],
            ram_count: 0,
            fdt,
        };
        for node in fdt.root().children() {
            machine.top_level(node);
        }
        machine.ram[..machine.ram_count].sort_unstable();
        machine
    }

    fn top_level(&mut self, node: FdtNode<'static>) {
        if node.name_without_address() == "memory" {
            for reg in node.reg().ok().flatten().into_iter().flatten() {
                if let (Ok(base), Ok(size)) = (reg.address::<u64>(), reg.size::<u64>())
                    && size != 0
                    && let Some(slot) = self.ram.get_mut(self.ram_count)
                {
                    *slot = (base, base + size);
                    self.ram_count += 1;
                }
            }
        } else if node.name() == "cpus" {
            for cpu in node.children().filter(|child| child.name_without_address() == "cpu" && enabled(child)) {
                if let (Some(reg), Some(slot)) = (cpu.property("reg"), self.cpus.get_mut(self.cpu_count)) {
                    *slot = reg.value().iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
                    self.cpu_count += 1;
                }
            }
        } else if enabled(&node) {
            self.device(node);
        }
    }

    fn device(&mut self, node: FdtNode<'static>) {
        let base = first_reg(node).map_or(0, |reg| reg.start);
        if node.is_compatible("arm,pl011") && self.uart == 0 {
            self.uart = base;
        } else if node.is_compatible("arm,smmu-v3") && self.smmu != 0 {
            self.second.get_or_insert_default().smmu = base;
        } else if node.is_compatible("arm,smmu-v3") {
            self.smmu = base;
            if let Some(interrupts) = node.property("interrupts")
                && let Ok(cells) = interrupts.as_prop_encoded_array([1, 1, 1])
            {
                for (slot, [_kind, number, _flags]) in self.smmu_interrupts.iter_mut().zip(cells) {
                    // Shared peripheral interrupts begin at 32.
                    *slot = 32 + number.to_int::<u32>().unwrap_or(0);
                }
            }
        } else if node.is_compatible("arm,gic-v3") {
            let mut regs = node.reg().ok().flatten().into_iter().flatten().filter_map(|reg| reg.address::<u64>().ok());
            self.gicd = regs.next().unwrap_or(0);
            self.gicr = regs.next().unwrap_or(0);
            let its = node.children().find(|child| child.is_compatible("arm,gic-v3-its") && enabled(child));
            self.its = its.and_then(first_reg).map_or(0, |reg| reg.start);
        } else if node.is_compatible("pci-host-ecam-generic") && self.ecam != 0 {
            self.second.get_or_insert_default().bus = low32(base.saturating_sub(self.ecam) >> 20);
        } else if node.is_compatible("pci-host-ecam-generic") {
            self.ecam = base;
            if let Some(buses) = node.property("bus-range")
                && let Ok(mut cells) = buses.as_prop_encoded_array([1])
            {
                self.last_bus = cells.nth(1).and_then(|[last]| last.to_int().ok()).unwrap_or(0xff);
            }
            self.pci_host(node);
        } else if node.is_compatible("arm,psci-1.0") || node.is_compatible("arm,psci-0.2") {
            let smc = node.property("method").is_some_and(|method| method.value() == b"smc\0");
            self.conduit = if smc { Conduit::Smc } else { Conduit::Hvc };
        }
    }

    fn pci_host(&mut self, node: FdtNode<'static>) {
        if let Some(ranges) = node.property("ranges")
            && let Ok(cells) = ranges.as_prop_encoded_array([1, 2, 2, 2])
        {
            for [space, _child, parent, size] in cells {
                let window = Window { base: parent.to_int().unwrap_or(0), size: size.to_int().unwrap_or(0) };
                // Space code in bits 25:24: 2 is 32-bit memory, 3 is 64-bit memory.
                match space.to_int::<u32>().unwrap_or(0) >> 24 & 3 {
                    2 => self.window32 = window,
                    3 => self.window64 = window,
                    _ => {}
                }
            }
        }
        if let Some(map) = node.property("iommu-map")
            && let Ok(mut cells) = map.as_prop_encoded_array([1, 1, 1, 1])
            && let Some([_rid, _phandle, sid, _count]) = cells.next()
        {
            self.sid_base = sid.to_int().unwrap_or(0);
        }
    }

    /// Ranges of RAM that the device tree gives to the host, ascending.
    pub fn ram(&self) -> impl Iterator<Item = Range<u64>> {
        self.ram[..self.ram_count].iter().map(|(start, end)| *start..*end)
    }

    /// Whether `addr` is RAM of the host.
    pub fn is_ram(&self, addr: u64) -> bool {
        self.ram().any(|range| range.contains(&addr))
    }

    /// First gap between the RAM ranges of the device tree: EL2's memory.
    pub fn hole(&self) -> Option<Range<u64>> {
        let mut expected = RAM_BASE;
        for range in self.ram() {
            if range.start > expected {
                return Some(expected..range.start);
            }
            expected = range.end;
        }
        None
    }

    /// End of the highest range of RAM.
    pub fn ram_end(&self) -> u64 {
        self.ram().map(|range| range.end).max().unwrap_or(RAM_BASE)
    }

    /// The device tree.
    pub fn fdt(&self) -> Fdt<'static> {
        self.fdt
    }

    /// `name=` word of the kernel command line.
    pub fn argument(&self, name: &str) -> Option<&'static str> {
        let chosen = self.fdt.find_node("/chosen")?;
        let text: &'static str = chosen.property("bootargs")?.value_as().ok()?;
        text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The address of EL2's image: `el2=` on the kernel's command line in hexadecimal, or [`EL2_IMAGE`].
    pub fn el2_image(&self) -> u64 {
        let digits = self.argument("el2").and_then(|text| text.strip_prefix("0x"));
        digits.map_or(EL2_IMAGE, |digits| u64::from_str_radix(digits, 16).expect("el2= is not a number"))
    }

    /// Whether a hypervisor may run at EL2: firmware is called by SMC.
    pub fn under_hypervisor(&self) -> bool {
        self.conduit == Conduit::Smc
    }
}
