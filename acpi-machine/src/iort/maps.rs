//! ID mappings: DEN 0049, "ID mappings".

use alloc::vec::Vec;

use super::{ITS_GROUP, NODE, Node, Nodes, SMMU_V2, SMMU_V3};
use crate::error::{Error, FIRMWARE};
use crate::table::Table;

const COUNT: usize = 8;
const OFFSET: usize = 12;
/// Bytes of a mapping.
const ENTRY: usize = 20;
const SINGLE: u32 = 1 << 0;

/// Where the IDs of a mapping go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To an SMMUv3, by its number among them.
    Smmu(usize),
    /// To an SMMU of an older version, which EL2 does not own.
    Foreign,
    /// To ITSs only: no SMMU translates these IDs.
    Its,
}

/// Which IDs a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inputs {
    /// These; each has an output of its own.
    Each {
        /// The first one.
        first: u32,
        /// How many, 1 to 2^32.
        count: u64,
    },
    /// All there are have the one output.
    Single,
}

/// A mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping<'a> {
    /// Where it is.
    pub(super) entry: Table<'a>,
    pub(super) inputs: Inputs,
    /// The first ID at the target.
    pub(super) output: u32,
    pub(super) target: Target,
}

/// Consecutive IDs of requesters, and the streams that they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) first: u32,
    pub(crate) count: u64,
    /// The SMMU's number.
    pub(crate) smmu: usize,
    pub(crate) stream: u32,
}

impl Ids {
    /// The first ID behind them.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.first).saturating_add(self.count)
    }
}

/// Sorts `ids`, and joins those that continue each other.
///
/// `Err` with the ID that is there twice.
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

/// The mappings of `node`; `numbers` has the number of each SMMUv3's node.
pub(super) fn read<'a>(nodes: &Nodes<'a>, numbers: &[usize], node: &Node<'a>) -> Result<Vec<Mapping<'a>>, Error> {
    entries(node)?.into_iter().map(|entry| one(nodes, numbers, entry)).collect()
}

/// The mappings of `node` as parts of it.
pub(super) fn entries<'a>(node: &Node<'a>) -> Result<Vec<Table<'a>>, Error> {
    let number = |at| node.body.u32(at).map(|value| usize::try_from(value).unwrap_or(usize::MAX));
    let (count, offset) = (number(COUNT)?, number(OFFSET)?);
    if count == 0 {
        return Ok(Vec::new());
    }
    let whole = count.checked_mul(ENTRY).ok_or_else(|| {
        node.body.bad(COUNT, crate::table::wide(count), "there are more mappings than bytes", FIRMWARE)
    })?;
    if offset < NODE {
        return Err(node.body.bad(
            OFFSET,
            crate::table::wide(offset),
            "the mappings begin in the node's header",
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
        return Err(entry.bad(16, flags.into(), "the mapping has flags that are not known", FIRMWARE));
    }
    let Some((number, node)) = nodes.at(reference) else {
        return Err(entry.bad(12, reference.into(), "the mapping leads to no node", FIRMWARE));
    };
    let target = match node.kind {
        SMMU_V3 => numbers.iter().position(|known| *known == number).map(Target::Smmu),
        SMMU_V2 => Some(Target::Foreign),
        ITS_GROUP => Some(Target::Its),
        _ => None,
    };
    let Some(target) = target else {
        let problem = "the mapping leads to a node that is neither an SMMU nor a group of ITSs";
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
