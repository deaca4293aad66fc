//! The host's kernel and ramdisk and the rules of the board's author, as the boot loader loaded them: nodes
//! `multiboot,module` under `/chosen`, the binding that Xen uses for its first domain and that QEMU's `guest-loader`
//! writes.

use io_pgtable::Pa;

use super::error::BootError;
use super::image::HEADER_SIZE;
use super::memory::Memory;
pub use super::module_kind::ModuleKind;
use super::range::PhysRange;
use super::rules::POLICY_MAX;
use super::tree::{NodeId, NodeRef, Tree};

/// A file that the boot loader loaded.
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
    /// The rules of the board's author ([`rules`](super::rules)), for EL2 only.
    pub policy: Option<Module<'a>>,
}

/// Our own kind of module.
const POLICY: &str = "portcullis,policy";
const KERNEL_MODULE: &str = "the kernel module";
const RAMDISK_MODULE: &str = "the ramdisk module";
const POLICY_MODULE: &str = "the policy module";

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
        let mut policy = None;
        tree.walk(&mut |node| {
            if !is_module(node) {
                return Ok(());
            }
            // Checked first: rules must not be ignored because a node has two kinds.
            let (kind, slot) = if node.is_compatible(POLICY) {
                (ModuleKind::Policy, &mut policy)
            } else if node.is_compatible("multiboot,kernel") {
                (ModuleKind::Kernel, &mut kernel)
            } else if node.is_compatible("multiboot,ramdisk") {
                (ModuleKind::Ramdisk, &mut ramdisk)
            } else {
                return Err(BootError::Unsupported {
                    path: node.path(),
                    what: "a boot module that is neither multiboot,kernel, multiboot,ramdisk nor portcullis,policy",
                    remedy: "pass a kernel, at most one ramdisk and at most one policy",
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
        let all = [(KERNEL_MODULE, Some(kernel)), (RAMDISK_MODULE, ramdisk), (POLICY_MODULE, policy)];
        let mut rest = all.as_slice();
        while let Some(((first, module), others)) = rest.split_first() {
            let first_range = module.map(|module| module.range).unwrap_or_default();
            for (second, other) in others {
                let second_range = other.map(|other| other.range).unwrap_or_default();
                if second_range.overlaps(&first_range) {
                    return Err(BootError::Overlap { first, first_range, second, second_range });
                }
            }
            rest = others;
        }
        Ok(Self { kernel, ramdisk, policy })
    }
}

/// Whether `node` is a boot module, to be hidden from the host.
pub(super) fn is_module(node: &NodeRef<'_, '_>) -> bool {
    node.parent().is_some_and(|p| p.is_top("chosen"))
        && (node.is_compatible("multiboot,module")
            || node.is_compatible("multiboot,kernel")
            || node.is_compatible("multiboot,ramdisk")
            || node.is_compatible(POLICY))
}

fn read<'a>(node: &NodeRef<'a, '_>, kind: ModuleKind, memory: &Memory) -> Result<Module<'a>, BootError<'a>> {
    let one = || node.bad("reg", "must be one address and one size above zero");
    let chosen = node.parent().ok_or_else(one)?;
    // QEMU omits the cell counts of /chosen and uses the root's.
    let counted = if chosen.has("#address-cells") { chosen } else { chosen.parent().ok_or_else(one)? };
    let (address, size) = counted.child_cells()?;
    let mut cells = node.cells("reg")?.ok_or_else(one)?;
    let base = cells.number(address).ok_or_else(one)?;
    let size = cells.number(size).filter(|&size| size > 0).ok_or_else(one)?;
    let range = PhysRange::new(Pa(base), size).filter(|_| cells.is_empty()).ok_or_else(one)?;
    let what = match kind {
        ModuleKind::Kernel => KERNEL_MODULE,
        ModuleKind::Ramdisk => RAMDISK_MODULE,
        ModuleKind::Policy => POLICY_MODULE,
    };
    if !memory.ram.contains(&range) || memory.no_map.overlaps(&range) {
        return Err(BootError::NotInRam { what, range, ram_end: memory.end() });
    }
    if kind == ModuleKind::Kernel && range.size() < u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX) {
        return Err(node.bad("reg", "is shorter than the header of an arm64 Image"));
    }
    if kind == ModuleKind::Policy && range.size() > u64::try_from(POLICY_MAX).unwrap_or(u64::MAX) {
        return Err(node.bad("reg", "has a policy module of more than 16 KiB: give the file's own size"));
    }
    Ok(Module { node: node.id, range, bootargs: node.string("bootargs")? })
}
