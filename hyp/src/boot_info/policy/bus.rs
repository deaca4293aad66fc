//! Buses: nodes that only group others. Many have a `reg`, which usually covers all addresses on the bus. If such a
//! node were handled as a device, it would be withheld together with all nodes below it.

use super::draft::Draft;
use super::nodes::{Use, claims, is_bus};
use crate::boot_info::error::BootError;
use crate::boot_info::named::Name;
use crate::boot_info::range::PhysRange;
use crate::boot_info::tree::NodeRef;

impl Draft {
    /// Withholds the registers of a bus. A `reg` inside the `ranges` of the bus is not a register block: each child has
    /// its own `reg` there, and the other addresses are not mapped.
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
