//! The host's kernel and ramdisk, as the boot loader left them in memory: nodes `multiboot,module` under `/chosen`, the
//! binding that Xen uses for its first domain and that QEMU's `guest-loader` writes.

use io_pgtable::Pa;

use super::error::BootError;
use super::image::HEADER_SIZE;
use super::memory::Memory;
pub use super::module_kind::ModuleKind;
use super::range::PhysRange;
use super::tree::{NodeId, NodeRef, Tree};

/// A file that the boot loader put in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// The node.
    pub node: NodeId,
    /// Its address range, all of it in memory.
    pub range: PhysRange,
    /// Its command line.
    pub bootargs: Option<&'a str>,
}

/// The modules of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modules<'a> {
    /// The host's kernel.
    pub kernel: Module<'a>,
    /// The host's initial ramdisk.
    pub ramdisk: Option<Module<'a>>,
}

impl<'a> Modules<'a> {
    /// Finds the modules and checks that they are in memory and do not overlap.
    ///
    /// # Errors
    /// [`BootError::Missing`] without a kernel, [`BootError::DuplicateModule`], [`BootError::NotInRam`],
    /// [`BootError::Overlap`], [`BootError::Property`] for a malformed node,
    /// [`BootError::Unsupported`] for a module of another kind.
    pub fn find(tree: &Tree<'a>, memory: &Memory) -> Result<Self, BootError<'a>> {
        let mut kernel = None;
        let mut ramdisk = None;
        tree.walk(&mut |node| {
            if !is_module(node) {
                return Ok(());
            }
            let (kind, slot) = if node.is_compatible("multiboot,kernel") {
                (ModuleKind::Kernel, &mut kernel)
            } else if node.is_compatible("multiboot,ramdisk") {
                (ModuleKind::Ramdisk, &mut ramdisk)
            } else {
                return Err(BootError::Unsupported {
                    path: node.path(),
                    what: "a boot module that is neither multiboot,kernel nor multiboot,ramdisk",
                    remedy: "pass a kernel and at most one ramdisk",
                });
            };
            let module = read(node, kind, memory)?;
            if let Some(first) = slot.replace(module) {
                return Err(BootError::DuplicateModule { kind, first: tree.path(first.node), second: node.path() });
            }
            Ok(())
        })?;
        let Some(kernel) = kernel else {
            return Err(BootError::Missing {
                what: "kernel module for the host",
                remedy: "load one and describe it under /chosen \
                         (QEMU: -device guest-loader,addr=0x49000000,kernel=Image,bootargs=...)",
            });
        };
        if let Some(ramdisk) = ramdisk
            && ramdisk.range.overlaps(&kernel.range)
        {
            return Err(BootError::Overlap {
                first: "the kernel module",
                first_range: kernel.range,
                second: "the ramdisk module",
                second_range: ramdisk.range,
            });
        }
        Ok(Self { kernel, ramdisk })
    }
}

/// Whether `node` is a boot module, to be hidden from the host.
pub(super) fn is_module(node: &NodeRef<'_, '_>) -> bool {
    node.parent().is_some_and(|p| p.is_top("chosen"))
        && (node.is_compatible("multiboot,module")
            || node.is_compatible("multiboot,kernel")
            || node.is_compatible("multiboot,ramdisk"))
}

fn read<'a>(node: &NodeRef<'a, '_>, kind: ModuleKind, memory: &Memory) -> Result<Module<'a>, BootError<'a>> {
    let one = || node.bad("reg", "must hold one address and one size above zero");
    let chosen = node.parent().ok_or_else(one)?;
    // QEMU omits the cell counts of /chosen and uses the root's.
    let counted = if chosen.has("#address-cells") { chosen } else { chosen.parent().ok_or_else(one)? };
    let (address, size) = counted.child_cells()?;
    let mut cells = node.cells("reg")?.ok_or_else(one)?;
    let base = cells.number(address).ok_or_else(one)?;
    let size = cells.number(size).filter(|&size| size > 0).ok_or_else(one)?;
    let range = PhysRange::new(Pa(base), size).filter(|_| cells.is_empty()).ok_or_else(one)?;
    let what = match kind {
        ModuleKind::Kernel => "the kernel module",
        ModuleKind::Ramdisk => "the ramdisk module",
    };
    if !memory.ram.contains(&range) || memory.no_map.overlaps(&range) {
        return Err(BootError::NotInRam { what, range, ram_end: memory.end() });
    }
    if kind == ModuleKind::Kernel && range.size() < u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX) {
        return Err(node.bad("reg", "is shorter than the header of an arm64 Image"));
    }
    Ok(Module { node: node.id, range, bootargs: node.string("bootargs")? })
}
