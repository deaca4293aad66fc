//! How EL2 was started: by a boot loader with a kernel for the host, or from UEFI firmware that continues as the host.

use super::error::BootError;
use super::memory::Memory;
use super::modules::{Modules, is_module};
use super::range::PhysRange;
use super::tree::{NodeRef, Tree};
use hand_over::OWN_MEMORY;
use io_pgtable::Pa;

/// How EL2 was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// By a boot loader: the host starts with a kernel.
    BootLoader(Modules<'a>),
    /// From UEFI firmware, which reserved this memory for EL2 and continues as the host.
    Uefi(PhysRange),
}

impl<'a> Entry<'a> {
    /// Reads `/chosen`: the memory that firmware reserved for EL2, or the host's modules.
    ///
    /// # Errors
    /// Those of [`Modules::find`]; [`BootError::Property`] for memory that is not one range of whole pages;
    /// [`BootError::NotInRam`]; [`BootError::Unsupported`] if there is also a boot module.
    pub fn find(tree: &Tree<'a>, memory: &Memory) -> Result<Self, BootError<'a>> {
        let mut own = None;
        tree.walk(&mut |node| {
            if node.is_top("chosen") && node.has(OWN_MEMORY) {
                own = Some(read(node)?);
            }
            Ok(())
        })?;
        let Some(own) = own else { return Ok(Self::BootLoader(Modules::find(tree, memory)?)) };
        tree.walk(&mut |node| if is_module(node) { Err(beside(node)) } else { Ok(()) })?;
        if !memory.ram.contains(&own) || memory.reserved.overlaps(&own) {
            return Err(BootError::NotInRam {
                what: "EL2's memory, as firmware reserved it,",
                range: own,
                ram_end: memory.end(),
            });
        }
        Ok(Self::Uefi(own))
    }
}

fn read<'a>(node: &NodeRef<'a, '_>) -> Result<PhysRange, BootError<'a>> {
    let one = || node.bad(OWN_MEMORY, "must be one base and one size above zero, in whole pages, of two cells each");
    let mut cells = node.cells(OWN_MEMORY)?.ok_or_else(one)?;
    let base = cells.number(2).ok_or_else(one)?;
    let size = cells.number(2).filter(|&size| size > 0).ok_or_else(one)?;
    let range = PhysRange::new(Pa(base), size).filter(|_| cells.is_empty()).ok_or_else(one)?;
    if range == range.page_rounded() { Ok(range) } else { Err(one()) }
}

fn beside<'a>(node: &NodeRef<'a, '_>) -> BootError<'a> {
    BootError::Unsupported {
        path: node.path(),
        what: "a boot module although firmware continues as the host",
        remedy: "let the firmware load the host's kernel",
    }
}
