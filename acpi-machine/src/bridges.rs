//! PCI hosts: configuration space, RequesterIDs and windows.
//!
//! IORT lists the RequesterIDs of the buses that the firmware has numbered, and maps other IDs to no SMMU. So a PCI
//! host has only buses whose IDs are all listed (`bus-range` in the tree), and EL2 ignores changes of bridges' bus
//! numbers. If these buses are not contiguous, the segment becomes several hosts in the tree.

use alloc::vec::Vec;

use crate::coverage::{bounds, clipped, is_whole, runs};
use crate::error::{Error, FIRMWARE, Note, Source};
use crate::firmware::{Aperture, Firmware};
use crate::iort::{Ids, Iort};
use crate::mcfg::Area;
use crate::memory::{RUNTIME, merged};
use crate::range::Range;
use crate::registers::GCD_MMIO;

/// A window of memory space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) cpu: Range,
    /// The first bus address.
    pub(crate) bus: u64,
}

/// A PCI host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) segment: u16,
    pub(crate) ecam: Range,
    pub(crate) buses: (u8, u8),
    pub(crate) coherent: bool,
    pub(crate) ids: Vec<Ids>,
    pub(crate) windows: Vec<Window>,
}

/// Finds the PCI hosts. `known` are the registers that tables describe.
pub(crate) fn find(
    firmware: &Firmware<'_>,
    areas: &[Area],
    iort: &Iort,
    known: &[Range],
    notes: &mut Vec<Note>,
) -> Result<Vec<Bridge>, Error> {
    let mut bridges = Vec::new();
    for area in areas {
        let note = |value, what| Note { source: Source::Table(*b"MCFG"), offset: 0, value, what };
        let Some(segment) = iort.segments.iter().find(|segment| segment.number == area.segment) else {
            notes.push(note(area.base, "PCI segment that is not in IORT, withheld"));
            continue;
        };
        let whole = is_whole(&segment.ids);
        let buses = if whole { [(area.first, area.last)].into() } else { runs(&segment.ids, area.first, area.last) };
        if buses.is_empty() {
            notes.push(note(area.base, "PCI segment without a bus behind an SMMUv3, withheld"));
        }
        // The range also contains the configuration space of the buses in between: EL2 returns all ones for loads from
        // it.
        let until = buses.iter().skip(1).map(|(next, _)| next.saturating_sub(1)).chain([area.last]);
        for ((first, last), until) in buses.iter().copied().zip(until) {
            let (start, end) = bounds(first, last);
            let ids = if whole { segment.ids.clone() } else { clipped(&segment.ids, start, end) };
            bridges.push(Bridge {
                segment: area.segment,
                ecam: area.of(first, until),
                buses: (first, last),
                coherent: segment.coherent,
                ids,
                windows: Vec::new(),
            });
        }
    }
    add_windows(firmware, known, &mut bridges, notes)?;
    Ok(bridges)
}

/// Adds each window to the PCI host that has the root bus of the functions in the window.
fn add_windows(
    firmware: &Firmware<'_>,
    known: &[Range],
    bridges: &mut [Bridge],
    notes: &mut Vec<Note>,
) -> Result<(), Error> {
    let spaces = spaces(firmware, known)?;
    let mut windows = Vec::<(Window, u16, usize)>::new();
    for (index, aperture) in firmware.apertures.iter().enumerate() {
        let bad = |problem, remedy| Error {
            source: Source::Apertures,
            offset: index,
            value: aperture.cpu.base,
            problem,
            remedy,
        };
        if aperture.cpu.size == 0 {
            continue;
        }
        let covered = |bridge: &Bridge| {
            bridge.segment == aperture.segment && (bridge.buses.0..=bridge.buses.1).contains(&aperture.first_bus)
        };
        // Registers of these functions could be in a window that the host gets. Firmware may have started the
        // functions, with queues in memory that the host gets.
        if !bridges.iter().any(covered) {
            return Err(bad(
                "functions below a root bridge are behind no SMMUv3",
                "disable them in the firmware's setup, or boot by device tree",
            ));
        }
        let Some(space) = spaces.iter().find(|space| space.contains(&aperture.cpu)) else {
            return Err(bad("the addresses are in no GCD space that only PCI uses", FIRMWARE));
        };
        let window = window_of(space, aperture).ok_or_else(|| bad("the bus addresses wrap", FIRMWARE))?;
        match windows.iter().find(|(other, _, _)| other.cpu == window.cpu) {
            Some((other, segment, _)) if *other != window || *segment != aperture.segment => {
                return Err(bad(
                    "two root bridges have this window, with different bus addresses or in two segments",
                    FIRMWARE,
                ));
            }
            Some(_) => {}
            None => windows.push((window, aperture.segment, index)),
        }
    }
    for (window, segment, index) in windows {
        let bus = firmware.apertures.get(index).map_or(0, |aperture| aperture.first_bus);
        let mut of_segment = bridges.iter_mut().filter(|bridge| bridge.segment == segment);
        if let Some(bridge) = of_segment.find(|bridge| bridge.buses.0 <= bus && bus <= bridge.buses.1) {
            bridge.windows.push(window);
            let what = "window of a root bridge: the host gets the whole GCD space that contains it";
            notes.push(Note { source: Source::Apertures, offset: index, value: window.cpu.base, what });
        }
    }
    Ok(())
}

/// The window that covers `space`, with the offset from CPU to bus addresses that `aperture` has.
fn window_of(space: &Range, aperture: &Aperture) -> Option<Window> {
    let skip = aperture.cpu.base.checked_sub(space.base)?;
    let bus = aperture.bus.checked_sub(skip)?;
    bus.checked_add(space.size)?;
    Some(Window { cpu: *space, bus })
}

/// The GCD spaces that can be windows: memory-mapped I/O without `EFI_MEMORY_RUNTIME` and without the ranges in
/// `known`.
fn spaces(firmware: &Firmware<'_>, known: &[Range]) -> Result<Vec<Range>, Error> {
    let mut mmio = Vec::new();
    for (index, entry) in firmware.spaces.iter().enumerate() {
        if entry.range.end().is_none() {
            let problem = "the entry wraps";
            let value = entry.range.base;
            return Err(Error { source: Source::Spaces, offset: index, value, problem, remedy: FIRMWARE });
        }
        if entry.kind == GCD_MMIO && entry.attributes & RUNTIME == 0 {
            mmio.push(entry.range);
        }
    }
    let mut left = merged(mmio);
    let listed = firmware.registers.iter().map(|entry| &entry.range);
    for hole in known.iter().chain(listed) {
        left = left.iter().flat_map(|range| without(range, hole)).flatten().collect();
    }
    Ok(left)
}

/// The parts of `range` below and above `hole`.
fn without(range: &Range, hole: &Range) -> [Option<Range>; 2] {
    if !range.overlaps(hole) {
        return [Some(*range), None];
    }
    let (end, behind) = (range.end().unwrap_or(u64::MAX), hole.end().unwrap_or(u64::MAX));
    let between =
        |from: u64, to: u64| to.checked_sub(from).filter(|size| *size > 0).map(|size| Range { base: from, size });
    [between(range.base, hole.base), between(behind, end)]
}
