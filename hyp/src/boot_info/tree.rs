//! Walks a validated device tree with inherited state: address translation, coherency, interrupt parent, disabled.

mod node;
mod phandles;
pub mod structure;
mod windows;

use dtoolkit::Node;
use dtoolkit::fdt::Fdt;

use super::error::BootError;
pub use super::path::{NodeId, Path};
use node::Inherited;
pub(super) use node::{NodeRef, Reg, is_at};

/// Maximum size of a blob in bytes: the arm64 boot protocol's limit.
pub const DTB_MAX: usize = 2 << 20;

/// Maximum depth: walks recurse on EL2's boot stack.
const DEPTH_MAX: usize = 16;

const DTB_MAGIC: u32 = 0xd00d_feed;

/// The total size from a blob's first 8 bytes, so that the caller can make a slice.
///
/// # Errors
/// [`BootError::NotADtb`] for a wrong magic, [`BootError::DtbSize`] for an invalid size.
pub fn dtb_size(start: &[u8; 8]) -> Result<usize, BootError<'static>> {
    let [a, b, c, d, e, f, g, h] = *start;
    let magic = u32::from_be_bytes([a, b, c, d]);
    if magic != DTB_MAGIC {
        return Err(BootError::NotADtb { magic });
    }
    let claimed = u32::from_be_bytes([e, f, g, h]);
    match usize::try_from(claimed) {
        Ok(size) if (40..=DTB_MAX).contains(&size) => Ok(size),
        _ => Err(BootError::DtbSize { size: claimed }),
    }
}

/// A structurally valid device tree.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    fdt: Fdt<'a>,
}

impl<'a> Tree<'a> {
    /// Checks the whole structure of `dtb`: header, reservations, every token, every name.
    ///
    /// # Errors
    /// [`BootError::Dtb`] with the offset of the first fault, [`BootError::DtbSize`] when it is too large,
    /// [`BootError::TooMany`] for nodes or levels.
    pub fn parse(dtb: &'a [u8]) -> Result<Self, BootError<'a>> {
        let tree = Self { fdt: structure::check(dtb)? };
        // Walk the whole tree now, to check depth and number of nodes.
        tree.walk(&mut |_| Ok(()))?;
        Ok(tree)
    }

    pub(super) fn fdt(&self) -> Fdt<'a> {
        self.fdt
    }

    /// The path of node `id`, for display.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Path<'a> {
        Path { fdt: self.fdt, id }
    }

    /// Calls `visit` with every node in document order, stopping at the first error.
    ///
    /// # Errors
    /// The error of `visit`.
    pub(super) fn walk(
        &self,
        visit: &mut dyn FnMut(&NodeRef<'a, '_>) -> Result<(), BootError<'a>>,
    ) -> Result<(), BootError<'a>> {
        let root = NodeRef {
            tree: *self,
            node: self.fdt.root(),
            id: NodeId(0),
            parent: None,
            depth: 0,
            inherited: Inherited { coherent: false, interrupt_parent: None, enabled: true },
        };
        let mut next = 0;
        descend(root.inheriting()?, &mut next, visit)
    }
}

fn descend<'a>(
    node: NodeRef<'a, '_>,
    next: &mut u16,
    visit: &mut dyn FnMut(&NodeRef<'a, '_>) -> Result<(), BootError<'a>>,
) -> Result<(), BootError<'a>> {
    visit(&node)?;
    for child in node.node.children() {
        *next = next.checked_add(1).ok_or(BootError::TooMany { what: "device tree nodes", limit: 65535 })?;
        let child = NodeRef {
            tree: node.tree,
            node: child,
            id: NodeId(*next),
            parent: Some(&node),
            depth: node.depth.saturating_add(1),
            inherited: node.inherited,
        };
        if child.depth > DEPTH_MAX {
            return Err(BootError::TooMany { what: "levels of device tree nodes", limit: DEPTH_MAX });
        }
        descend(child.inheriting()?, next, visit)?;
    }
    Ok(())
}
