//! The tree: one node for each part of the machine, in the bindings that EL2 reads.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::model::{DeviceTree, DeviceTreeNode};

use crate::bridges::Bridge;
use crate::error::{Error, Source};
use crate::firmware::{Firmware, Registers, Use};
use crate::iort::{Ids, Iort, Model, Smmu};
use crate::madt::Madt;
use crate::memory::Memory;
use crate::range::Range;
use crate::spcr::{Console, Kind};
use crate::tree::{Value, node, set};

const GIC: u32 = 1;
const FIRST_ITS: u32 = 0x100;
const FIRST_SMMU: u32 = 0x1_0000;
/// Maximum length of a command line in bytes.
const COMMAND_LINE_MAX: usize = 4096;
/// Space codes of a PCI address in a tree: 32-bit and 64-bit memory.
const MEMORY_32: u32 = 0x200_0000;
const MEMORY_64: u32 = 0x300_0000;

/// All parts of the machine.
pub(crate) struct Machine<'m> {
    pub(crate) firmware: &'m Firmware<'m>,
    pub(crate) madt: &'m Madt,
    pub(crate) iort: &'m Iort,
    pub(crate) console: Option<&'m Console>,
    pub(crate) memory: &'m Memory,
}

impl Machine<'_> {
    /// Writes the tree.
    pub(crate) fn tree(&self, bridges: &[Bridge]) -> Result<Vec<u8>, Error> {
        let mut tree = DeviceTree::new();
        let root = &mut tree.root;
        set(
            root,
            [
                ("#address-cells", Value::cells(&[2])),
                ("#size-cells", Value::cells(&[2])),
                ("interrupt-parent", Value::cells(&[GIC])),
                ("model", Value::strings(["UEFI with ACPI"])),
                ("compatible", Value::strings(["portcullis,acpi"])),
            ],
        );
        let psci = ["arm,psci-1.0", "arm,psci-0.2"];
        let psci = [("compatible", Value::strings(psci)), ("method", Value::strings(["smc"]))];
        root.add_child(node("psci".to_string(), psci));
        root.add_child(self.cpus());
        for range in &self.memory.ram {
            let memory = [("device_type", Value::strings(["memory"])), ("reg", reg(&[*range]))];
            root.add_child(node(at("memory", range), memory));
        }
        self.reserved().into_iter().for_each(|reserved| root.add_child(reserved));
        root.add_child(self.gic());
        for (index, its) in (0u32..).zip(&self.madt.its) {
            let properties = [
                ("compatible", Value::strings(["arm,gic-v3-its"])),
                ("msi-controller", Value::empty()),
                ("phandle", Value::cells(&[FIRST_ITS.saturating_add(index)])),
                ("reg", reg(&[its.range])),
            ];
            root.add_child(node(at("its", &its.range), properties));
        }
        for (index, smmu) in (0usize..).zip(&self.iort.smmus) {
            root.add_child(self.smmu(phandle(index), smmu));
        }
        for component in self.iort.components.iter().filter(|component| !component.ids.is_empty()) {
            let properties = [
                ("compatible", Value::strings(["portcullis,acpi-component"])),
                ("iommu-map", iommu_map(&component.ids)),
            ];
            root.add_child(node(format!("component@{:x}", component.offset), properties));
        }
        bridges.iter().for_each(|bridge| root.add_child(pci(bridge)));
        for registers in self.firmware.registers {
            root.add_child(firmware_registers(registers));
        }
        self.console.into_iter().for_each(|console| root.add_child(uart(console)));
        root.add_child(self.chosen()?);
        Ok(tree.to_dtb())
    }

    fn cpus(&self) -> DeviceTreeNode {
        let counts = [("#address-cells", Value::cells(&[2])), ("#size-cells", Value::cells(&[0]))];
        let mut cpus = node("cpus".to_string(), counts);
        for mpidr in &self.madt.cpus {
            let properties = [
                ("compatible", Value::strings(["arm,armv8"])),
                ("device_type", Value::strings(["cpu"])),
                ("enable-method", Value::strings(["psci"])),
                ("reg", Value::wide(&[*mpidr])),
            ];
            cpus.add_child(node(format!("cpu@{mpidr:x}"), properties));
        }
        cpus
    }

    fn reserved(&self) -> Option<DeviceTreeNode> {
        let mut reserved = node(
            "reserved-memory".to_string(),
            [("#address-cells", Value::cells(&[2])), ("#size-cells", Value::cells(&[2])), ("ranges", Value::empty())],
        );
        for range in &self.memory.reserved {
            reserved.add_child(node(at("device-memory", range), [("reg", reg(&[*range]))]));
        }
        (!self.memory.reserved.is_empty()).then_some(reserved)
    }

    fn gic(&self) -> DeviceTreeNode {
        let regions = u32::try_from(self.madt.redistributors.len()).unwrap_or(u32::MAX);
        let mut all = Vec::from([self.madt.distributor]);
        all.extend_from_slice(&self.madt.redistributors);
        let properties = [
            ("compatible", Value::strings(["arm,gic-v3"])),
            ("interrupt-controller", Value::empty()),
            ("#interrupt-cells", Value::cells(&[3])),
            ("#redistributor-regions", Value::cells(&[regions])),
            ("phandle", Value::cells(&[GIC])),
            ("reg", reg(&all)),
        ];
        node(at("interrupt-controller", &self.madt.distributor), properties)
    }

    fn smmu(&self, own: u32, smmu: &Smmu) -> DeviceTreeNode {
        let mut node = node(
            at("iommu", &smmu.range),
            [
                ("compatible", Value::strings(["arm,smmu-v3"])),
                ("#iommu-cells", Value::cells(&[1])),
                ("phandle", Value::cells(&[own])),
                ("reg", reg(&[smmu.range])),
            ],
        );
        let wired = || smmu.interrupts.iter().filter(|(_, number)| *number != 0);
        if wired().next().is_some() {
            let names = Value::strings(wired().map(|(name, _)| *name));
            // Edge-triggered: DEN 0049 defines no other trigger mode for an SMMUv3.
            let specifiers = wired().flat_map(|(_, number)| [0, number.saturating_sub(32), 1]).collect::<Vec<_>>();
            set(&mut node, [("interrupt-names", names), ("interrupts", Value::cells(&specifiers))]);
        }
        if smmu.coherent {
            set(&mut node, [("dma-coherent", Value::empty())]);
        }
        let its = (0u32..).zip(&self.madt.its).find(|(_, its)| Some(its.id) == smmu.its);
        if let Some((index, _)) = its {
            set(&mut node, [("msi-parent", Value::cells(&[FIRST_ITS.saturating_add(index)]))]);
        }
        match smmu.model {
            Model::Generic => {}
            Model::Hi161x => set(&mut node, [("hisilicon,broken-prefetch-cmd", Value::empty())]),
            Model::Cn99xx => set(&mut node, [("cavium,cn9900-broken-page1-regspace", Value::empty())]),
        }
        node
    }

    /// `/chosen`: EL2's command line and memory. The property with the memory also shows that UEFI firmware started
    /// EL2.
    fn chosen(&self) -> Result<DeviceTreeNode, Error> {
        let given = self.firmware.command_line;
        let bad = |offset, value, problem| {
            let remedy = "correct EL2's options that the loader passes";
            Error { source: Source::CommandLine, offset, value, problem, remedy }
        };
        if given.len() > COMMAND_LINE_MAX {
            return Err(bad(COMMAND_LINE_MAX, crate::table::wide(given.len()), "it has more than 4096 bytes"));
        }
        if let Some((offset, byte)) = given.bytes().enumerate().find(|(_, byte)| !matches!(byte, b' '..=b'~')) {
            return Err(bad(offset, byte.into(), "it contains a non-printable character"));
        }
        let properties = [
            ("#address-cells", Value::cells(&[2])),
            ("#size-cells", Value::cells(&[2])),
            ("bootargs", Value::strings([given])),
            ("portcullis,own-memory", reg(&[self.firmware.own])),
        ];
        let mut chosen = node("chosen".to_string(), properties);
        if let Some(console) = self.console {
            let path = format!("/{}", at("serial", &console.range));
            set(&mut chosen, [("stdout-path", Value::strings([path.as_str()]))]);
        }
        Ok(chosen)
    }
}

fn phandle(smmu: usize) -> u32 {
    FIRST_SMMU.saturating_add(u32::try_from(smmu).unwrap_or(u32::MAX))
}

fn at(name: &str, range: &Range) -> String {
    format!("{name}@{:x}", range.base)
}

fn reg(ranges: &[Range]) -> Value {
    Value::wide(&ranges.iter().flat_map(|range| [range.base, range.size]).collect::<Vec<_>>())
}

fn iommu_map(ids: &[Ids]) -> Value {
    let entries = ids.iter().flat_map(|one| {
        let count = u32::try_from(one.count).unwrap_or(u32::MAX);
        [one.first, phandle(one.smmu), one.stream, count]
    });
    Value::cells(&entries.collect::<Vec<_>>())
}

fn pci(bridge: &Bridge) -> DeviceTreeNode {
    let (first, last) = bridge.buses;
    let windows = bridge.windows.iter().map(|window| {
        let below = window.bus.checked_add(window.cpu.size).is_some_and(|end| end <= 1 << 32);
        Value::cells(&[if below { MEMORY_32 } else { MEMORY_64 }]).and(Value::wide(&[
            window.bus,
            window.cpu.base,
            window.cpu.size,
        ]))
    });
    let ranges = windows.fold(Value::empty(), Value::and);
    let mut node = node(
        at("pci", &bridge.ecam),
        [
            ("compatible", Value::strings(["pci-host-ecam-generic"])),
            ("device_type", Value::strings(["pci"])),
            ("#address-cells", Value::cells(&[3])),
            ("#size-cells", Value::cells(&[2])),
            ("bus-range", Value::cells(&[first.into(), last.into()])),
            ("linux,pci-domain", Value::cells(&[bridge.segment.into()])),
            ("reg", reg(&[bridge.ecam])),
            ("iommu-map", iommu_map(&bridge.ids)),
        ],
    );
    if !bridge.windows.is_empty() {
        set(&mut node, [("ranges", ranges)]);
    }
    if bridge.coherent {
        set(&mut node, [("dma-coherent", Value::empty())]);
    }
    node
}

fn firmware_registers(registers: &Registers) -> DeviceTreeNode {
    let name = match registers.used_as {
        Use::Variables | Use::Code => "flash",
        Use::Clock => "rtc",
    };
    let compatible = match registers.used_as {
        Use::Variables => "portcullis,firmware-variables",
        Use::Code => "portcullis,firmware-code",
        Use::Clock => "arm,pl031",
    };
    let properties = [("compatible", Value::strings([compatible])), ("reg", reg(&[registers.range]))];
    node(at(name, &registers.range), properties)
}

fn uart(console: &Console) -> DeviceTreeNode {
    let compatible = match console.kind {
        Kind::Pl011 => "arm,pl011",
        Kind::Sbsa => "arm,sbsa-uart",
        Kind::Ns16550 { .. } => "ns16550a",
    };
    let properties = [("compatible", Value::strings([compatible])), ("reg", reg(&[console.range]))];
    let mut node = node(at("serial", &console.range), properties);
    if let Kind::Ns16550 { shift, width } = console.kind {
        set(&mut node, [("reg-shift", Value::cells(&[shift])), ("reg-io-width", Value::cells(&[width]))]);
    }
    node
}
