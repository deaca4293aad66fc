//! The machine's memory and firmware's reservations.

use io_pgtable::Pa;

use super::error::BootError;
use super::range::{PAGE_SIZE, PhysRange, RangeSet};
use super::tree::{NodeRef, Reg, Tree};

/// Maximum number of separate ranges of memory.
pub const RAM_MAX: usize = 16;
/// Maximum number of separate reserved ranges.
pub const RESERVED_MAX: usize = 32;

/// Memory as the device tree describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// All memory, in whole pages.
    pub ram: RangeSet<RAM_MAX>,
    /// Reserved by `/memreserve/` or `/reserved-memory`, or a framebuffer: EL2 does not use it. The host gets it,
    /// unless it is in `no_map`.
    pub reserved: RangeSet<RESERVED_MAX>,
    /// Reserved with `no-map` for firmware. The host does not get it.
    pub no_map: RangeSet<RESERVED_MAX>,
}

impl Memory {
    /// Reads the memory nodes, `/reserved-memory` and the reservation block.
    ///
    /// # Errors
    /// [`BootError::Missing`] without memory; [`BootError::Property`] for a malformed range or two that overlap;
    /// [`BootError::TooMany`] for more ranges than there is room for.
    pub fn find<'a>(tree: &Tree<'a>) -> Result<Self, BootError<'a>> {
        let mut memory = Self::default();
        tree.walk(&mut |node| {
            if is_memory(node) && node.enabled() {
                memory.add_ram(node)?;
            } else if is_reservation(node) && is_active(node)? {
                memory.add_reserved(node)?;
            } else if is_framebuffer(node) {
                // The display already uses it; the host gets it like other memory.
                for reg in node.reg()? {
                    if let Reg::Visible(range) = reg? {
                        memory.reserve(&range)?;
                    }
                }
            }
            Ok(())
        })?;
        for entry in tree.fdt().memory_reservations() {
            let range = PhysRange::new(Pa(entry.address()), entry.size()).filter(|range| !range.is_empty());
            let range = range.ok_or(BootError::Missing {
                what: "valid /memreserve/ entry",
                remedy: "one of them is empty, or ends above the 52-bit address space; correct the device tree",
            })?;
            memory.reserve(&range)?;
        }
        // Page 0 is not used: 0 is the end of lists, and the null pointer.
        if let Some(zero) = PhysRange::new(Pa(0), PAGE_SIZE) {
            memory.ram.remove(&zero).map_err(|_| BootError::TooMany { what: "ranges of memory", limit: RAM_MAX })?;
        }
        if memory.ram.total() == 0 {
            return Err(BootError::Missing {
                what: "memory in the device tree",
                remedy: "the boot loader must fill in a node with device_type = \"memory\"",
            });
        }
        Ok(memory)
    }

    /// The first address after all memory.
    #[must_use]
    pub fn end(&self) -> Pa {
        self.ram.iter().last().map_or(Pa(0), PhysRange::end)
    }

    fn add_ram<'a>(&mut self, node: &NodeRef<'a, '_>) -> Result<(), BootError<'a>> {
        if node.has("linux,usable-memory") {
            // Linux uses the property instead of `reg`. The other memory belongs to a crashed kernel, whose devices may
            // still do DMA.
            return Err(node.bad("linux,usable-memory", "omits memory with another owner"));
        }
        for reg in node.reg()? {
            let Reg::Visible(range) = reg? else {
                return Err(node.bad("reg", "is not in the CPU's address space"));
            };
            if self.ram.overlaps(&range) {
                return Err(node.bad("reg", "overlaps memory that was listed before"));
            }
            if let Some(pages) = range.whole_pages() {
                self.ram.insert(pages).map_err(|_| BootError::TooMany { what: "ranges of memory", limit: RAM_MAX })?;
            }
        }
        Ok(())
    }

    /// A reservation with `reg` must be translatable. One with only a `size` is placed by Linux, in host memory.
    fn add_reserved<'a>(&mut self, node: &NodeRef<'a, '_>) -> Result<(), BootError<'a>> {
        if !node.has("reg") && node.has("size") {
            return Ok(());
        }
        let mut whole = false;
        for reg in node.reg()? {
            let Reg::Visible(range) = reg? else {
                return Err(node.bad("reg", "is not in the CPU's address space"));
            };
            whole = true;
            self.reserve(&range)?;
            if node.has("no-map") {
                self.no_map.insert(range.page_rounded()).map_err(|_| too_many_reserved())?;
            }
        }
        if whole { Ok(()) } else { Err(node.bad("reg", "has only empty ranges")) }
    }

    fn reserve<'a>(&mut self, range: &PhysRange) -> Result<(), BootError<'a>> {
        self.reserved.insert(range.page_rounded()).map_err(|_| too_many_reserved())
    }
}

fn too_many_reserved<'a>() -> BootError<'a> {
    BootError::TooMany { what: "reserved ranges of memory", limit: RESERVED_MAX }
}

/// Whether `node` reserves memory.
pub(super) fn is_reservation(node: &NodeRef<'_, '_>) -> bool {
    node.parent().is_some_and(|p| p.is_top("reserved-memory"))
}

/// Whether `node` describes a framebuffer.
pub(super) fn is_framebuffer(node: &NodeRef<'_, '_>) -> bool {
    node.parent().is_some_and(|p| p.is_top("chosen"))
        && node.compatible() == Some("simple-framebuffer")
        && node.on_visible_bus()
}

/// Whether `node` reserves memory for firmware (`no-map`): neither the host nor EL2 gets it.
pub(super) fn is_no_map<'a>(node: &NodeRef<'a, '_>) -> Result<bool, BootError<'a>> {
    Ok(is_reservation(node) && node.has("no-map") && node.has("reg") && is_active(node)?)
}

/// Whether a reservation is active. As in Linux, only its own `status` counts, not that of its parents.
fn is_active<'a>(node: &NodeRef<'a, '_>) -> Result<bool, BootError<'a>> {
    match node.string("status")? {
        None | Some("okay" | "ok") => Ok(true),
        Some("disabled" | "reserved" | "fail") => Ok(false),
        Some(status) if status.starts_with("fail-") => Ok(false),
        Some(_) => Err(node.bad("status", "is not a status that the specification defines")),
    }
}

/// Whether `node` describes memory.
pub(super) fn is_memory(node: &NodeRef<'_, '_>) -> bool {
    node.depth == 1 && node.value("device_type") == Some(b"memory\0")
}
