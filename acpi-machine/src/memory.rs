//! The UEFI memory map: which memory the host gets (UEFI 2.10, 7.2).
//!
//! After the take-over the firmware is part of the host. So the host gets the memory of the firmware, of its boot and
//! runtime services, and of operating systems. It does not get `EfiReservedMemoryType`, which contains EL2 and which
//! operating systems do not use, except reserved memory ranges of devices (RMR).

use alloc::vec::Vec;

use crate::error::{Error, Note, Source};
use crate::firmware::{Firmware, MemoryEntry, PAGE, kinds};
use crate::range::Range;
use crate::table::wide;

/// `EFI_MEMORY_WB`: the memory can be cached.
const WRITE_BACK: u64 = 1 << 3;
/// `EFI_MEMORY_RUNTIME`.
pub(crate) const RUNTIME: u64 = 1 << 63;
/// Maximum number of entries.
const ENTRIES_MAX: usize = 4096;

/// What EL2 does with memory of a type.
enum Class {
    /// The host gets it.
    Host,
    /// The host does not get it.
    Withheld(&'static str),
    /// The range is not memory.
    Registers,
    /// The machine is refused.
    Refused(&'static str),
}

fn classify(entry: &MemoryEntry) -> Class {
    match entry.kind {
        kinds::LOADER_CODE..=kinds::CONVENTIONAL | kinds::ACPI_RECLAIM | kinds::ACPI_NVS => {
            if entry.attributes & WRITE_BACK == 0 {
                Class::Withheld("memory that cannot be cached, withheld")
            } else {
                Class::Host
            }
        }
        kinds::RESERVED => Class::Withheld("memory that the firmware reserves, withheld"),
        kinds::UNUSABLE => Class::Withheld("memory with errors, withheld"),
        kinds::PERSISTENT => Class::Withheld("persistent memory, withheld"),
        kinds::MMIO | kinds::MMIO_PORTS => Class::Registers,
        kinds::UNACCEPTED => Class::Refused("the memory is unaccepted, as in a confidential guest"),
        _ => Class::Refused("the memory has an unknown type"),
    }
}

/// The memory of the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// The host's memory and EL2's own: sorted, with adjacent ranges merged.
    pub(crate) ram: Vec<Range>,
    /// Reserved memory ranges of devices (RMR).
    pub(crate) reserved: Vec<Range>,
}

/// Reads the map. `reserved` are the RMRs.
pub(crate) fn read(firmware: &Firmware<'_>, reserved: &[Range], notes: &mut Vec<Note>) -> Result<Memory, Error> {
    let bad = |index, value, problem| {
        let remedy = "update the firmware, or boot by device tree";
        Error { source: Source::MemoryMap, offset: index, value, problem, remedy }
    };
    if firmware.memory.len() > ENTRIES_MAX {
        return Err(bad(ENTRIES_MAX, wide(firmware.memory.len()), "there are more than 4096 entries"));
    }
    let (mut all, mut ram, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (index, entry) in firmware.memory.iter().enumerate() {
        let range = entry.range();
        let range = range
            .ok_or_else(|| bad(index, entry.base, "the entry is empty, wraps, or does not begin at a page boundary"))?;
        all.push((range, index));
        match classify(entry) {
            Class::Host => ram.push(range),
            Class::Withheld(what) => {
                if entry.kind == kinds::RESERVED {
                    kept.push(range);
                }
                if !range.contains(&firmware.own) {
                    notes.push(Note { source: Source::MemoryMap, offset: index, value: entry.base, what });
                }
            }
            Class::Registers => {}
            Class::Refused(problem) => return Err(bad(index, entry.kind.into(), problem)),
        }
    }
    all.sort_unstable_by_key(|(range, _)| range.base);
    for pair in all.windows(2) {
        if let [(first, _), (second, index)] = pair
            && first.overlaps(second)
        {
            return Err(bad(*index, second.base, "the entry overlaps another one"));
        }
    }
    let kept = merged(kept);
    let own = firmware.own;
    let whole = own.base.is_multiple_of(PAGE) && own.size.is_multiple_of(PAGE) && own.size > 0;
    if !whole || !kept.iter().any(|range| range.contains(&own)) {
        return Err(Error {
            source: Source::Own,
            offset: 0,
            value: own.base,
            problem: "it does not consist of whole pages of the type EfiReservedMemoryType",
            remedy: "the loader must allocate it with that type before it reads the memory map",
        });
    }
    ram.push(own);
    for range in reserved {
        if range.overlaps(&own) {
            let problem = "the reserved memory range (RMR) is in EL2's memory";
            return Err(Error { source: Source::Own, offset: 0, value: range.base, problem, remedy: "restart" });
        }
        if kept.iter().any(|kept| kept.contains(range)) {
            ram.push(*range);
        } else if !merged(ram.clone()).iter().any(|ram| ram.contains(range)) {
            return Err(bad(0, range.base, "the reserved memory range (RMR) is not in the memory map"));
        }
    }
    Ok(Memory { ram: merged(ram), reserved: reserved.into() })
}

/// Sorts `ranges` and merges adjacent ones.
pub(crate) fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable_by_key(|range| range.base);
    let mut joined: Vec<Range> = Vec::new();
    for next in ranges {
        match joined.last_mut() {
            Some(last) if last.end().is_none_or(|end| end >= next.base) => {
                let end = last.end().max(next.end());
                last.size = end.and_then(|end| end.checked_sub(last.base)).unwrap_or(last.size);
            }
            Some(_) | None => joined.push(next),
        }
    }
    joined
}
