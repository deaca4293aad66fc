//! Registers of PCI configuration space: offsets and bits.
//!
//! PCI Express Base Specification 5.0: 7.5.1 (headers), 7.5.3 (PCI Express capability), 6.6.2 (function-level reset); PCI
//! Local Bus Specification 3.0, Advanced Capabilities ECN (AF). Each number was compared with Linux's `pci_regs.h` and with
//! FreeBSD's `pcireg.h`.

use host_access::field::{Field32, bits32};

/// Vendor ID, and device ID above it.
pub const ID: u16 = 0x00;
/// The value that an absent function reads as.
pub const ABSENT: u32 = u32::MAX;
/// Command, and status above it.
pub const COMMAND: u16 = 0x04;
/// Cache line size, latency timer, header type, BIST.
pub const HEADER: u16 = 0x0c;
/// First BAR.
pub const BAR0: u16 = 0x10;
/// Expansion ROM of a type 0 header.
pub const ROM: u16 = 0x30;
/// Expansion ROM of a type 1 header.
pub const BRIDGE_ROM: u16 = 0x38;
/// First capability, in the low byte.
pub const CAPABILITIES: u16 = 0x34;
/// Interrupt line and pin.
pub const INTERRUPT: u16 = 0x3c;
/// Bus numbers of a bridge: primary, secondary, subordinate, secondary latency timer.
pub const BUSES: u16 = 0x18;
/// Memory window of a bridge: base and limit.
pub const BRIDGE_MEMORY: u16 = 0x20;
/// Prefetchable window of a bridge: base and limit.
pub const BRIDGE_PREFETCHABLE: u16 = 0x24;
/// Upper half of the prefetchable base; that of the limit is the next register.
pub const BRIDGE_PREFETCHABLE_UPPER: u16 = 0x28;

/// Bits of the command register.
pub mod command {
    /// Responds to I/O accesses.
    pub const IO: u16 = 1 << 0;
    /// Responds to memory accesses.
    pub const MEMORY: u16 = 1 << 1;
    /// Bus mastering.
    pub const MASTER: u16 = 1 << 2;
    /// INTx is off.
    pub const INTX_OFF: u16 = 1 << 10;
}

/// Status, in the register of the command: there are capabilities.
pub const STATUS_CAPABILITIES: Field32 = bits32(20, 20);
/// Layout of the header, in its register.
pub const HEADER_TYPE: Field32 = bits32(22, 16);
/// The device has several functions, in the same register.
pub const MULTI_FUNCTION: Field32 = bits32(23, 23);
/// The header of a function that is not a bridge.
pub const TYPE_ENDPOINT: u32 = 0;
/// The header of a PCI-to-PCI bridge.
pub const TYPE_BRIDGE: u32 = 1;

/// Fields of a BAR.
pub mod bar {
    use super::{Field32, bits32};
    /// 1 for I/O.
    pub const IO: Field32 = bits32(0, 0);
    /// Type of a memory BAR.
    pub const TYPE: Field32 = bits32(2, 1);
    /// The type of a 64-bit BAR.
    pub const TYPE_64: u32 = 2;
    /// Bits of a memory BAR below the address.
    pub const FLAGS: u32 = 0xf;
    /// Bits of an expansion ROM register below the address.
    pub const ROM_FLAGS: u32 = 0x7ff;
    /// The expansion ROM is enabled.
    pub const ROM_ENABLE: u32 = 1;
}

/// Fields of a bridge's bus numbers.
pub mod buses {
    use super::{Field32, bits32};
    /// The bus directly behind the bridge.
    pub const SECONDARY: Field32 = bits32(15, 8);
    /// The highest bus number behind the bridge.
    pub const SUBORDINATE: Field32 = bits32(23, 16);
}

/// Bridge control, in the upper half of the register of the interrupt.
pub mod bridge_control {
    /// Its offset.
    pub const AT: u16 = 0x3e;
    /// Secondary bus reset.
    pub const RESET: u16 = 1 << 6;
}

/// Fields of a bridge's windows.
pub mod window {
    use super::{Field32, bits32};
    /// Bits 31:20 of the first address.
    pub const BASE: Field32 = bits32(15, 4);
    /// Bits 31:20 of the last MiB.
    pub const LIMIT: Field32 = bits32(31, 20);
    /// Bits of an address below them.
    pub const SHIFT: u32 = 20;
}

/// Identifiers and fields of capabilities.
pub mod capability {
    use super::{Field32, bits32};
    /// Identifier.
    pub const ID: Field32 = bits32(7, 0);
    /// Offset of the next one.
    pub const NEXT: Field32 = bits32(15, 8);
    /// PCI Express.
    pub const EXPRESS: u32 = 0x10;
    /// Advanced Features.
    pub const AF: u32 = 0x13;
    /// Enhanced Allocation: addresses outside the BARs.
    pub const EA: u32 = 0x14;
    /// Power management.
    pub const POWER: u32 = 0x01;
    /// MSI.
    pub const MSI: u32 = 0x05;
    /// MSI-X.
    pub const MSIX: u32 = 0x11;
    /// Message control of MSI and of MSI-X.
    pub const MSI_CONTROL: u16 = 0x02;
    /// MSI is on.
    pub const MSI_ENABLE: u16 = 1 << 0;
    /// MSI-X is on.
    pub const MSIX_ENABLE: u16 = 1 << 15;
}

/// Extended capabilities (7.6.3): their list begins after conventional configuration space.
pub mod extended {
    use super::{Field32, bits32};
    /// The first one.
    pub const FIRST: u16 = 0x100;
    /// Identifier.
    pub const ID: Field32 = bits32(15, 0);
    /// Offset of the next one.
    pub const NEXT: Field32 = bits32(31, 20);
    /// Single Root I/O Virtualization: functions that appear when it is enabled.
    pub const SRIOV: u32 = 0x10;
    /// SR-IOV control, with its status in the upper half.
    pub const SRIOV_CONTROL: u16 = 0x08;
    /// Virtual functions are enabled, in that register.
    pub const SRIOV_ENABLE: Field32 = bits32(0, 0);
    /// Downstream Port Containment.
    pub const DPC: u32 = 0x1d;
    /// The DPC Control register, in its capability.
    pub const DPC_CONTROL: u16 = 0x06;
    /// DPC Trigger Enable and DPC Software Trigger.
    pub const DPC_TRIGGERS: u16 = 0b11 | 1 << 6;
    /// Resizable BAR.
    pub const RESIZABLE_BAR: u32 = 0x15;
    /// Address Translation Services.
    pub const ATS: u32 = 0x0f;
    /// ATS control.
    pub const ATS_CONTROL: u16 = 0x06;
    /// ATS is on.
    pub const ATS_ENABLE: u16 = 1 << 15;
    /// Page Request Interface.
    pub const PRI: u32 = 0x13;
    /// PRI control.
    pub const PRI_CONTROL: u16 = 0x04;
    /// PRI is on.
    pub const PRI_ENABLE: u16 = 1 << 0;
    /// Process Address Space ID.
    pub const PASID: u32 = 0x1b;
    /// PASID control.
    pub const PASID_CONTROL: u16 = 0x06;
    /// PASIDs are enabled, for execution and for privileged accesses.
    pub const PASID_ENABLE: u16 = 7;
}

/// The power management capability.
pub mod power {
    /// Control and status.
    pub const CONTROL: u16 = 0x04;
    /// The power state, 0 for full power.
    pub const STATE: u16 = 3;
}

/// The PCI Express capability: offsets in it, and bits.
pub mod express {
    use super::{Field32, bits32};
    /// Device capabilities.
    pub const DEVICE_CAPABILITIES: u16 = 0x04;
    /// Function numbers that the function uses in addition to its own.
    pub const PHANTOM: Field32 = bits32(4, 3);
    /// There is a function-level reset.
    pub const FLR: Field32 = bits32(28, 28);
    /// Device control, and device status above it.
    pub const DEVICE_CONTROL: u16 = 0x08;
    /// Starts a function-level reset.
    pub const START_FLR: u16 = 1 << 15;
    /// Transactions pending, in the register of the device control.
    pub const PENDING: Field32 = bits32(21, 21);
    /// Link control.
    pub const LINK_CONTROL: u16 = 0x10;
    /// The link is off.
    pub const LINK_DISABLE: u16 = 1 << 4;
    /// Slot control.
    pub const SLOT_CONTROL: u16 = 0x18;
    /// The slot's power is off.
    pub const SLOT_POWER_OFF: u16 = 1 << 10;
}

/// The Advanced Features capability: offsets in it, and bits.
pub mod af {
    use super::{Field32, bits32};
    /// Capabilities, in the register of the identifier: function-level reset.
    pub const FLR: Field32 = bits32(25, 25);
    /// Capabilities, in the register of the identifier: transactions pending are reported.
    pub const TP: Field32 = bits32(24, 24);
    /// Control, and status above it.
    pub const CONTROL: u16 = 0x04;
    /// Starts a function-level reset.
    pub const START_FLR: u8 = 1;
    /// Transactions pending, in the register of the control.
    pub const PENDING: Field32 = bits32(8, 8);
}
