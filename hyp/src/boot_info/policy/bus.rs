//! Buses: nodes that only group others. Many have a `reg`, most often the addresses of all that is on the bus; judged as a
//! device, such a node would be withheld with everything below it.

use super::bindings::{self, known_bad};
use super::draft::{Draft, Use, claims, is_master};
use crate::boot_info::error::BootError;
use crate::boot_info::plan::Name;
use crate::boot_info::range::PhysRange;
use crate::boot_info::tree::NodeRef;

/// Whether `node` is a bus about which nothing is decided: what is on it is judged node by node, and the host gets none
/// of its own registers.
pub(super) fn is_bus(node: &NodeRef<'_, '_>) -> bool {
    node.enabled() && bindings::bus(node) && !is_master(node) && known_bad(node).is_none()
}

impl Draft {
    /// Withholds the registers of a bus. A `reg` where the bus shows addresses of its children is no register block:
    /// there each child has its own, and what no child has is not mapped.
    pub(super) fn withhold_bus<'a>(&mut self, node: &NodeRef<'a, '_>) -> Result<(), BootError<'a>> {
        if !is_bus(node) || node.value("ranges").is_some_and(<[u8]>::is_empty) {
            return Ok(());
        }
        let shown = |range: &PhysRange| {
            let mut shown = false;
            claims(node, &mut |usage, window| {
                shown |= usage != Use::Registers && window.overlaps(range);
                Ok(())
            })?;
            Ok(shown)
        };
        claims(node, &mut |usage, range| match usage {
            Use::Registers if !shown(&range)? => self.add_withheld(Name::Node(node.id), usage, &range),
            Use::Registers | Use::Bridge | Use::Bus => Ok(()),
        })
    }
}
