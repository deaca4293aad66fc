//! PCI hosts, and whether every requester of a PCI host is behind an SMMU that EL2 owns.

use super::error::BootError;
use super::power::{self, Switch};
use super::range::{PhysRange, RangeSet};
use super::smmu::{SMMUS_MAX, SmmuNode};
use super::tree::{NodeId, NodeRef, Reg, Tree};
use arrayvec::ArrayVec;
use io_pgtable::Pa;

/// Maximum number of PCI hosts.
pub const PCI_MAX: usize = 8;
/// Maximum number of address windows of a host.
pub const WINDOWS_MAX: usize = 8;
/// Maximum number of entries of an `iommu-map`.
pub const IOMMU_MAP_MAX: usize = 16;

/// RequesterIDs have 16 bits. The host can give a bridge any secondary bus number, so all IDs must be covered, unless
/// EL2 ignores these stores.
const RIDS: u64 = 0x1_0000;
/// RequesterIDs of a bus.
const RIDS_PER_BUS: u64 = 0x100;
/// Space code of 32-bit memory in the first cell of a window's address. The code of 64-bit memory is one more.
const MEMORY_32: u32 = 2;
/// Configuration space of one bus, in bytes.
const ECAM_PER_BUS: u64 = 1 << 20;

/// The translation between a master and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upstream {
    /// Only SMMUs of the platform.
    Smmu {
        /// Index of the first one.
        first: u8,
    },
    /// No IOMMU in the tree: EL2 assumes that the DMA is not translated.
    #[default]
    Nothing,
    /// SMMUs of the platform, for every requester on the buses of `bus-range`. Other requesters would bypass the SMMUs,
    /// so no bus may get another number.
    Buses {
        /// Index of the first one.
        first: u8,
    },
    /// SMMUs that do not cover some requesters.
    Partly,
    /// An IOMMU that is not one of the platform's SMMUs.
    Foreign,
}

impl Upstream {
    /// Combines the results `self` and `other` of two properties of a master.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Foreign, _) | (_, Self::Foreign) => Self::Foreign,
            (Self::Partly, _) | (_, Self::Partly) => Self::Partly,
            (Self::Buses { first }, _) | (_, Self::Buses { first }) => Self::Buses { first },
            (Self::Smmu { first }, _) | (Self::Nothing, Self::Smmu { first }) => Self::Smmu { first },
            (Self::Nothing, Self::Nothing) => Self::Nothing,
        }
    }
}

/// A PCI host bridge with a plain ECAM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PciHost {
    /// The node.
    pub node: NodeId,
    /// Configuration space.
    pub ecam: PhysRange,
    /// The CPU's windows to PCI memory and I/O space.
    pub windows: ArrayVec<PhysRange, WINDOWS_MAX>,
    /// The translation between its devices and memory.
    pub upstream: Upstream,
    /// `linux,pci-domain`, or its position among the PCI hosts.
    pub segment: u32,
    /// First and last bus; configuration space begins at the first bus.
    pub buses: (u8, u8),
    /// The windows in `windows` that are memory.
    pub memory: ArrayVec<MemoryWindow, WINDOWS_MAX>,
    /// The StreamIDs of its requesters.
    pub ids: ArrayVec<IdRange, IOMMU_MAP_MAX>,
    /// Which node can switch it off.
    pub switch: Switch,
}

impl PciHost {
    /// Whether the host must not change the bus numbers. Then its accesses to configuration space trap.
    #[must_use]
    pub const fn has_fixed_bus_numbers(&self) -> bool {
        matches!(self.upstream, Upstream::Buses { .. })
    }
}

/// A window of PCI memory space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryWindow {
    /// The first bus address.
    pub bus: u64,
    /// Its CPU addresses.
    pub cpu: PhysRange,
}

/// An entry of an `iommu-map`: `count` RequesterIDs from `rid` have the StreamIDs from `sid` of one SMMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRange {
    /// First RequesterID.
    pub rid: u32,
    /// Number of them.
    pub count: u32,
    /// Index of the SMMU.
    pub smmu: u8,
    /// First StreamID.
    pub sid: u32,
}

/// Finds every enabled `pci-host-ecam-generic`.
///
/// # Errors
/// [`BootError::Property`] for a malformed `reg`, `ranges`, `bus-range` or `iommu-map`; [`BootError::TooMany`].
pub fn find<'a>(
    tree: &Tree<'a>,
    smmus: &ArrayVec<SmmuNode, SMMUS_MAX>,
) -> Result<ArrayVec<PciHost, PCI_MAX>, BootError<'a>> {
    let mut hosts = ArrayVec::<PciHost, PCI_MAX>::new();
    tree.walk(&mut |node| {
        if node.compatible() != Some("pci-host-ecam-generic") || !node.enabled() {
            return Ok(());
        }
        let position = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        hosts
            .try_push(read(node, smmus, position)?)
            .map_err(|_| BootError::TooMany { what: "PCI hosts", limit: PCI_MAX })
    })?;
    Ok(hosts)
}

/// Maximum number of stream ranges in all `iommus` and `iommu-map` properties.
pub const STREAMS_MAX: usize = 64;

/// Consecutive streams in an `iommus` or `iommu-map` of masters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterStreams {
    /// The node whose `iommu-map` it is; `None` for `iommus`.
    pub map_of: Option<NodeId>,
    /// Index of the SMMU.
    pub smmu: u8,
    /// First StreamID.
    pub sid: u32,
    /// Number of them.
    pub count: u32,
}

/// The streams in the `iommus` and `iommu-map` properties of all nodes, enabled or disabled; `None` if there are more
/// than [`STREAMS_MAX`] ranges, or if an entry cannot be decoded.
pub type Streams = Option<ArrayVec<MasterStreams, STREAMS_MAX>>;

/// Finds the streams of all masters.
///
/// # Errors
/// [`BootError::Property`] for an `iommus` or `iommu-map` that is not a list of cells.
pub fn streams<'a>(tree: &Tree<'a>, smmus: &ArrayVec<SmmuNode, SMMUS_MAX>) -> Result<Streams, BootError<'a>> {
    let mut found = Some(ArrayVec::new());
    let mut keep = |one: Option<MasterStreams>| {
        let kept = one.zip(found.as_mut()).and_then(|(one, found)| found.try_push(one).ok());
        if kept.is_none() {
            found = None;
        }
        kept
    };
    tree.walk(&mut |node| {
        if let Some(mut cells) = node.cells("iommus")? {
            while let Some(phandle) = cells.u32() {
                let stream = index_of(smmus, phandle).zip(cells.u32());
                let one = stream.map(|(smmu, sid)| MasterStreams { map_of: None, smmu, sid, count: 1 });
                if keep(one).is_none() {
                    break;
                }
            }
        }
        if let Some(mut cells) = node.cells("iommu-map")? {
            while let Some(_rid) = cells.u32() {
                let smmu = cells.u32().and_then(|phandle| index_of(smmus, phandle));
                let stream = smmu.zip(cells.u32()).zip(cells.u32());
                let map_of = Some(node.id);
                let one = stream.map(|((smmu, sid), count)| MasterStreams { map_of, smmu, sid, count });
                if keep(one).is_none() {
                    break;
                }
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn read<'a>(node: &NodeRef<'a, '_>, smmus: &[SmmuNode], position: u32) -> Result<PciHost, BootError<'a>> {
    let ecam = match node.reg()?.next().transpose()? {
        Some(Reg::Visible(range)) => range,
        Some(Reg::OnBus(_)) | None => {
            return Err(node.bad("reg", "does not contain the configuration space"));
        }
    };
    let (first, last) = bus_range(node)?;
    let segment = node.u32("linux,pci-domain")?.unwrap_or(position);
    let buses = u64::from(last).saturating_sub(u64::from(first)).saturating_add(1);
    if buses.saturating_mul(ECAM_PER_BUS) > ecam.size() {
        return Err(node.bad("reg", "has less configuration space than bus-range needs"));
    }
    let mut ids = ArrayVec::new();
    let mapped = iommu_map(node, smmus, Some((first, last)), &mut ids)?;
    let upstream = match (mapped, iommus(node, smmus)?) {
        // `iommus` of the bridge itself does not apply to the requesters behind it.
        (Upstream::Nothing, _) => Upstream::Nothing,
        (mapped, direct) => mapped.and(direct),
    };
    let (windows, memory) = windows(node)?;
    // Checked above: both are bytes.
    let buses = (u8::try_from(first).unwrap_or(0), u8::try_from(last).unwrap_or(0));
    let switch = power::switch(node)?;
    Ok(PciHost { node: node.id, ecam, windows, upstream, segment, buses, memory, ids, switch })
}

fn bus_range<'a>(node: &NodeRef<'a, '_>) -> Result<(u32, u32), BootError<'a>> {
    let bad = || node.bad("bus-range", "is not two bus numbers in order");
    let Some(mut cells) = node.cells("bus-range")? else {
        return Ok((0, 0xff));
    };
    let first = cells.u32().ok_or_else(bad)?;
    let last = cells.u32().ok_or_else(bad)?;
    if cells.is_empty() && first <= last && last <= 0xff { Ok((first, last)) } else { Err(bad()) }
}

/// All windows, and the memory windows among them.
type Windows = (ArrayVec<PhysRange, WINDOWS_MAX>, ArrayVec<MemoryWindow, WINDOWS_MAX>);

fn windows<'a>(node: &NodeRef<'a, '_>) -> Result<Windows, BootError<'a>> {
    let mut windows = ArrayVec::new();
    let mut memory = ArrayVec::new();
    if node.has("ranges") && node.child_cells()? != (3, 2) {
        return Err(node.bad("#address-cells", "must be 3, and #size-cells 2, in a PCI host"));
    }
    node.windows(&mut |bus, range| {
        let space = bus.first >> 24 & 3;
        if space == 0 {
            return Err(node.bad("ranges", "has a window of configuration space"));
        }
        let range = range.ok_or_else(|| node.bad("ranges", "has a window outside the CPU's address space"))?;
        if space >= MEMORY_32 {
            // Cannot fail: at most one entry for each window.
            let _ = memory.try_push(MemoryWindow { bus: bus.address, cpu: range });
        }
        windows.try_push(range).map_err(|_| BootError::TooMany { what: "windows of a PCI host", limit: WINDOWS_MAX })
    })?;
    Ok((windows, memory))
}

fn iommu_map<'a>(
    node: &NodeRef<'a, '_>,
    smmus: &[SmmuNode],
    buses: Option<(u32, u32)>,
    ids: &mut ArrayVec<IdRange, IOMMU_MAP_MAX>,
) -> Result<Upstream, BootError<'a>> {
    let Some(mut cells) = node.cells("iommu-map")? else {
        return Ok(Upstream::Nothing);
    };
    if cells.is_empty() {
        return Err(node.bad("iommu-map", "is empty"));
    }
    let mut covered = RangeSet::<IOMMU_MAP_MAX>::new();
    let mut first = None;
    while !cells.is_empty() {
        let mut cell = || cells.u32().ok_or_else(|| node.bad("iommu-map", "is not a whole number of 4-cell entries"));
        let (rid, phandle) = (cell()?, cell()?);
        let Some(smmu) = index_of(smmus, phandle) else {
            // The length of its entries is also unknown.
            return Ok(Upstream::Foreign);
        };
        let (sid, length) = (cell()?, cell()?);
        let rids = PhysRange::new(Pa(u64::from(rid)), u64::from(length))
            .filter(|r| !r.is_empty() && r.end().0 <= RIDS)
            .ok_or_else(|| node.bad("iommu-map", "has an entry outside requester IDs 0 to 0xffff"))?;
        if u64::from(sid).saturating_add(u64::from(length)) > 1 << 32 {
            return Err(node.bad("iommu-map", "has an entry whose StreamIDs wrap"));
        }
        if covered.overlaps(&rids) {
            return Err(node.bad("iommu-map", "has entries that overlap"));
        }
        covered.insert(rids).map_err(|_| BootError::TooMany { what: "iommu-map entries", limit: IOMMU_MAP_MAX })?;
        first = first.or(Some(smmu));
        // Cannot fail: at most one entry for each range of RequesterIDs.
        let _ = ids.try_push(IdRange { rid, count: length, smmu, sid });
    }
    if node.u32("iommu-map-mask")?.is_some_and(|mask| u64::from(mask) != RIDS.saturating_sub(1)) {
        // Requesters would share StreamIDs, which is not supported.
        return Ok(Upstream::Partly);
    }
    let of_buses = buses.and_then(|(first, last)| {
        let start = |bus: u32| Pa(u64::from(bus).saturating_mul(RIDS_PER_BUS));
        PhysRange::between(start(first), start(last.checked_add(1)?))
    });
    match first {
        Some(first) if covered.total() == RIDS => Ok(Upstream::Smmu { first }),
        Some(first) if of_buses.is_some_and(|all| covered.contains(&all)) => Ok(Upstream::Buses { first }),
        _ => Ok(Upstream::Partly),
    }
}

fn index_of(smmus: &[SmmuNode], phandle: u32) -> Option<u8> {
    smmus.iter().position(|s| s.phandle == Some(phandle)).and_then(|at| u8::try_from(at).ok())
}

/// The translation between a node that is not a PCI host and memory: `iommus` must refer to the platform's SMMUs, and
/// so must every ID in an additional `iommu-map`. [`Upstream::Nothing`] without both.
pub(super) fn of_device<'a>(node: &NodeRef<'a, '_>, smmus: &[SmmuNode]) -> Result<Upstream, BootError<'a>> {
    Ok(match (iommus(node, smmus)?, iommu_map(node, smmus, None, &mut ArrayVec::new())?) {
        // No property shows that an SMMU translates the node's own accesses.
        (Upstream::Nothing, Upstream::Smmu { .. }) => Upstream::Partly,
        (direct, mapped) => direct.and(mapped),
    })
}

/// The translation between a node with `iommus` and memory; [`Upstream::Nothing`] without that property.
fn iommus<'a>(node: &NodeRef<'a, '_>, smmus: &[SmmuNode]) -> Result<Upstream, BootError<'a>> {
    let Some(mut cells) = node.cells("iommus")? else {
        return Ok(Upstream::Nothing);
    };
    if cells.is_empty() {
        return Err(node.bad("iommus", "is empty"));
    }
    let mut first = None;
    let mut foreign = false;
    while !cells.is_empty() {
        let mut cell = || cells.u32().ok_or_else(|| node.bad("iommus", "is not a whole number of 2-cell entries"));
        let Some(smmu) = index_of(smmus, cell()?) else {
            foreign = true;
            // The length of a foreign IOMMU's entries is unknown.
            break;
        };
        let _sid = cell()?;
        first = first.or(Some(smmu));
    }
    match first {
        Some(first) if !foreign => Ok(Upstream::Smmu { first }),
        _ => Ok(Upstream::Foreign),
    }
}
