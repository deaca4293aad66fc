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
#![cfg_attr(test, allow(clippy::unwrap_used))]
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
mod firmware;
mod gtdt;
mod iort;
mod madt;
mod mcfg;
mod memory;
mod nodes;
mod range;
mod registers;
mod spcr;
mod table;
mod tables;
mod tree;

#[cfg(test)]
mod tests;

pub use error::{Error, Note, Source};
pub use firmware::{Aperture, Firmware, MemoryEntry, Registers, SpaceEntry, Use, kinds};
pub use range::Range;

use alloc::vec::Vec;

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
