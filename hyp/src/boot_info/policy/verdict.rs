//! The decision about a node, with the texts of the boot log.

use core::fmt;

/// Why the host gets a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A PL011, or another UART that is not a master.
    Uart,
    /// A PL031.
    Rtc,
    /// A PL061.
    Gpio,
    /// The distributor and the redistributors.
    Gic,
    /// An ITS: its tables are EL2's, and accesses to its registers are emulated.
    Its,
    /// A PCI host, all of whose requesters are behind SMMUs, this one first.
    Pci {
        /// Index into [`Platform::smmus`](crate::boot_info::Platform::smmus).
        smmu: u8,
    },
    /// A PCI host all of whose requesters on the buses of `bus-range` are behind SMMUs, this one first. Its
    /// configuration space is not mapped: EL2 ignores changes of bus numbers.
    PciBuses {
        /// Index into [`Platform::smmus`](crate::boot_info::Platform::smmus).
        smmu: u8,
    },
    /// Flash that UEFI firmware executes.
    FirmwareCode,
    /// Flash with the variables of UEFI firmware.
    FirmwareVariables,
    /// A platform device behind SMMUs, this one first.
    BehindSmmu {
        /// Index into [`Platform::smmus`](crate::boot_info::Platform::smmus).
        smmu: u8,
    },
    /// `allow=` on EL2's command line.
    Allowed,
    /// A rule of the board's author.
    Rule {
        /// Its line in the policy module.
        line: u16,
    },
}

/// Why the host does not get a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The second UART.
    El2Console,
    /// QEMU's firmware configuration: its DMA is behind no SMMU, and EL2's command line can be read from it.
    FwCfg,
    /// A virtio slot on the system bus.
    VirtioMmio,
    /// Flash: persistent state.
    Flash,
    /// QEMU's bus for dynamically added devices.
    PlatformBus,
    /// An SMMU's performance counters, which can write MSIs.
    Pmcg,
    /// An ITS whose doorbell is in another device.
    PreIts,
    /// Extra command queues of an SMMU, whose commands would bypass EL2.
    Cmdqv,
    /// It controls the power, clock or reset of an SMMU.
    SmmuDepends,
    /// A PCI host without `iommu-map`.
    NoIommuMap,
    /// A PCI host or another master whose `iommu-map` omits requesters.
    IommuMapPartly,
    /// A master behind an IOMMU that EL2 does not own.
    ForeignIommu,
    /// Unknown device.
    Unknown,
    /// It is disabled, or a node above it is.
    Disabled,
    /// A node above it is withheld.
    Parent,
    /// It refers to firmware's memory, or to memory in a node that is withheld.
    FirmwareMemory,
    /// A page of its registers also contains registers that are withheld.
    SharesPage,
    /// `withhold=` on EL2's command line.
    CommandLine,
    /// A rule of the board's author.
    Rule {
        /// Its line in the policy module.
        line: u16,
    },
}

/// The decision about a node with registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The host gets its registers.
    Given(Given),
    /// An SMMU: accesses trap, and EL2 emulates them.
    Emulated,
    /// Its registers are unmapped and its node is disabled.
    Withheld(Withheld),
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uart => f.write_str("UART, not a DMA master"),
            Self::Rtc => f.write_str("real-time clock, not a DMA master"),
            Self::Gpio => f.write_str("GPIO, not a DMA master"),
            Self::Gic => f.write_str("interrupt controller: distributor and redistributors"),
            Self::Its if cfg!(feature = "no-isolation") => f.write_str("interrupt translation service, not isolated"),
            Self::Its => f.write_str("interrupt translation service, its registers emulated by EL2"),
            Self::Pci { smmu } => write!(f, "PCI host, every requester behind smmu{smmu}"),
            Self::PciBuses { smmu } => {
                write!(f, "PCI host, every requester of its buses behind smmu{smmu}, bus numbers fixed by EL2")
            }
            Self::FirmwareCode => f.write_str("flash that the firmware executes, read-only"),
            Self::FirmwareVariables => f.write_str("flash with the firmware's variables"),
            Self::BehindSmmu { smmu } => write!(f, "DMA master behind smmu{smmu}"),
            Self::Allowed => f.write_str("allowed by EL2's command line"),
            Self::Rule { line } => write!(f, "by line {line} of the board's policy"),
        }
    }
}

impl Withheld {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::El2Console => "EL2's own console",
            Self::FwCfg => "firmware configuration, a DMA master behind no SMMU",
            Self::VirtioMmio => "virtio slot, a DMA master behind no SMMU",
            Self::Flash => "flash, which keeps its content over a reset",
            Self::PlatformBus => "platform bus, its devices are behind no SMMU",
            Self::Pmcg => "SMMU performance counters, which can write MSIs without stage 2",
            Self::Cmdqv => "command queues of an SMMU that EL2 does not emulate",
            Self::PreIts => "ITS whose doorbell is in another device, DeviceIDs cannot be checked",
            Self::SmmuDepends => "an SMMU's power, clock or reset depends on it",
            Self::NoIommuMap => "PCI host without iommu-map, its devices are behind no SMMU",
            Self::IommuMapPartly => "DMA master whose iommu-map does not cover every requester",
            Self::ForeignIommu => "DMA master behind an IOMMU that EL2 does not own",
            Self::Unknown => "unknown device, may be a DMA master",
            Self::Disabled => "disabled in the device tree",
            Self::Parent => "below a node that is withheld",
            Self::FirmwareMemory => "uses memory that the host does not get",
            Self::SharesPage => "shares a 4 KiB page with registers that are withheld",
            Self::CommandLine => "withheld by EL2's command line",
            Self::Rule { .. } => "withheld by the board's policy",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { line } => write!(f, "by line {line} of the board's policy"),
            other => f.write_str(other.text()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(reason) => reason.fmt(f),
            Self::Emulated => f.write_str("SMMU, emulated by EL2"),
            Self::Withheld(reason) => reason.fmt(f),
        }
    }
}
