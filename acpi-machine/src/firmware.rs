//! The firmware's description of the machine, as the loader has copied it.

use crate::range::Range;

/// Size of a UEFI page in bytes.
pub(crate) const PAGE: u64 = 4096;

/// Values of `EFI_MEMORY_TYPE`.
pub mod kinds {
    /// `EfiReservedMemoryType`.
    pub const RESERVED: u32 = 0;
    /// `EfiLoaderCode`.
    pub const LOADER_CODE: u32 = 1;
    /// `EfiLoaderData`.
    pub const LOADER_DATA: u32 = 2;
    /// `EfiBootServicesCode`.
    pub const BOOT_CODE: u32 = 3;
    /// `EfiBootServicesData`.
    pub const BOOT_DATA: u32 = 4;
    /// `EfiRuntimeServicesCode`.
    pub const RUNTIME_CODE: u32 = 5;
    /// `EfiRuntimeServicesData`.
    pub const RUNTIME_DATA: u32 = 6;
    /// `EfiConventionalMemory`.
    pub const CONVENTIONAL: u32 = 7;
    /// `EfiUnusableMemory`.
    pub const UNUSABLE: u32 = 8;
    /// `EfiACPIReclaimMemory`.
    pub const ACPI_RECLAIM: u32 = 9;
    /// `EfiACPIMemoryNVS`.
    pub const ACPI_NVS: u32 = 10;
    /// `EfiMemoryMappedIO`.
    pub const MMIO: u32 = 11;
    /// `EfiMemoryMappedIOPortSpace`.
    pub const MMIO_PORTS: u32 = 12;
    /// `EfiPersistentMemory`.
    pub const PERSISTENT: u32 = 14;
    /// `EfiUnacceptedMemoryType`.
    pub const UNACCEPTED: u32 = 15;
}

/// An entry of the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEntry {
    /// `EFI_MEMORY_TYPE`, see [`kinds`].
    pub kind: u32,
    /// The first address, physical.
    pub base: u64,
    /// Number of 4 KiB pages.
    pub pages: u64,
    /// `EFI_MEMORY_*` attributes.
    pub attributes: u64,
}

impl MemoryEntry {
    /// The addresses; `None` if the range is empty, wraps, or does not begin at a page boundary.
    pub(crate) fn range(&self) -> Option<Range> {
        let range = Range { base: self.base, size: self.pages.checked_mul(PAGE)? };
        (range.size > 0 && range.base.is_multiple_of(PAGE) && range.end().is_some()).then_some(range)
    }
}

/// A range of the firmware's map of address spaces (GCD, PI 1.8 vol. 2, 7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceEntry {
    /// `EFI_GCD_MEMORY_TYPE`; 3 is memory-mapped I/O.
    pub kind: u32,
    /// The addresses.
    pub range: Range,
    /// The current `EFI_MEMORY_*` attributes, not the capabilities.
    pub attributes: u64,
}

/// Addresses of PCI memory space that the firmware has given to functions below a root bridge, as
/// `EFI_PCI_ROOT_BRIDGE_IO_PROTOCOL.Configuration()` reports them. The GCD space that contains them is the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aperture {
    /// PCI segment.
    pub segment: u16,
    /// The first bus of the root bridge.
    pub first_bus: u8,
    /// CPU addresses.
    pub cpu: Range,
    /// The first bus address.
    pub bus: u64,
}

/// How the firmware uses registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Flash in which the firmware keeps its variables: it is read and written at run time.
    Variables,
    /// Flash from which the firmware executes code in place. It is not written.
    Code,
    /// A PL031 real-time clock.
    Clock,
}

/// Registers with a known use. They cannot start transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Their addresses, in whole pages.
    pub range: Range,
    /// Their use.
    pub used_as: Use,
}

/// The firmware's description of the machine. All slices are copies, which the firmware, later a part of the host,
/// cannot change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Firmware<'a> {
    /// The bytes of each table of the XSDT, in any order, with the header and of the length in the header. Tables that
    /// this crate does not parse are ignored.
    pub tables: &'a [&'a [u8]],
    /// The UEFI memory map at the time of the take-over.
    pub memory: &'a [MemoryEntry],
    /// The GCD memory space map.
    pub spaces: &'a [SpaceEntry],
    /// Addresses allocated to functions below root bridges.
    pub apertures: &'a [Aperture],
    /// Registers that the firmware continues to use although no table describes them.
    pub registers: &'a [Registers],
    /// EL2's memory, image and pool: whole pages in memory of the type `EfiReservedMemoryType`.
    pub own: Range,
    /// EL2's command line without the options that this crate adds.
    pub command_line: &'a str,
}
