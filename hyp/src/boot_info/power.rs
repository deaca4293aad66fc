//! Nodes that control an SMMU's power, clock or reset: after reset an SMMU bypasses everything until EL2 reprograms
//! it. These nodes are withheld, even if another rule would give them.

use super::cells::Cells;
use super::error::BootError;
use super::smmu::is_smmu;
use super::tree::{NodeId, NodeRef, Tree};
use arrayvec::ArrayVec;

/// Maximum number of such nodes, including their parents.
pub const PROVIDERS_MAX: usize = 64;

/// Which node can switch a PCI host off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// None, according to the tree.
    #[default]
    Nobody,
    /// The node of a power domain, clock, reset, supply or pin.
    OtherNode,
}

/// Names or suffixes of properties with provider references, and the provider's property with the number of cells that
/// follow a reference; `None` if no cells follow.
const KINDS: [(&str, Option<&str>); 8] = [
    ("power-domains", Some("#power-domain-cells")),
    ("clocks", Some("#clock-cells")),
    ("resets", Some("#reset-cells")),
    ("gpios", Some("#gpio-cells")),
    ("gpio", Some("#gpio-cells")),
    ("-gpios", Some("#gpio-cells")),
    ("-gpio", Some("#gpio-cells")),
    ("-supply", None),
];

/// The nodes that SMMUs depend on, directly or through another such node, and the devices that contain them.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    nodes: ArrayVec<NodeId, PROVIDERS_MAX>,
    phandles: ArrayVec<u32, PROVIDERS_MAX>,
}

impl Providers {
    /// Finds these nodes.
    ///
    /// # Errors
    /// [`BootError::Property`] for a reference that cannot be resolved;
    /// [`BootError::TooMany`].
    pub fn find<'a>(tree: &Tree<'a>) -> Result<Self, BootError<'a>> {
        let mut found = Self::default();
        tree.walk(&mut |node| if is_smmu(node) && node.enabled() { found.follow_all(node) } else { Ok(()) })?;
        // Each iteration adds a phandle, or is the last.
        loop {
            let known = found.phandles.len();
            let mut nodes = found.clone();
            tree.walk(&mut |node| {
                let named = node.u32("phandle")?.is_some_and(|phandle| found.phandles.contains(&phandle));
                if named && !nodes.nodes.contains(&node.id) {
                    nodes.add_with_parents(node)?;
                    nodes.follow_all(node)?;
                }
                Ok(())
            })?;
            found = nodes;
            if found.phandles.len() == known {
                return Ok(found);
            }
        }
    }

    /// Whether an SMMU depends on `node`.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// A controller can be a child node of the device that has its registers. The nodes above that device are buses.
    fn add_with_parents<'a>(&mut self, node: &NodeRef<'a, '_>) -> Result<(), BootError<'a>> {
        let mut next = Some(node);
        while let Some(part) =
            next.filter(|part| part.parent().is_some() && !(part.has("ranges") && part.id != node.id))
        {
            if !self.nodes.contains(&part.id) {
                self.nodes.try_push(part.id).map_err(|_| full())?;
            }
            next = part.parent();
        }
        Ok(())
    }

    /// Records the references of `node` and of the buses above it.
    fn follow_all<'a>(&mut self, node: &NodeRef<'a, '_>) -> Result<(), BootError<'a>> {
        let mut next = Some(node);
        while let Some(part) = next {
            part.properties(&mut |name, value| {
                for (kind, cells) in KINDS {
                    if name == kind || kind.starts_with('-') && name.ends_with(kind) {
                        self.follow(part, kind, value, cells)?;
                    }
                }
                Ok(())
            })?;
            next = part.parent();
        }
        Ok(())
    }

    fn follow<'a>(
        &mut self,
        node: &NodeRef<'a, '_>,
        kind: &'static str,
        value: &[u8],
        count: Option<&'static str>,
    ) -> Result<(), BootError<'a>> {
        let bad = || {
            node.bad(
                kind,
                "of an SMMU, or of a node that it depends on, has a reference to no node, or one with missing cells",
            )
        };
        let mut cells = Cells::new(value).ok_or_else(bad)?;
        while let Some(phandle) = cells.u32() {
            // An empty entry.
            if phandle == 0 {
                continue;
            }
            if !self.phandles.contains(&phandle) {
                self.phandles.try_push(phandle).map_err(|_| full())?;
            }
            let Some(count) = count else { continue };
            for _ in 0..cells_of(node, phandle, count)?.ok_or_else(bad)? {
                cells.u32().ok_or_else(bad)?;
            }
        }
        Ok(())
    }
}

/// Whether `node` or a bus above it depends on another node in this way.
///
/// # Errors
/// [`BootError::Property`] if its properties cannot be read.
pub(super) fn switch<'a>(node: &NodeRef<'a, '_>) -> Result<Switch, BootError<'a>> {
    let mut switch = Switch::Nobody;
    let mut next = Some(node);
    while let Some(part) = next {
        part.properties(&mut |name, _| {
            if KINDS.iter().any(|(kind, _)| name == *kind || kind.starts_with('-') && name.ends_with(kind)) {
                switch = Switch::OtherNode;
            }
            Ok(())
        })?;
        next = part.parent();
    }
    Ok(switch)
}

fn full<'a>() -> BootError<'a> {
    BootError::TooMany { what: "nodes that SMMUs depend on", limit: PROVIDERS_MAX }
}

/// Number of cells after `phandle`, from the provider's node.
fn cells_of<'a>(node: &NodeRef<'a, '_>, phandle: u32, count: &'static str) -> Result<Option<u32>, BootError<'a>> {
    let mut found = None;
    node.tree().walk(&mut |other| {
        if other.u32("phandle")? == Some(phandle) {
            found = other.u32(count)?;
        }
        Ok(())
    })?;
    Ok(found)
}
