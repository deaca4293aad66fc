//! Paths of nodes, computed on display from the node number.

use core::fmt;

use dtoolkit::Node;
use dtoolkit::fdt::{Fdt, FdtNode};

/// The number of a node in document order, the root being 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(in crate::boot_info) u16);

/// The full path of a node; found again by a walk when it is displayed.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    pub(super) fdt: Fdt<'a>,
    pub(super) id: NodeId,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = Names { name: "", parent: None };
        match locate(self.fdt.root(), &root, &mut 0, self.id, f) {
            Some(result) => result,
            None => write!(f, "node {}", self.id.0),
        }
    }
}

/// The names of a node and of the nodes above it.
struct Names<'n> {
    name: &'n str,
    parent: Option<&'n Names<'n>>,
}

impl Names<'_> {
    fn write(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self.parent {
            None => Ok(()),
            Some(parent) => {
                parent.write(f)?;
                write!(f, "/{}", self.name)
            }
        }
    }
}

/// Writes the path of node `id` if it is `node` or below it. `Tree::parse` has bounded the depth.
fn locate(
    node: FdtNode<'_>,
    names: &Names<'_>,
    next: &mut u16,
    id: NodeId,
    f: &mut dyn fmt::Write,
) -> Option<fmt::Result> {
    if *next == id.0 {
        return Some(if names.parent.is_none() { f.write_char('/') } else { names.write(f) });
    }
    for child in node.children() {
        *next = next.checked_add(1)?;
        let below = Names { name: child.name(), parent: Some(names) };
        let found = locate(child, &below, next, id, f);
        if found.is_some() {
            return found;
        }
    }
    None
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Path<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
