//! IORT: which requesters are behind which SMMU (Arm DEN 0049, issues A to E.f).

mod maps;
mod parts;
mod smmu;

use alloc::vec::Vec;

use crate::error::{Error, FIRMWARE, Note};
use crate::madt::Its;
use crate::range::Range;
use crate::table::{HEADER, Table};
use maps::Target;
pub(crate) use maps::{Ids, sorted};
pub(crate) use smmu::{Model, Smmu};

const COUNT: usize = HEADER;
const OFFSET: usize = HEADER + 4;
const FIRST: usize = HEADER + 12;
/// Length in bytes of a node's header, before the fields of its type.
const NODE: usize = 16;
/// Maximum number of nodes.
const NODES_MAX: usize = 4096;

/// Offset of the length of an SMMUv2's registers.
const SPAN: usize = NODE + 8;
/// Offset of the address of a PMCG's second page; nodes of revision 0 do not have it.
const PMCG_PAGE_1: usize = NODE + 16;
/// Size in bytes of a page of registers.
const PAGE: u64 = 0x1_0000;

const ITS_GROUP: u8 = 0;
const NAMED_COMPONENT: u8 = 1;
const ROOT_COMPLEX: u8 = 2;
const SMMU_V2: u8 = 3;
const SMMU_V3: u8 = 4;
const PMCG: u8 = 5;
const RMR: u8 = 6;

/// The known revisions of each type of node.
const REVISIONS: [(u8, &[u8]); 7] = [
    (ITS_GROUP, &[0, 1]),
    (NAMED_COMPONENT, &[0, 1, 2, 3, 4]),
    (ROOT_COMPLEX, &[0, 1, 2, 3, 4]),
    (SMMU_V2, &[0, 1, 2, 3]),
    (SMMU_V3, &[0, 1, 2, 3, 4, 5]),
    (PMCG, &[0, 1, 2]),
    // Revision 0 of the node has another layout.
    (RMR, &[1, 2, 3]),
];

/// A device whose registers only AML describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    /// Offset of its node in the table.
    pub(crate) offset: usize,
    /// Its streams.
    pub(crate) ids: Vec<Ids>,
}

/// The RequesterIDs of a PCI segment that SMMUs translate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u16,
    pub(crate) coherent: bool,
    /// Sorted, without duplicates.
    pub(crate) ids: Vec<Ids>,
}

/// The content of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Iort {
    pub(crate) smmus: Vec<Smmu>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) components: Vec<Component>,
    /// Reserved memory ranges (RMRs), which devices access permanently.
    pub(crate) reserved: Vec<Range>,
    /// Registers of parts that EL2 does not support; the tree has no nodes for them.
    pub(crate) withheld: Vec<Range>,
}

/// A node.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    kind: u8,
    revision: u8,
    body: Table<'a>,
}

/// All nodes, by ascending offset.
struct Nodes<'a> {
    all: Vec<Node<'a>>,
}

impl<'a> Nodes<'a> {
    fn find(iort: &Table<'a>) -> Result<Self, Error> {
        let count = usize::try_from(iort.u32(COUNT)?).unwrap_or(usize::MAX);
        if count > NODES_MAX {
            return Err(iort.bad(COUNT, crate::table::wide(count), "there are more than 4096 nodes", FIRMWARE));
        }
        let mut at = usize::try_from(iort.u32(OFFSET)?).unwrap_or(usize::MAX);
        if at < FIRST {
            return Err(iort.bad(
                OFFSET,
                crate::table::wide(at),
                "the nodes begin inside the table's header",
                FIRMWARE,
            ));
        }
        let mut all = Vec::new();
        for _ in 0..count {
            let length = usize::from(iort.u16(at.saturating_add(1))?);
            if length < NODE {
                return Err(iort.bad(at, crate::table::wide(length), "the node is shorter than its header", FIRMWARE));
            }
            let body = iort.part(at, length)?;
            let (kind, revision) = (body.u8(0)?, body.u8(3)?);
            let Some((_, known)) = REVISIONS.iter().find(|(known, _)| *known == kind) else {
                return Err(body.bad(0, kind.into(), "the node has an unknown type", FIRMWARE));
            };
            if !known.contains(&revision) {
                return Err(body.bad(3, revision.into(), "the node has an unknown revision", FIRMWARE));
            }
            all.push(Node { kind, revision, body });
            at = at.saturating_add(length);
        }
        if at != iort.len() {
            return Err(iort.bad(at, crate::table::wide(at), "there are bytes after the last node", FIRMWARE));
        }
        Ok(Self { all })
    }

    /// The node at `offset` in the table, with its index.
    fn at(&self, offset: u32) -> Option<(usize, &Node<'a>)> {
        let offset = usize::try_from(offset).ok()?;
        let index = self.all.binary_search_by_key(&offset, |node| node.body.start()).ok()?;
        Some((index, self.all.get(index)?))
    }

    fn of(&self, kind: u8) -> impl Iterator<Item = (usize, &Node<'a>)> {
        self.all.iter().enumerate().filter(move |(_, node)| node.kind == kind)
    }
}

/// Reads the table. `its` are the ITSs of the MADT.
pub(crate) fn read(iort: &Table<'_>, its: &[Its], notes: &mut Vec<Note>) -> Result<Iort, Error> {
    iort.expect(&[0, 1, 3, 5, 6, 7], FIRST)?;
    let nodes = Nodes::find(iort)?;
    for (_, group) in nodes.of(ITS_GROUP) {
        parts::check_group(group, its)?;
    }
    let mut found = Iort::default();
    // The index of each SMMUv3's node.
    let mut numbers = Vec::new();
    for (number, node) in nodes.of(SMMU_V3) {
        found.smmus.push(smmu::read(&nodes, node)?);
        found.withheld.push(Range { base: node.body.u64(smmu::VATOS)?, size: PAGE });
        numbers.push(number);
    }
    if found.smmus.is_empty() {
        let remedy = "enable the SMMUs in the firmware's setup (QEMU: -machine iommu=smmuv3)";
        return Err(iort.bad(COUNT, 0, "there is no SMMUv3, so nothing can be isolated", remedy));
    }
    for (_, node) in nodes.of(SMMU_V2) {
        found.withheld.push(Range { base: node.body.u64(NODE)?, size: node.body.u64(SPAN)? });
        notes.push(node.body.note(NODE, node.body.u64(NODE)?, "SMMUv1 or SMMUv2, withheld with the devices behind it"));
    }
    for (_, node) in nodes.of(PMCG) {
        let second = (node.revision > 0).then_some(PMCG_PAGE_1);
        for at in [NODE].into_iter().chain(second) {
            found.withheld.push(Range { base: node.body.u64(at)?, size: PAGE });
        }
        notes.push(node.body.note(
            NODE,
            node.body.u64(NODE)?,
            "performance counters (PMCG), withheld: they can write MSIs",
        ));
    }
    for (_, node) in nodes.of(ROOT_COMPLEX) {
        parts::add_root_complex(&mut found.segments, node, maps::read(&nodes, &numbers, node)?, notes)?;
    }
    for (_, node) in nodes.of(NAMED_COMPONENT) {
        found.components.push(parts::component(node, maps::read(&nodes, &numbers, node)?, notes)?);
    }
    for (_, node) in nodes.of(RMR) {
        parts::add_reserved(&mut found.reserved, node, maps::read(&nodes, &numbers, node)?, notes)?;
    }
    Ok(found)
}
