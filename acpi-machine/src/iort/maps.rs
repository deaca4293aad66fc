//! ID mappings: DEN 0049, "ID mappings".

use alloc::vec::Vec;

use super::{ITS_GROUP, NODE, Node, Nodes, SMMU_V2, SMMU_V3};
use crate::error::{Error, FIRMWARE};
use crate::table::Table;

const COUNT: usize = 8;
const OFFSET: usize = 12;
/// Size of a mapping in bytes.
const ENTRY: usize = 20;
const SINGLE: u32 = 1 << 0;

/// The target of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An SMMUv3, by its index among the SMMUv3s.
    Smmu(usize),
    /// An SMMU of an older version, which EL2 does not own.
    Foreign,
    /// ITSs only: no SMMU translates these IDs.
    Its,
}

/// The input IDs of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inputs {
    /// A range of IDs; each has its own output ID.
    Each {
        /// The first ID.
        first: u32,
        /// Number of IDs, 1 to 2^32.
        count: u64,
    },
    /// All IDs of the node have one output ID (single mapping).
    Single,
}

/// A mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping<'a> {
    /// Its bytes in the table.
    pub(super) entry: Table<'a>,
    pub(super) inputs: Inputs,
    /// The first output ID.
    pub(super) output: u32,
    pub(super) target: Target,
}

/// Consecutive IDs of requesters, and their StreamIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) first: u32,
    pub(crate) count: u64,
    /// The SMMU's number.
    pub(crate) smmu: usize,
    pub(crate) stream: u32,
}

impl Ids {
    /// The first ID after the range.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.first).saturating_add(self.count)
    }
}

/// Sorts `ids` and merges contiguous ranges.
/// `Err` contains the first duplicate ID.
pub(crate) fn sorted(mut ids: Vec<Ids>) -> Result<Vec<Ids>, u32> {
    ids.sort_unstable_by_key(|ids| ids.first);
    let mut joined: Vec<Ids> = Vec::new();
    for next in ids {
        match joined.last_mut() {
            Some(last) if last.end() > next.first.into() => return Err(next.first),
            Some(last)
                if last.end() == next.first.into()
                    && last.smmu == next.smmu
                    && u64::from(last.stream).saturating_add(last.count) == next.stream.into() =>
            {
                last.count = last.count.saturating_add(next.count);
            }
            Some(_) | None => joined.push(next),
        }
    }
    Ok(joined)
}

/// The mappings of `node`; `numbers` has the index of each SMMUv3's node.
pub(super) fn read<'a>(nodes: &Nodes<'a>, numbers: &[usize], node: &Node<'a>) -> Result<Vec<Mapping<'a>>, Error> {
    entries(node)?.into_iter().map(|entry| one(nodes, numbers, entry)).collect()
}

/// The bytes of each mapping of `node`.
pub(super) fn entries<'a>(node: &Node<'a>) -> Result<Vec<Table<'a>>, Error> {
    let number = |at| node.body.u32(at).map(|value| usize::try_from(value).unwrap_or(usize::MAX));
    let (count, offset) = (number(COUNT)?, number(OFFSET)?);
    if count == 0 {
        return Ok(Vec::new());
    }
    let whole = count.checked_mul(ENTRY).ok_or_else(|| {
        node.body.bad(COUNT, crate::table::wide(count), "the mappings do not fit in the node", FIRMWARE)
    })?;
    if offset < NODE {
        return Err(node.body.bad(
            OFFSET,
            crate::table::wide(offset),
            "the offset of the mappings is inside the node's header",
            FIRMWARE,
        ));
    }
    let all = node.body.part(offset, whole)?;
    (0..count).map(|index| all.part(index.saturating_mul(ENTRY), ENTRY)).collect()
}

fn one<'a>(nodes: &Nodes<'a>, numbers: &[usize], entry: Table<'a>) -> Result<Mapping<'a>, Error> {
    let (first, more, output) = (entry.u32(0)?, entry.u32(4)?, entry.u32(8)?);
    let (reference, flags) = (entry.u32(12)?, entry.u32(16)?);
    if flags & !SINGLE != 0 {
        return Err(entry.bad(16, flags.into(), "the mapping has unknown flags", FIRMWARE));
    }
    let Some((number, node)) = nodes.at(reference) else {
        return Err(entry.bad(12, reference.into(), "the mapping points to no node", FIRMWARE));
    };
    let target = match node.kind {
        SMMU_V3 => numbers.iter().position(|known| *known == number).map(Target::Smmu),
        SMMU_V2 => Some(Target::Foreign),
        ITS_GROUP => Some(Target::Its),
        _ => None,
    };
    let Some(target) = target else {
        let problem = "the mapping points to a node that is neither an SMMU nor an ITS group";
        return Err(entry.bad(12, reference.into(), problem, FIRMWARE));
    };
    // The field is the number of IDs minus one.
    let count = u64::from(more).saturating_add(1);
    let inputs = if flags & SINGLE == 0 { Inputs::Each { first, count } } else { Inputs::Single };
    let wraps = |start: u32| u64::from(start).saturating_add(count) > 1 << 32;
    if inputs != Inputs::Single && (wraps(first) || wraps(output)) {
        return Err(entry.bad(4, more.into(), "the IDs of the mapping wrap", FIRMWARE));
    }
    Ok(Mapping { entry, inputs, output, target })
}
