//! The message about an overlap of two parts of the machine, with the nodes that describe them.

use super::error::BootError;
use super::memory::is_memory;
use super::named::{Name, Named, Part};
use super::platform::Platform;
use super::range::PhysRange;
use super::tree::{NodeId, Path, Reg};

/// The error for an overlap of `first` and `second`.
pub(super) fn overlap<'a>(platform: &Platform<'a>, first: &Part<Name>, second: &Part<Name>) -> BootError<'a> {
    BootError::PlanOverlap {
        first: named(platform, first, &second.range),
        first_range: first.range,
        second: named(platform, second, &first.range),
        second_range: second.range,
    }
}

pub(super) fn named<'a>(platform: &Platform<'a>, part: &Part<Name>, other: &PhysRange) -> Named<'a> {
    Named { name: part.name, path: path(platform, part, other) }
}

/// The node that describes it; for memory, the node that contains `other`.
fn path<'a>(platform: &Platform<'a>, part: &Part<Name>, other: &PhysRange) -> Option<Path<'a>> {
    let mut found: Option<NodeId> = None;
    match part.name {
        Name::Node(node) => found = Some(node),
        Name::Memory => {
            // Cannot fail, since the tree was already read; the name is only for a message.
            let _ = platform.tree.walk(&mut |node| {
                if found.is_none() && is_memory(node) && node.enabled() {
                    for reg in node.reg()? {
                        if let Reg::Visible(range) = reg?
                            && range.overlaps(other)
                        {
                            found = Some(node.id);
                        }
                    }
                }
                Ok(())
            });
        }
        Name::Image
        | Name::Pool
        | Name::Dtb
        | Name::HostDtb
        | Name::Kernel
        | Name::Ramdisk
        | Name::Reservation
        | Name::Doorbell => {}
    }
    found.map(|node| platform.path(node))
}
