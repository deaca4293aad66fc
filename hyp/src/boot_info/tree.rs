//! Walking a validated device tree with what a node inherits from its ancestors: its place in the CPU's address space,
//! coherency, the interrupt parent, being disabled.

use core::fmt;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use io_pgtable::Pa;

use super::cells::{Cells, string, strings};
use super::error::BootError;
use super::range::PhysRange;

/// Largest blob accepted, in bytes: the arm64 boot protocol's limit.
pub const DTB_MAX: usize = 2 << 20;

/// Nesting accepted: walks recurse on EL2's boot stack.
const DEPTH_MAX: usize = 16;

const DTB_MAGIC: u32 = 0xd00d_feed;

/// The number of a node in document order, the root being 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(super) u16);

/// The size in bytes that a blob's first 8 bytes claim, so that the caller can make a slice of it.
///
/// # Errors
/// [`BootError::NotADtb`] for a wrong magic, [`BootError::DtbSize`] for a size that cannot be one.
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

/// The full path of a node; found again by a walk when it is displayed.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    tree: Tree<'a>,
    id: NodeId,
}

impl<'a> Tree<'a> {
    /// Checks the whole structure of `dtb`: header, reservations, every token, every name.
    ///
    /// # Errors
    /// [`BootError::Dtb`] with the offset of the first fault, [`BootError::DtbSize`] when it is too large.
    pub fn parse(dtb: &'a [u8]) -> Result<Self, BootError<'a>> {
        if dtb.len() > DTB_MAX {
            return Err(BootError::DtbSize {
                size: u32::try_from(dtb.len()).unwrap_or(u32::MAX),
            });
        }
        let tree = Self {
            fdt: Fdt::new(dtb).map_err(BootError::Dtb)?,
        };
        // One whole walk now: depth and number of nodes are settled before anyone relies on them.
        tree.walk(&mut |_| Ok(()))?;
        Ok(tree)
    }

    pub(super) fn fdt(&self) -> Fdt<'a> {
        self.fdt
    }

    /// The path of node `id`, for display.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Path<'a> {
        Path { tree: *self, id }
    }

    /// Calls `visit` with every node in document order, stopping at the first error.
    ///
    /// # Errors
    /// What `visit` returned.
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
            inherited: Inherited {
                coherent: false,
                interrupt_parent: None,
                enabled: true,
            },
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
        *next = next.checked_add(1).ok_or(BootError::TooMany {
            what: "device tree nodes",
            limit: 65535,
        })?;
        let child = NodeRef {
            tree: node.tree,
            node: child,
            id: NodeId(*next),
            parent: Some(&node),
            depth: node.depth.saturating_add(1),
            inherited: node.inherited,
        };
        if child.depth > DEPTH_MAX {
            return Err(BootError::TooMany {
                what: "levels of device tree nodes",
                limit: DEPTH_MAX,
            });
        }
        descend(child.inheriting()?, next, visit)?;
    }
    Ok(())
}

/// What [`NodeRef::properties`] calls with a name and a value.
type PropertyVisitor<'v, 'a> = dyn FnMut(&str, &'a [u8]) -> Result<(), BootError<'a>> + 'v;

#[derive(Clone, Copy)]
struct Inherited {
    coherent: bool,
    interrupt_parent: Option<u32>,
    enabled: bool,
}

/// A node during a walk, with its ancestors.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'a, 'p> {
    tree: Tree<'a>,
    node: FdtNode<'a>,
    pub(super) id: NodeId,
    parent: Option<&'p NodeRef<'a, 'p>>,
    pub(super) depth: usize,
    inherited: Inherited,
}

/// One entry of a `reg` property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    /// A range that a CPU can address.
    Visible(PhysRange),
    /// A number on some bus that is not memory mapped.
    OnBus(u64),
}

impl<'a, 'p> NodeRef<'a, 'p> {
    /// Takes what the node says itself over what its ancestors say, in one pass: this runs for every node of every walk.
    fn inheriting(mut self) -> Result<Self, BootError<'a>> {
        let (mut coherent, mut noncoherent, mut parent, mut status) = (false, false, None, None);
        self.properties(&mut |name, value| {
            match name {
                "dma-coherent" => coherent = true,
                "dma-noncoherent" => noncoherent = true,
                "interrupt-parent" => parent = parent.or(Some(value)),
                "status" => status = status.or(Some(value)),
                _ => {}
            }
            Ok(())
        })?;
        self.inherited.coherent = (self.inherited.coherent || coherent) && !noncoherent;
        if let Some(value) = parent {
            let cell = value
                .try_into()
                .map_err(|_| self.bad("interrupt-parent", "is not one 32-bit cell"))?;
            self.inherited.interrupt_parent = Some(u32::from_be_bytes(cell));
        }
        if let Some(value) = status {
            let okay = matches!(string(value), Some("okay" | "ok"));
            self.inherited.enabled = self.inherited.enabled && okay;
        }
        Ok(self)
    }

    pub(super) fn name(&self) -> &'a str {
        self.node.name()
    }

    /// The name without the unit address.
    pub(super) fn base_name(&self) -> &'a str {
        self.name().split('@').next().unwrap_or("")
    }

    pub(super) fn path(&self) -> Path<'a> {
        self.tree.path(self.id)
    }

    pub(super) fn parent(&self) -> Option<&'p NodeRef<'a, 'p>> {
        self.parent
    }

    /// Whether the node is a direct child of the root named `name`.
    pub(super) fn is_top(&self, name: &str) -> bool {
        self.depth == 1 && self.base_name() == name
    }

    /// Whether neither the node nor an ancestor is disabled.
    pub(super) fn enabled(&self) -> bool {
        self.inherited.enabled
    }

    pub(super) fn coherent(&self) -> bool {
        self.inherited.coherent
    }

    pub(super) fn interrupt_parent(&self) -> Option<u32> {
        self.inherited.interrupt_parent
    }

    pub(super) fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.node
            .properties()
            .find(|p| p.name() == name)?
            .value_as::<&'a [u8]>()
            .ok()
    }

    /// Calls `visit` with every property's name and value, in order, stopping at the first error.
    pub(super) fn properties(
        &self,
        visit: &mut PropertyVisitor<'_, 'a>,
    ) -> Result<(), BootError<'a>> {
        for property in self.node.properties() {
            let value = property.value_as::<&'a [u8]>().unwrap_or(&[]);
            visit(property.name(), value)?;
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// An error about property `name` of this node.
    pub(super) fn bad(&self, property: &'static str, problem: &'static str) -> BootError<'a> {
        BootError::Property {
            path: self.path(),
            property,
            problem,
        }
    }

    pub(super) fn u32(&self, name: &'static str) -> Result<Option<u32>, BootError<'a>> {
        match self.value(name) {
            None => Ok(None),
            Some(v) => match v.try_into() {
                Ok(cell) => Ok(Some(u32::from_be_bytes(cell))),
                Err(_) => Err(self.bad(name, "is not one 32-bit cell")),
            },
        }
    }

    pub(super) fn string(&self, name: &'static str) -> Result<Option<&'a str>, BootError<'a>> {
        match self.value(name) {
            None => Ok(None),
            Some(v) => string(v)
                .map(Some)
                .ok_or_else(|| self.bad(name, "is not one string")),
        }
    }

    pub(super) fn cells(&self, name: &'static str) -> Result<Option<Cells<'a>>, BootError<'a>> {
        match self.value(name) {
            None => Ok(None),
            Some(v) => Cells::new(v)
                .map(Some)
                .ok_or_else(|| self.bad(name, "is not a whole number of 32-bit cells")),
        }
    }

    /// The most specific `compatible` string.
    pub(super) fn compatible(&self) -> Option<&'a str> {
        strings(self.value("compatible")?).next()
    }

    /// Whether any `compatible` string is `wanted`.
    pub(super) fn is_compatible(&self, wanted: &str) -> bool {
        self.value("compatible")
            .is_some_and(|v| strings(v).any(|s| s == wanted))
    }

    /// `#address-cells` and `#size-cells` of this node's children.
    pub(super) fn child_cells(&self) -> Result<(u32, u32), BootError<'a>> {
        let address = self.u32("#address-cells")?.unwrap_or(2);
        let size = self.u32("#size-cells")?.unwrap_or(1);
        if address > 4 {
            return Err(self.bad("#address-cells", "is more than 4"));
        }
        if size > 4 {
            return Err(self.bad("#size-cells", "is more than 4"));
        }
        Ok((address, size))
    }

    /// Whether every bus above the node shows its addresses to the CPU.
    pub(super) fn on_visible_bus(&self) -> bool {
        let mut above = self.parent;
        while let Some(bus) = above {
            if bus.parent.is_some() && !bus.has("ranges") {
                return false;
            }
            above = bus.parent;
        }
        true
    }

    /// The entries of `reg`, translated through the parents' `ranges`; empty entries are left out.
    pub(super) fn reg(&self) -> Result<RegIter<'a, '_>, BootError<'a>> {
        let (address, size) = match self.parent {
            Some(parent) => parent.child_cells()?,
            None => (0, 0),
        };
        let empty = Cells::new(&[]).ok_or_else(|| self.bad("reg", "cannot be read"))?;
        let cells = if address == 0 {
            None
        } else {
            self.cells("reg")?
        };
        Ok(RegIter {
            node: *self,
            cells: cells.unwrap_or(empty),
            address,
            size,
        })
    }

    /// Where the bus that this node is shows `size` bytes at `address` to the CPU; `None` when it does not.
    pub(super) fn translate(&self, address: u64, size: u64) -> Result<Option<u64>, BootError<'a>> {
        let Some(parent) = self.parent else {
            return Ok(Some(address));
        };
        let Some(mut ranges) = self.cells("ranges")? else {
            return Ok(None);
        };
        if ranges.is_empty() {
            return parent.translate(address, size);
        }
        let (child_address, child_size) = self.child_cells()?;
        let (parent_address, _) = parent.child_cells()?;
        if child_address > 2 {
            return Ok(None);
        }
        let short = || {
            self.bad(
                "ranges",
                "is cut short or has a number of more than 64 bits",
            )
        };
        while !ranges.is_empty() {
            let from = ranges.number(child_address).ok_or_else(short)?;
            let to = ranges.number(parent_address).ok_or_else(short)?;
            let length = ranges.number(child_size).ok_or_else(short)?;
            if child_address == 0 && child_size == 0 && parent_address == 0 {
                return Err(self.bad("ranges", "has entries without cells"));
            }
            let Some(offset) = address.checked_sub(from) else {
                continue;
            };
            if offset.checked_add(size).is_some_and(|end| end <= length) {
                let moved = to
                    .checked_add(offset)
                    .ok_or_else(|| self.bad("ranges", "wraps the address space"))?;
                return parent.translate(moved, size);
            }
        }
        Ok(None)
    }
}

/// The entries of one `reg` property.
pub(super) struct RegIter<'a, 'p> {
    node: NodeRef<'a, 'p>,
    cells: Cells<'a>,
    address: u32,
    size: u32,
}

impl<'a> RegIter<'a, '_> {
    fn entry(&mut self) -> Result<Reg, BootError<'a>> {
        let node = self.node;
        let short = || node.bad("reg", "is cut short or has a number of more than 64 bits");
        if self.address > 2 {
            // PCI and the like: a child's numbers say nothing about the CPU's address space.
            let upper = self.address.saturating_sub(1);
            let first = self.cells.u32().ok_or_else(short)?;
            for _ in 0..upper.saturating_add(self.size) {
                self.cells.u32().ok_or_else(short)?;
            }
            return Ok(Reg::OnBus(u64::from(first)));
        }
        let address = self.cells.number(self.address).ok_or_else(short)?;
        let size = self.cells.number(self.size).ok_or_else(short)?;
        let Some(parent) = node.parent else {
            return Ok(Reg::OnBus(address));
        };
        if self.size == 0 {
            return Ok(Reg::OnBus(address));
        }
        match parent.translate(address, size)? {
            None => Ok(Reg::OnBus(address)),
            Some(base) => PhysRange::new(Pa(base), size)
                .map(Reg::Visible)
                .ok_or_else(|| node.bad("reg", "leaves the 52-bit address space")),
        }
    }
}

impl<'a> Iterator for RegIter<'a, '_> {
    type Item = Result<Reg, BootError<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.cells.is_empty() {
            match self.entry() {
                Ok(Reg::Visible(range)) if range.is_empty() => {}
                Err(error) => {
                    // After a fault the rest has no meaning.
                    self.cells = Cells::new(&[])?;
                    return Some(Err(error));
                }
                entry => return Some(entry),
            }
        }
        None
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = Names {
            name: "",
            parent: None,
        };
        match locate(self.tree.fdt.root(), &root, &mut 0, self.id, f) {
            Some(result) => result,
            None => write!(f, "node {}", self.id.0),
        }
    }
}

/// The names above and at a node.
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

/// Writes the path of node `id` once it is found at or below `node`. `Tree::parse` has bounded the depth.
fn locate(
    node: FdtNode<'_>,
    names: &Names<'_>,
    next: &mut u16,
    id: NodeId,
    f: &mut dyn fmt::Write,
) -> Option<fmt::Result> {
    if *next == id.0 {
        return Some(if names.parent.is_none() {
            f.write_char('/')
        } else {
            names.write(f)
        });
    }
    for child in node.children() {
        *next = next.checked_add(1)?;
        let below = Names {
            name: child.name(),
            parent: Some(names),
        };
        let found = locate(child, &below, next, id, f);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Whether `node` is the one that `path` names.
pub(super) fn is_at(node: &NodeRef<'_, '_>, path: &str) -> bool {
    match node.parent {
        None => path.is_empty() || path == "/",
        Some(parent) => path
            .strip_suffix(node.name())
            .and_then(|rest| rest.strip_suffix('/'))
            .is_some_and(|rest| {
                if parent.parent.is_none() {
                    rest.is_empty()
                } else {
                    is_at(parent, rest)
                }
            }),
    }
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
