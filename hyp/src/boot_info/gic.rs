//! The interrupt controller: a GICv3 and its ITSs, which are DMA masters.

use io_pgtable::Pa;

use super::boot_map::{HIGH_REGIONS, regions};
use super::error::BootError;
use super::range::PhysRange;
use super::tree::{NodeId, NodeRef, Reg, Tree};
use arrayvec::ArrayVec;

/// Maximum number of redistributor regions.
pub const REDISTRIBUTORS_MAX: usize = 8;
/// Maximum number of ITS frames.
pub const ITS_MAX: usize = 8;

/// Offset of an ITS's translation register page in bytes.
const TRANSLATER_OFFSET: u64 = 0x1_0000;
/// Bytes of the distributor's frame. The rest of a larger entry is withheld.
pub const GICD_SIZE: u64 = 0x1_0000;
/// An ITS is a control page and a translation page of 64 KiB each.
const ITS_SIZE: u64 = 0x2_0000;
/// The first interrupt number of the shared peripheral interrupts.
const SPI_BASE: u32 = 32;
/// Shared peripheral interrupts of a GICv3 without the extended range.
const SPI_COUNT: u32 = 988;

/// An interrupt translation service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Its {
    /// The node.
    pub node: NodeId,
    /// Control page and translation page.
    pub range: PhysRange,
    /// The address that devices write to.
    pub doorbell: Doorbell,
}

/// The address that devices write to raise an interrupt of an ITS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doorbell {
    /// In its own translation page.
    #[default]
    Own,
    /// In a window of the bus in which the address is the DeviceID ([`PRE_ITS`]): EL2 cannot check the DeviceID.
    PreIts,
}

/// The property of an ITS with such a window. Its node may have the control page only.
pub const PRE_ITS: &str = "socionext,synquacer-pre-its";

impl Its {
    /// The 64 KiB page with GITS_TRANSLATER: devices behind an SMMU write to it to raise an interrupt.
    #[must_use]
    pub fn translater(&self) -> Pa {
        // `find` checked that the range is longer than this.
        Pa(self.range.base().0.saturating_add(TRANSLATER_OFFSET))
    }
}

/// A GICv3.
#[derive(Clone, Debug, PartialEq)]
pub struct Gic {
    /// The node.
    pub node: NodeId,
    /// Its phandle for `interrupt-parent`.
    pub phandle: u32,
    /// Cells of one of its interrupts, 3 or more.
    pub interrupt_cells: u32,
    /// The distributor's registers.
    pub distributor: PhysRange,
    /// The redistributors' registers.
    pub redistributors: ArrayVec<PhysRange, REDISTRIBUTORS_MAX>,
    /// The ITS frames.
    pub its: ArrayVec<Its, ITS_MAX>,
}

/// Trigger type of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A rising edge.
    Edge,
    /// A high level.
    Level,
}

/// A wired interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spi {
    /// The interrupt number at the distributor: 32 or more.
    pub intid: u32,
    /// Edge or level.
    pub trigger: Trigger,
}

impl Gic {
    /// Finds the GICv3 and its ITS frames.
    ///
    /// # Errors
    /// [`BootError::Missing`] without one, [`BootError::NodesOverlap`] with two, [`BootError::Property`],
    /// [`BootError::TooMany`].
    pub fn find<'a>(tree: &Tree<'a>) -> Result<Self, BootError<'a>> {
        let mut gic: Option<Self> = None;
        tree.walk(&mut |node| {
            if !node.enabled() {
                return Ok(());
            }
            if node.compatible() == Some("arm,gic-v3") {
                let found = read(node)?;
                let range = found.distributor;
                if let Some(first) = gic.replace(found) {
                    return Err(BootError::NodesOverlap { first: tree.path(first.node), second: node.path(), range });
                }
            }
            Ok(())
        })?;
        let mut gic = gic.ok_or(BootError::Missing {
            what: "interrupt controller arm,gic-v3",
            remedy: "EL2 needs a GICv3 (QEMU: -machine gic-version=3)",
        })?;
        let mut reached = ArrayVec::new();
        for frame in core::iter::once(&gic.distributor).chain(gic.redistributors.iter()) {
            reach(tree, gic.node, frame, &mut reached)?;
        }
        tree.walk(&mut |node| {
            if node.enabled() && node.compatible() == Some("arm,gic-v3-its") {
                gic.add_its(tree, node)?;
            }
            Ok(())
        })?;
        for its in &gic.its {
            reach(tree, its.node, &its.range, &mut reached)?;
        }
        Ok(gic)
    }

    /// The frames of the GIC and its ITSs.
    pub fn frames(&self) -> impl Iterator<Item = &PhysRange> {
        let own = core::iter::once(&self.distributor).chain(self.redistributors.iter());
        own.chain(self.its.iter().map(|its| &its.range))
    }

    /// Whether `range` overlaps a frame of the GIC.
    #[must_use]
    pub fn overlaps(&self, range: &PhysRange) -> bool {
        self.distributor.overlaps(range)
            || self.redistributors.iter().any(|r| r.overlaps(range))
            || self.its.iter().any(|i| i.range.overlaps(range))
    }

    fn add_its<'a>(&mut self, tree: &Tree<'a>, node: &NodeRef<'a, '_>) -> Result<(), BootError<'a>> {
        let doorbell = if node.has(PRE_ITS) { Doorbell::PreIts } else { Doorbell::Own };
        let least = match doorbell {
            Doorbell::Own => ITS_SIZE,
            Doorbell::PreIts => TRANSLATER_OFFSET,
        };
        let range = match node.reg()?.next().transpose()? {
            Some(Reg::Visible(range)) if range.size() >= least => range,
            _ => return Err(node.bad("reg", "is not the 128 KiB of an ITS")),
        };
        // Otherwise the pages that devices may write would begin below the page of GITS_TRANSLATER.
        if !range.base().0.is_multiple_of(TRANSLATER_OFFSET) {
            return Err(node.bad("reg", "is not aligned to the 64 KiB of an ITS's pages"));
        }
        if self.overlaps(&range) {
            let first = self.its.iter().find(|i| i.range.overlaps(&range)).map_or(self.node, |i| i.node);
            return Err(BootError::NodesOverlap { first: tree.path(first), second: node.path(), range });
        }
        self.its
            .try_push(Its { node: node.id, range, doorbell })
            .map_err(|_| BootError::TooMany { what: "ITS frames", limit: ITS_MAX })
    }

    /// Reads one interrupt specifier: type, number, flags. `None` if it is not an SPI with a rising edge or high level.
    pub(super) fn spi(kind: u32, number: u32, flags: u32) -> Option<Spi> {
        if kind != 0 || number >= SPI_COUNT {
            return None;
        }
        let trigger = match flags & 0xf {
            1 => Trigger::Edge,
            4 => Trigger::Level,
            _ => return None,
        };
        Some(Spi { intid: SPI_BASE.checked_add(number)?, trigger })
    }
}

/// Adds the regions of 512 GiB that contain `frame` of `node` to `reached`; an error if boot's own table has no room
/// for them.
fn reach<'a>(
    tree: &Tree<'a>,
    node: NodeId,
    frame: &PhysRange,
    reached: &mut ArrayVec<u64, HIGH_REGIONS>,
) -> Result<(), BootError<'a>> {
    let refuse =
        |what| Err(BootError::Unsupported { path: tree.path(node), what, remedy: "this machine is not supported yet" });
    let Some(regions) = regions(frame) else {
        return refuse("its registers are above 256 TiB, the limit of boot code");
    };
    for region in regions {
        if !reached.contains(&region) && reached.try_push(region).is_err() {
            return refuse("the interrupt controller is in more than four regions of 512 GiB above the first");
        }
    }
    Ok(())
}

fn read<'a>(node: &NodeRef<'a, '_>) -> Result<Gic, BootError<'a>> {
    let phandle = node.u32("phandle")?.ok_or_else(|| node.bad("phandle", "is missing"))?;
    let interrupt_cells = node.u32("#interrupt-cells")?.filter(|cells| *cells >= 3);
    let interrupt_cells = interrupt_cells.ok_or_else(|| node.bad("#interrupt-cells", "must be 3 or more"))?;
    let regions = node.u32("#redistributor-regions")?.unwrap_or(1);
    let mut regs = node.reg()?;
    let mut visible = || match regs.next().transpose()? {
        Some(Reg::Visible(range)) => Ok(range),
        Some(Reg::OnBus(_)) | None => Err(node.bad("reg", "does not contain the distributor and all redistributors")),
    };
    // The rest of a larger entry may contain an ITS, so it is withheld.
    let first_frame = |range: PhysRange| PhysRange::new(range.base(), range.size().min(GICD_SIZE)).unwrap_or(range);
    let mut gic = Gic {
        node: node.id,
        phandle,
        interrupt_cells,
        distributor: first_frame(visible()?),
        redistributors: ArrayVec::new(),
        its: ArrayVec::new(),
    };
    for _ in 0..regions {
        let range = visible()?;
        if gic.overlaps(&range) {
            return Err(node.bad("reg", "has frames that overlap"));
        }
        gic.redistributors
            .try_push(range)
            .map_err(|_| BootError::TooMany { what: "redistributor regions", limit: REDISTRIBUTORS_MAX })?;
    }
    Ok(gic)
}
