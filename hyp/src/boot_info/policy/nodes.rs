//! What the tree says about a node, before any decision: whether it is a DMA master, a bus or an unknown bridge, and
//! the ranges that it claims.

use super::bindings::{self, known_bad};
use crate::boot_info::error::BootError;
use crate::boot_info::platform::Platform;
use crate::boot_info::range::PhysRange;
use crate::boot_info::tree::{NodeRef, Reg};

/// Kind of a node's range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Use {
    /// Its own registers.
    #[default]
    Registers,
    /// A window of a bridge: the host programs the BARs in it.
    Bridge,
    /// A window of a bus: its children's registers, each with its own `reg`.
    Bus,
}

/// Whether the tree describes the translation of the node's DMA.
pub(super) fn is_master(node: &NodeRef<'_, '_>) -> bool {
    node.has("iommus") || node.has("iommu-map")
}

/// Whether `node` is a bus. A bus has no decision: each child node gets its own, and the registers of the bus are
/// withheld.
pub(super) fn is_bus(node: &NodeRef<'_, '_>) -> bool {
    node.enabled() && bindings::bus(node) && !is_master(node) && known_bad(node).is_none()
}

/// Whether `node` is a bridge with windows, of a type that EL2 does not know.
pub(super) fn is_unknown_bridge<'a>(platform: &Platform<'a>, node: &NodeRef<'a, '_>) -> Result<bool, BootError<'a>> {
    let mut bridge = false;
    claims(node, &mut |usage, _| {
        bridge |= usage == Use::Bridge;
        Ok(())
    })?;
    Ok(bridge && !platform.pci.iter().any(|host| host.node == node.id))
}

/// Calls `visit` with every range of CPU addresses of `node`: its registers and its windows (`ranges`).
pub(super) fn claims<'a>(
    node: &NodeRef<'a, '_>,
    visit: &mut dyn FnMut(Use, PhysRange) -> Result<(), BootError<'a>>,
) -> Result<(), BootError<'a>> {
    if !node.on_visible_bus() {
        return Ok(());
    }
    for reg in node.reg()? {
        if let Reg::Visible(range) = reg? {
            visit(Use::Registers, range)?;
        }
    }
    // Three cells: the first one is the address space, as for PCI.
    let usage = if node.u32("#address-cells")? == Some(3) { Use::Bridge } else { Use::Bus };
    node.windows(&mut |_, range| range.map_or(Ok(()), |range| visit(usage, range)))
}
