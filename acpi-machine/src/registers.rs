//! Registers that the firmware continues to use, as a part of the host, although no table describes them.

use alloc::vec::Vec;

use crate::error::{Error, Source};
use crate::firmware::{Firmware, PAGE, kinds};
use crate::memory::{RUNTIME, merged};
use crate::range::Range;

/// `EfiGcdMemoryTypeMemoryMappedIo`.
pub(crate) const GCD_MMIO: u32 = 3;

/// Checks that the list has only whole pages, no duplicates and no register in `known`, and that all registers that the
/// firmware maps for its runtime services are in the list or in `known`: EL2 has no rule for unknown registers.
pub(crate) fn check(firmware: &Firmware<'_>, known: &[Range]) -> Result<(), Error> {
    let remedy = "correct the list in the loader";
    for (index, entry) in firmware.registers.iter().enumerate() {
        let range = entry.range;
        let bad = |problem| Error { source: Source::Registers, offset: index, value: range.base, problem, remedy };
        let whole = range.base.is_multiple_of(PAGE) && range.size.is_multiple_of(PAGE) && range.size > 0;
        if !whole || range.end().is_none() {
            return Err(bad("the registers do not consist of whole pages"));
        }
        let before = firmware.registers.iter().take(index).map(|other| &other.range);
        if before.chain(known).any(|other| other.overlaps(&range)) {
            return Err(bad("another part of the machine has the same registers"));
        }
    }
    let mut explained: Vec<Range> = firmware.registers.iter().map(|entry| entry.range).collect();
    explained.extend_from_slice(known);
    let explained = merged(explained);
    let unexplained = |range: &Range| !explained.iter().any(|known| known.contains(range));
    let runtime = |source, offset, range: Range| Error {
        source,
        offset,
        value: range.base,
        problem: "runtime services use registers here that are not in the list",
        remedy: "add them to the list in the loader once it is known that they start no transaction",
    };
    for (index, entry) in firmware.memory.iter().enumerate() {
        let mmio = matches!(entry.kind, kinds::MMIO | kinds::MMIO_PORTS) && entry.attributes & RUNTIME != 0;
        if let Some(range) = entry.range().filter(|range| mmio && unexplained(range)) {
            return Err(runtime(Source::MemoryMap, index, range));
        }
    }
    for (index, entry) in firmware.spaces.iter().enumerate() {
        if entry.kind == GCD_MMIO && entry.attributes & RUNTIME != 0 && unexplained(&entry.range) {
            return Err(runtime(Source::Spaces, index, entry.range));
        }
    }
    Ok(())
}
