//! The machine as UEFI and ACPI describe it, written as the device tree that EL2 reads.
//!
//! EL2 parses only device trees. For a machine with ACPI, this crate converts copies of the firmware's tables to a
//! device tree with the bindings that EL2 supports. So EL2 uses the same parser, policy and check of the plan for all
//! machines. A part that is in no table gets no node, and EL2 does not map registers without a node for the host.
//!
//! ```text
//! Firmware: copies of tables, memory map, spaces ── describe ──► Description: device tree, notes
//!                                                      └──► Error: table, offset, value, remedy
//! ```
//!
//! The input is untrusted until it is checked: each length, checksum and revision is checked before use,
//! unknown structures and flags are refused, and the input must be a copy that nothing else can write.
//!
//! The crate has its own parser for slices: the crate `acpi` maps memory (`unsafe`) to read its structures, and does
//! not support IORT.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bridges;
mod coverage;
mod error;
mod fadt;
mod gtdt;
mod iort;
mod madt;
mod mcfg;
mod memory;
mod nodes;
mod registers;
mod spcr;
mod table;
mod tables;
mod tree;

#[cfg(test)]
mod tests;

pub use error::{Error, Note, Source};
pub use memory::{MemoryEntry, kinds};
pub use registers::{Registers, Use};

use alloc::vec::Vec;

/// A range of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Range {
    /// The first address after the range; `None` if it does not fit in 64 bits.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.base.checked_add(self.size)
    }

    /// The last address, or `u64::MAX` if the range wraps.
    fn last(&self) -> u64 {
        self.base.saturating_add(self.size.saturating_sub(1))
    }

    /// Whether `address` is in the range.
    #[must_use]
    pub fn has(&self, address: u64) -> bool {
        self.size > 0 && self.base <= address && address <= self.last()
    }

    /// Whether the two ranges have a byte in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.size > 0 && other.size > 0 && self.base <= other.last() && other.base <= self.last()
    }

    /// Whether every byte of `other` is in the range.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.size == 0 || self.has(other.base) && self.has(other.last())
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

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// A flattened device tree.
    pub dtb: Vec<u8>,
    /// Parts of the machine that the host does not get, for the boot log.
    pub notes: Vec<Note>,
}

/// Describes the machine.
///
/// # Errors
/// [`Error`] for a table or map that is malformed or unknown, or for a machine that cannot be isolated.
pub fn describe(firmware: &Firmware<'_>) -> Result<Description, Error> {
    let mut notes = Vec::new();
    let tables = tables::Tables::find(firmware.tables)?;
    fadt::check(&tables.fadt)?;
    gtdt::check(&tables.gtdt)?;
    let madt = madt::read(&tables.madt, &mut notes)?;
    let iort = iort::read(&tables.iort, &madt.its, &mut notes)?;
    let areas = mcfg::read(&tables.mcfg)?;
    let console = tables.spcr.as_ref().map(|spcr| spcr::read(spcr, &mut notes)).transpose()?.flatten();
    let memory = memory::read(firmware, &iort.reserved, &mut notes)?;
    let mut known = Vec::new();
    known.extend(madt.ranges());
    known.extend(iort.smmus.iter().map(|smmu| smmu.range));
    // The address of an optional page that does not exist is 0.
    known.extend(iort.withheld.iter().copied().filter(|range| range.base != 0));
    known.extend(areas.iter().map(mcfg::Area::whole));
    known.extend(console.iter().map(|console| console.range));
    registers::check(firmware, &known)?;
    let bridges = bridges::find(firmware, &areas, &iort, &known, &mut notes)?;
    let machine = nodes::Machine { firmware, madt: &madt, iort: &iort, console: console.as_ref(), memory: &memory };
    Ok(Description { dtb: machine.tree(&bridges)?, notes })
}
