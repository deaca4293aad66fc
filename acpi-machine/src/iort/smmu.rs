//! SMMUv3 nodes.

use super::{ITS_GROUP, Node, Nodes, maps};
use crate::error::{Error, FIRMWARE};
use crate::range::Range;

const BASE: usize = 16;
const FLAGS: usize = 24;
/// Offset of the address of the VATOS page; 0 if there is none.
pub(super) const VATOS: usize = 32;
const MODEL: usize = 40;
const EVENT: usize = 44;
const PRI: usize = 48;
const GERR: usize = 52;
const SYNC: usize = 56;
const INDEX: usize = 64;

const COHERENT: u32 = 1 << 0;
/// HTTU override in bits 2:1, proximity domain valid: EL2 uses neither.
const IGNORED: u32 = 0b1110;
const DEVICE_ID: u32 = 1 << 4;

/// Size of both register pages in bytes.
const SIZE: u64 = 0x2_0000;
const ALIGN: u64 = 0x1_0000;

/// Implementations with errata that the table identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    Generic,
    Hi161x,
    Cn99xx,
}

/// An SMMUv3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Smmu {
    pub(crate) range: Range,
    pub(crate) coherent: bool,
    pub(crate) model: Model,
    /// Interrupts with their names in the device tree; 0 if there is none.
    pub(crate) interrupts: [(&'static str, u32); 4],
    /// The ID of the first ITS to which the SMMU can send MSIs.
    pub(crate) its: Option<u32>,
}

pub(super) fn read<'a>(nodes: &Nodes<'a>, node: &Node<'a>) -> Result<Smmu, Error> {
    let body = &node.body;
    let (base, flags, model) = (body.u64(BASE)?, body.u32(FLAGS)?, body.u32(MODEL)?);
    if base == 0 || !base.is_multiple_of(ALIGN) || base.checked_add(SIZE).is_none() {
        return Err(body.bad(BASE, base, "the SMMU's registers are not at a boundary of 64 KiB", FIRMWARE));
    }
    if flags & !(COHERENT | IGNORED | DEVICE_ID) != 0 {
        return Err(body.bad(FLAGS, flags.into(), "the SMMU has unknown flags", FIRMWARE));
    }
    let model = match model {
        0 => Model::Generic,
        1 => Model::Hi161x,
        2 => Model::Cn99xx,
        _ => {
            let problem = "the SMMU has an unknown model, so its errata are unknown";
            return Err(body.bad(MODEL, model.into(), problem, FIRMWARE));
        }
    };
    let mut interrupts = [("eventq", 0), ("priq", 0), ("gerror", 0), ("cmdq-sync", 0)];
    for ((_, number), at) in interrupts.iter_mut().zip([EVENT, PRI, GERR, SYNC]) {
        *number = body.u32(at)?;
        if (1..32).contains(number) {
            return Err(body.bad(at, u64::from(*number), "the SMMU's interrupt is not an SPI", FIRMWARE));
        }
    }
    let its = messages(nodes, node, flags, interrupts.iter().all(|(_, number)| *number != 0))?;
    Ok(Smmu { range: Range { base, size: SIZE }, coherent: flags & COHERENT != 0, model, interrupts, its })
}

/// The ITS for the SMMU's own MSIs. Revision 5 (E.e) added a flag for the mapping of MSIs. In earlier revisions the
/// mapping is valid unless all interrupts are wired.
fn messages<'a>(nodes: &Nodes<'a>, node: &Node<'a>, flags: u32, wired: bool) -> Result<Option<u32>, Error> {
    let valid = match node.revision {
        0 => false,
        1..=4 => !wired,
        _ => flags & DEVICE_ID != 0,
    };
    let entries = maps::entries(node)?;
    let mut its = None;
    for (number, entry) in entries.iter().enumerate() {
        let reference = entry.u32(12)?;
        let Some((_, group)) = nodes.at(reference).filter(|(_, group)| group.kind == ITS_GROUP) else {
            return Err(entry.bad(12, reference.into(), "an SMMU's mapping points to no ITS group", FIRMWARE));
        };
        if valid && u32::try_from(number) == Ok(node.body.u32(INDEX)?) {
            its = Some(group.body.u32(20)?);
        }
    }
    if valid && its.is_none() && !entries.is_empty() {
        let index = node.body.u32(INDEX)?;
        return Err(node.body.bad(INDEX, index.into(), "the SMMU has no mapping with this index", FIRMWARE));
    }
    Ok(its)
}
