//! Every SMMUv3 that the tree describes. EL2 takes over all of them: an unmanaged SMMU would bypass the isolation.

use super::error::BootError;
use super::gic::Gic;
use super::range::PhysRange;
use super::tree::{NodeId, NodeRef, Reg, Tree};
use super::wired;
pub use super::wired::{Absent, SmmuInterrupts};
use arrayvec::ArrayVec;
use smmu_drv::Coherency;
use smmu_drv::errata::{Place, Quirks};

/// Maximum number of SMMUs.
pub const SMMUS_MAX: usize = 8;

/// The two 64 KiB register pages of an SMMUv3.
const REGISTERS_SIZE: u64 = 0x2_0000;
const PAGE_ALIGN: u64 = 0x1_0000;
/// A property: the registers of page 1 can be accessed only in page 0.
const PAGE_0_ONLY: &str = "cavium,cn9900-broken-page1-regspace";

/// An SMMUv3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmmuNode {
    /// The node.
    pub node: NodeId,
    /// Its phandle in `iommu-map` and `iommus`.
    pub phandle: Option<u32>,
    /// Its registers: at least two 64 KiB pages.
    pub range: PhysRange,
    /// Whether the node has `dma-coherent`, which is valid only if IDR0.COHACC is also set.
    pub coherency: Coherency,
    /// Its wired interrupts.
    pub interrupts: SmmuInterrupts,
    /// Whether the node has an `msi-parent`: the host will then program MSIs and not use the wired interrupts.
    pub msi_parent: bool,
    /// Errata that the node identifies.
    pub quirks: Quirks,
    /// Whether the node has [`DATA_OVERRIDE`].
    pub data_override: bool,
}

/// Characters of a `status` that is printed.
const STATUS_SHOWN: usize = 32;

/// The property by which instruction reads are treated as data reads. Linux refuses it on an SMMU without
/// SMMU_IDR1.ATTR_PERMS_OVR, such as the emulated one. EL2 sets the override itself if hardware supports it, and
/// removes the property from the host's tree.
pub const DATA_OVERRIDE: &str = "arm,instdata-override";

/// Finds every enabled `arm,smmu-v3`.
///
/// # Errors
/// [`BootError::Missing`] without any, [`BootError::SmmuDisabled`] if all are disabled, [`BootError::NodesOverlap`] for
/// an SMMU that is listed twice or overlaps another node, [`BootError::Property`], [`BootError::TooMany`].
pub fn find<'a>(tree: &Tree<'a>, gic: &Gic) -> Result<ArrayVec<SmmuNode, SMMUS_MAX>, BootError<'a>> {
    let mut smmus = ArrayVec::<SmmuNode, SMMUS_MAX>::new();
    tree.walk(&mut |node| {
        if !is_smmu(node) || !node.enabled() {
            return Ok(());
        }
        let smmu = read(node, gic)?;
        if let Some(first) = smmus.iter().find(|other| other.range.overlaps(&smmu.range)) {
            return Err(BootError::NodesOverlap {
                first: tree.path(first.node),
                second: node.path(),
                range: smmu.range,
            });
        }
        if gic.overlaps(&smmu.range) {
            return Err(BootError::NodesOverlap { first: tree.path(gic.node), second: node.path(), range: smmu.range });
        }
        smmus.try_push(smmu).map_err(|_| BootError::TooMany { what: "SMMUs", limit: SMMUS_MAX })
    })?;
    if smmus.is_empty() {
        refuse_disabled(tree)?;
        return Err(BootError::Missing {
            what: "SMMUv3 (arm,smmu-v3) in the device tree",
            remedy: "without one nothing can be isolated (QEMU: -machine iommu=smmuv3)",
        });
    }
    Ok(smmus)
}

/// The error that names the first SMMU, if there is one and it is disabled.
fn refuse_disabled<'a>(tree: &Tree<'a>) -> Result<(), BootError<'a>> {
    tree.walk(&mut |node| {
        if !is_smmu(node) {
            return Ok(());
        }
        let mut by = Some(node);
        while let Some(above) = by {
            if let Some(status) = above.string("status")?.filter(|status| !matches!(*status, "okay" | "ok")) {
                let shown = status.len() <= STATUS_SHOWN && status.bytes().all(|byte| byte.is_ascii_graphic());
                let status = if shown { status } else { "that is not printable" };
                return Err(BootError::SmmuDisabled { smmu: node.path(), by: above.path(), status });
            }
            by = above.parent();
        }
        Ok(())
    })
}

/// Whether any `compatible` string of `node` is that of an SMMUv3.
pub(super) fn is_smmu(node: &NodeRef<'_, '_>) -> bool {
    node.is_compatible("arm,smmu-v3")
}

fn read<'a>(node: &NodeRef<'a, '_>, gic: &Gic) -> Result<SmmuNode, BootError<'a>> {
    let range = match node.reg()?.next().transpose()? {
        Some(Reg::Visible(range)) => range,
        Some(Reg::OnBus(_)) | None => {
            return Err(node.bad("reg", "does not contain the registers' address"));
        }
    };
    if range.size() < REGISTERS_SIZE {
        return Err(node.bad("reg", "is smaller than 0x20000, the two register pages of an SMMUv3"));
    }
    if !range.base().0.is_multiple_of(PAGE_ALIGN) || !range.size().is_multiple_of(PAGE_ALIGN) {
        return Err(node.bad("reg", "is not a whole number of 64 KiB pages"));
    }
    if node.u32("#iommu-cells")? != Some(1) {
        // `iommus` and `iommu-map` are parsed with this count.
        return Err(node.bad("#iommu-cells", "is not 1: a StreamID is one cell"));
    }
    if node.has(PAGE_0_ONLY) {
        return Err(node.bad(PAGE_0_ONLY, "is not supported: EL2 needs the registers of page 1"));
    }
    let coherency = if node.coherent() { Coherency::Coherent } else { Coherency::NonCoherent };
    Ok(SmmuNode {
        node: node.id,
        phandle: node.u32("phandle")?,
        range,
        coherency,
        interrupts: wired::read(node, gic)?,
        msi_parent: node.has("msi-parent"),
        quirks: Quirks::of(|named| match named.place {
            Place::Compatible => node.is_compatible(named.name),
            Place::Property => node.has(named.name),
        }),
        data_override: node.has(DATA_OVERRIDE),
    })
}
