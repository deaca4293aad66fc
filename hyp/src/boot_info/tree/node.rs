//! A node during a walk: properties, inherited state, and registers as CPU addresses.

use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};
use io_pgtable::Pa;

use super::{NodeId, Path, Tree};
use crate::boot_info::cells::{Cells, string, strings};
use crate::boot_info::error::BootError;
use crate::boot_info::range::PhysRange;

/// The function that [`NodeRef::properties`] calls with a name and a value.
type PropertyVisitor<'v, 'a> = dyn FnMut(&str, &'a [u8]) -> Result<(), BootError<'a>> + 'v;

#[derive(Clone, Copy)]
pub(super) struct Inherited {
    pub(super) coherent: bool,
    pub(super) interrupt_parent: Option<u32>,
    pub(super) enabled: bool,
}

/// A node during a walk, with its ancestors.
#[derive(Clone, Copy)]
pub(in crate::boot_info) struct NodeRef<'a, 'p> {
    pub(super) tree: Tree<'a>,
    pub(super) node: FdtNode<'a>,
    pub(in crate::boot_info) id: NodeId,
    pub(super) parent: Option<&'p NodeRef<'a, 'p>>,
    pub(in crate::boot_info) depth: usize,
    pub(super) inherited: Inherited,
}

/// One entry of a `reg` property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot_info) enum Reg {
    /// A range that a CPU can address.
    Visible(PhysRange),
    /// An address on a bus that is not memory mapped.
    OnBus(u64),
}

impl<'a, 'p> NodeRef<'a, 'p> {
    /// The node's own properties override inherited ones; one pass, since it runs for every node of every walk.
    pub(super) fn inheriting(mut self) -> Result<Self, BootError<'a>> {
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
            let cell = value.try_into().map_err(|_| self.bad("interrupt-parent", "is not one 32-bit cell"))?;
            self.inherited.interrupt_parent = Some(u32::from_be_bytes(cell));
        }
        if let Some(value) = status {
            let okay = matches!(string(value), Some("okay" | "ok"));
            self.inherited.enabled = self.inherited.enabled && okay;
        }
        Ok(self)
    }

    pub(in crate::boot_info) fn name(&self) -> &'a str {
        self.node.name()
    }

    /// The name without the unit address.
    pub(in crate::boot_info) fn base_name(&self) -> &'a str {
        self.name().split('@').next().unwrap_or("")
    }

    pub(in crate::boot_info) fn tree(&self) -> Tree<'a> {
        self.tree
    }

    pub(in crate::boot_info) fn path(&self) -> Path<'a> {
        self.tree.path(self.id)
    }

    pub(in crate::boot_info) fn parent(&self) -> Option<&'p NodeRef<'a, 'p>> {
        self.parent
    }

    /// Whether the node is a direct child of the root named `name`.
    pub(in crate::boot_info) fn is_top(&self, name: &str) -> bool {
        self.depth == 1 && self.base_name() == name
    }

    /// Whether neither the node nor an ancestor is disabled.
    pub(in crate::boot_info) fn enabled(&self) -> bool {
        self.inherited.enabled
    }

    pub(in crate::boot_info) fn coherent(&self) -> bool {
        self.inherited.coherent
    }

    pub(in crate::boot_info) fn interrupt_parent(&self) -> Option<u32> {
        self.inherited.interrupt_parent
    }

    pub(in crate::boot_info) fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.node.properties().find(|p| p.name() == name)?.value_as::<&'a [u8]>().ok()
    }

    /// Calls `visit` with every property's name and value, in order, stopping at the first error.
    pub(in crate::boot_info) fn properties(&self, visit: &mut PropertyVisitor<'_, 'a>) -> Result<(), BootError<'a>> {
        for property in self.node.properties() {
            let value = property.value_as::<&'a [u8]>().unwrap_or(&[]);
            visit(property.name(), value)?;
        }
        Ok(())
    }

    pub(in crate::boot_info) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// An error about property `name` of this node.
    pub(in crate::boot_info) fn bad(&self, property: &'static str, problem: &'static str) -> BootError<'a> {
        BootError::Property { path: self.path(), property, problem }
    }

    pub(in crate::boot_info) fn u32(&self, name: &'static str) -> Result<Option<u32>, BootError<'a>> {
        match self.value(name) {
            None => Ok(None),
            Some(v) => match v.try_into() {
                Ok(cell) => Ok(Some(u32::from_be_bytes(cell))),
                Err(_) => Err(self.bad(name, "is not one 32-bit cell")),
            },
        }
    }

    pub(in crate::boot_info) fn string(&self, name: &'static str) -> Result<Option<&'a str>, BootError<'a>> {
        match self.value(name) {
            None => Ok(None),
            Some(v) => string(v).map(Some).ok_or_else(|| self.bad(name, "is not one string")),
        }
    }

    pub(in crate::boot_info) fn cells(&self, name: &'static str) -> Result<Option<Cells<'a>>, BootError<'a>> {
        match self.value(name) {
            None => Ok(None),
            Some(v) => Cells::new(v).map(Some).ok_or_else(|| self.bad(name, "is not a whole number of 32-bit cells")),
        }
    }

    /// The most specific `compatible` string.
    pub(in crate::boot_info) fn compatible(&self) -> Option<&'a str> {
        strings(self.value("compatible")?).next()
    }

    /// Whether any `compatible` string is `wanted`.
    pub(in crate::boot_info) fn is_compatible(&self, wanted: &str) -> bool {
        self.value("compatible").is_some_and(|v| strings(v).any(|s| s == wanted))
    }

    /// `#address-cells` and `#size-cells` of this node's children. No default is used: in the specification it is 2 and
    /// 1, but Linux uses the counts of the nearest ancestor that has them, so the two would decode different
    /// addresses.
    pub(in crate::boot_info) fn child_cells(&self) -> Result<(u32, u32), BootError<'a>> {
        let count = |name| self.u32(name)?.ok_or_else(|| self.bad(name, "is missing"));
        let (address, size) = (count("#address-cells")?, count("#size-cells")?);
        if address > 4 {
            return Err(self.bad("#address-cells", "is more than 4"));
        }
        if size > 4 {
            return Err(self.bad("#size-cells", "is more than 4"));
        }
        Ok((address, size))
    }

    /// Whether every bus above the node has `ranges`.
    pub(in crate::boot_info) fn on_visible_bus(&self) -> bool {
        let mut above = self.parent;
        while let Some(bus) = above {
            if bus.parent.is_some() && !bus.has("ranges") {
                return false;
            }
            above = bus.parent;
        }
        true
    }

    /// The entries of `reg`, translated through the parents' `ranges`; empty entries are omitted.
    pub(in crate::boot_info) fn reg(&self) -> Result<RegIter<'a, '_>, BootError<'a>> {
        let (cells, (address, size)) = match (self.cells("reg")?, self.parent) {
            (Some(cells), Some(parent)) => (Some(cells), parent.child_cells()?),
            (Some(_) | None, _) => (None, (0, 0)),
        };
        let empty = Cells::new(&[]).ok_or_else(|| self.bad("reg", "cannot be read"))?;
        Ok(RegIter { node: *self, cells: cells.filter(|_| address > 0).unwrap_or(empty), address, size })
    }

    /// CPU address of `size` bytes at `address` on the bus of this node; `None` if `ranges` does not map them. An
    /// error if it maps only a part: Linux checks the first byte only.
    pub(in crate::boot_info) fn translate(&self, address: u64, size: u64) -> Result<Option<u64>, BootError<'a>> {
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
        let short = || self.bad("ranges", "is cut short or has a number of more than 64 bits");
        let mut partly = false;
        while !ranges.is_empty() {
            let from = ranges.number(child_address).ok_or_else(short)?;
            let to = ranges.number(parent_address).ok_or_else(short)?;
            let length = ranges.number(child_size).ok_or_else(short)?;
            if child_address == 0 && child_size == 0 && parent_address == 0 {
                return Err(self.bad("ranges", "has entries without cells"));
            }
            partly |= address < from.saturating_add(length) && from < address.saturating_add(size);
            let Some(offset) = address.checked_sub(from) else {
                continue;
            };
            if offset.checked_add(size).is_some_and(|end| end <= length) {
                let moved = to.checked_add(offset).ok_or_else(|| self.bad("ranges", "wraps the address space"))?;
                return parent.translate(moved, size);
            }
        }
        if partly { Err(self.bad("ranges", "maps only a part of a register block")) } else { Ok(None) }
    }
}

/// The entries of one `reg` property.
pub(in crate::boot_info) struct RegIter<'a, 'p> {
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
            // On PCI and similar buses a child's `reg` is not a CPU address.
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
                    // After an error the remaining entries are not parsed.
                    self.cells = Cells::new(&[])?;
                    return Some(Err(error));
                }
                entry => return Some(entry),
            }
        }
        None
    }
}

/// Whether `node` has the path `path`.
pub(in crate::boot_info) fn is_at(node: &NodeRef<'_, '_>, path: &str) -> bool {
    match node.parent {
        None => path.is_empty() || path == "/",
        Some(parent) => path
            .strip_suffix(node.name())
            .and_then(|rest| rest.strip_suffix('/'))
            .is_some_and(|rest| if parent.parent.is_none() { rest.is_empty() } else { is_at(parent, rest) }),
    }
}
