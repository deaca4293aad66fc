//! ITS groups, root complexes, named components and reserved memory ranges (RMR).

use alloc::vec::Vec;

use super::maps::{Inputs, Mapping};
use super::{Component, Ids, NODE, Node, Segment, Target, sorted};
use crate::error::{Error, FIRMWARE, Note};
use crate::madt::Its;
use crate::range::Range;

/// Number of RequesterIDs of a segment.
pub(crate) const RIDS: u64 = 1 << 16;
/// Maximum number of ITSs of a group.
const GROUP_MAX: u32 = 64;
/// Maximum number of memory ranges of an RMR node.
const RESERVED_MAX: u32 = 64;
/// Size in bytes of an RMR's memory range descriptor.
const DESCRIPTOR: usize = 20;
const PAGE: u64 = 4096;

/// Checks that the ITSs of a group exist.
pub(super) fn check_group(node: &Node<'_>, its: &[Its]) -> Result<(), Error> {
    let body = &node.body;
    let count = body.u32(NODE)?;
    if count == 0 || count > GROUP_MAX {
        return Err(body.bad(NODE, count.into(), "the group has no ITS, or more than 64", FIRMWARE));
    }
    let mut at = NODE + 4;
    for _ in 0..count {
        let id = body.u32(at)?;
        if !its.iter().any(|its| its.id == id) {
            return Err(body.bad(at, id.into(), "the MADT has no ITS with this ID", FIRMWARE));
        }
        at = at.saturating_add(4);
    }
    Ok(())
}

/// Adds the RequesterIDs of a root complex that an SMMUv3 translates.
pub(super) fn add_root_complex(
    segments: &mut Vec<Segment>,
    node: &Node<'_>,
    mappings: Vec<Mapping<'_>>,
    notes: &mut Vec<Note>,
) -> Result<(), Error> {
    let body = &node.body;
    let number = body.u32(28)?;
    let Ok(number) = u16::try_from(number) else {
        return Err(body.bad(28, number.into(), "the number of the PCI segment has more than 16 bits", FIRMWARE));
    };
    // Cache coherency attribute: the first field of the memory access properties.
    let coherent = body.u32(NODE)? & 1 != 0;
    let mut ids = Vec::new();
    // Any overlap of two mappings is refused: it is unknown which one the hardware uses.
    let mut all = Vec::new();
    for mapping in mappings {
        let Inputs::Each { first, count } = mapping.inputs else {
            let what = "all requesters of the segment have one StreamID: withheld";
            notes.push(mapping.entry.note(8, mapping.output.into(), what));
            continue;
        };
        if u64::from(first).saturating_add(count) > RIDS {
            let problem = "the mapping has more IDs than the 65536 RequesterIDs of a segment";
            return Err(mapping.entry.bad(0, first.into(), problem, FIRMWARE));
        }
        let one = |smmu| Ids { first, count, smmu, stream: mapping.output };
        // No SMMU has this number: `all` is used only to find overlaps.
        all.push(one(usize::MAX));
        match mapping.target {
            Target::Smmu(smmu) => ids.push(one(smmu)),
            Target::Foreign | Target::Its => {
                let what = "RequesterIDs from this one on are behind no SMMUv3: the host cannot use them";
                notes.push(mapping.entry.note(0, first.into(), what));
            }
        }
    }
    let twice = |rid: u32| body.bad(8, rid.into(), "two mappings have this RequesterID", FIRMWARE);
    sorted(all).map_err(twice)?;
    let known = segments.iter_mut().find(|segment| segment.number == number);
    match known {
        // A segment can have several root complexes: their mappings are combined.
        Some(segment) => {
            segment.coherent &= coherent;
            ids.append(&mut segment.ids);
            segment.ids = sorted(ids).map_err(twice)?;
        }
        None => segments.push(Segment { number, coherent, ids: sorted(ids).map_err(twice)? }),
    }
    Ok(())
}

/// The streams of a named component. Only AML, which EL2 does not parse, describes its registers: they are unknown and
/// withheld.
pub(super) fn component(
    node: &Node<'_>,
    mappings: Vec<Mapping<'_>>,
    notes: &mut Vec<Note>,
) -> Result<Component, Error> {
    let body = &node.body;
    // The object name has at least a terminating zero.
    body.u8(29)?;
    let mut ids = Vec::new();
    let mut behind = true;
    for mapping in mappings {
        let (first, count) = match mapping.inputs {
            Inputs::Each { first, count } => (first, count),
            Inputs::Single => (0, 1),
        };
        match mapping.target {
            Target::Smmu(smmu) => ids.push(Ids { first, count, smmu, stream: mapping.output }),
            Target::Foreign | Target::Its => behind = false,
        }
    }
    if ids.is_empty() || !behind {
        notes.push(body.note(29, 0, "device with IDs that are behind no SMMUv3: its registers are withheld"));
    }
    Ok(Component { offset: body.start(), ids })
}

/// Adds reserved memory ranges: memory that devices access permanently, such as the firmware's framebuffer.
pub(super) fn add_reserved(
    reserved: &mut Vec<Range>,
    node: &Node<'_>,
    mappings: Vec<Mapping<'_>>,
    notes: &mut Vec<Note>,
) -> Result<(), Error> {
    let body = &node.body;
    if let Some(other) = mappings.iter().find(|mapping| !matches!(mapping.target, Target::Smmu(_))) {
        let problem = "a device with a reserved memory range (RMR) is behind no SMMUv3";
        return Err(other.entry.bad(12, other.output.into(), problem, FIRMWARE));
    }
    let (count, offset) = (body.u32(20)?, body.u32(24)?);
    if count == 0 || count > RESERVED_MAX {
        return Err(body.bad(20, count.into(), "the node has no range of memory, or more than 64", FIRMWARE));
    }
    let mut at = usize::try_from(offset).unwrap_or(usize::MAX);
    for _ in 0..count {
        let entry = body.part(at, DESCRIPTOR)?;
        let range = Range { base: entry.u64(0)?, size: entry.u64(8)? };
        let whole = range.base.is_multiple_of(PAGE) && range.size.is_multiple_of(PAGE);
        if range.size == 0 || !whole || range.end().is_none() {
            let problem = "the reserved memory range (RMR) is empty, wraps, or does not consist of whole pages";
            return Err(entry.bad(0, range.base, problem, FIRMWARE));
        }
        if reserved.iter().any(|other| other.overlaps(&range)) {
            return Err(entry.bad(0, range.base, "two nodes have this reserved memory range (RMR)", FIRMWARE));
        }
        notes.push(entry.note(0, range.base, "reserved memory range of a device (RMR): the host gets it too"));
        reserved.push(range);
        at = at.saturating_add(DESCRIPTOR);
    }
    Ok(())
}
