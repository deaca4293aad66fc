//! The machine description, parsed by [`Platform::parse`] from the device tree.

use super::cells::string;
use super::cmdline::Options;
use super::cpus::{self, CPUS_MAX, Cpu};
use super::entry::Entry;
use super::error::BootError;
use super::gic::Gic;
use super::memory::Memory;
use super::modules::Modules;
use super::pci::{self, PCI_MAX, PciHost, Streams};
use super::power::Providers;
use super::rules::Rules;
use super::smmu::{self, SMMUS_MAX, SmmuNode};
use super::tree::{NodeId, Path, Tree};
use super::uart::Uarts;
use arrayvec::ArrayVec;
use io_pgtable::Pa;

/// The description of the machine that EL2 depends on. It borrows the device tree, which must be unchanged until the
/// host's own copy has been written.
#[derive(Clone, Debug)]
pub struct Platform<'a> {
    /// The tree.
    pub tree: Tree<'a>,
    /// EL2's command line.
    pub options: Options<'a>,
    /// Memory and reservations.
    pub memory: Memory,
    /// How EL2 was started.
    pub entry: Entry<'a>,
    /// The content of the policy module; `None` until [`Platform::read_rules`].
    pub rules: Option<Rules<'a>>,
    /// The CPUs, including the boot CPU.
    pub cpus: ArrayVec<Cpu, CPUS_MAX>,
    /// The consoles.
    pub uarts: Uarts,
    /// The interrupt controller.
    pub gic: Gic,
    /// All SMMUs.
    pub smmus: ArrayVec<SmmuNode, SMMUS_MAX>,
    /// Nodes that the SMMUs depend on.
    pub providers: Providers,
    /// All PCI hosts.
    pub pci: ArrayVec<PciHost, PCI_MAX>,
    /// Streams of all masters.
    pub streams: Streams,
}

impl<'a> Platform<'a> {
    /// Reads `dtb`, which must have the length returned by [`dtb_size`](super::dtb_size).
    ///
    /// # Errors
    /// Any [`BootError`] that a device tree can cause; unknown input is an error, never ignored.
    pub fn parse(dtb: &'a [u8]) -> Result<Self, BootError<'a>> {
        let tree = Tree::parse(dtb)?;
        tree.check_phandles()?;
        let options = Options::parse(chosen_bootargs(&tree)?)?;
        let memory = Memory::find(&tree)?;
        let gic = Gic::find(&tree)?;
        let smmus = smmu::find(&tree, &gic)?;
        cpus::check_psci(&tree)?;
        let uarts = Uarts::find(&tree, options.console)?;
        Ok(Self {
            tree,
            options,
            entry: Entry::find(&tree, &memory)?,
            rules: None,
            cpus: cpus::find(&tree)?,
            uarts,
            providers: Providers::find(&tree)?,
            pci: pci::find(&tree, &smmus)?,
            streams: pci::streams(&tree, &smmus)?,
            memory,
            gic,
            smmus,
        })
    }

    /// Reads the content of the policy module from a copy, which must not change.
    ///
    /// # Errors
    /// As [`Rules::parse`]; the platform must then not be used.
    pub fn read_rules(&mut self, content: &'a [u8]) -> Result<(), BootError<'a>> {
        self.rules = Some(Rules::parse(content)?);
        Ok(())
    }

    /// The host's kernel and ramdisk; `None` in a start from UEFI.
    #[must_use]
    pub fn modules(&self) -> Option<&Modules<'a>> {
        match &self.entry {
            Entry::BootLoader(modules) => Some(modules),
            Entry::Uefi(_) => None,
        }
    }

    /// The end of the highest range that EL2 maps for itself: memory, SMMUs, its console, the interrupt controller.
    #[must_use]
    pub fn el2_end(&self) -> Pa {
        let gic = core::iter::once(&self.gic.distributor).chain(self.gic.redistributors.iter());
        let gic = gic.chain(self.gic.its.iter().map(|its| &its.range));
        let uarts = [&self.uarts.el2, &self.uarts.host].into_iter().flatten().map(|uart| &uart.range);
        let ranges = gic.chain(self.smmus.iter().map(|smmu| &smmu.range)).chain(uarts);
        ranges.fold(self.memory.end(), |end, range| end.max(range.end()))
    }

    /// The path of a node, for messages.
    #[must_use]
    pub fn path(&self, node: NodeId) -> Path<'a> {
        self.tree.path(node)
    }
}

/// Properties of `/chosen` that show another owner of some memory, which memory nodes and reservations do not
/// describe.
const OTHER_OWNERS: [(&str, &str); 5] = [
    ("linux,usable-memory-range", "omits the memory of a crashed kernel, whose devices may still do DMA"),
    ("linux,elfcorehdr", "describes a crashed kernel, whose devices may still do DMA"),
    ("linux,uefi-system-table", "shows a boot from UEFI, whose memory map is not in this tree: start EL2 without UEFI"),
    ("linux,uefi-mmap-start", "shows a boot from UEFI, whose memory map is not in this tree: start EL2 without UEFI"),
    ("linux,kho-fdt", "describes memory that an earlier kernel preserves"),
];

/// EL2's command line, from the one node that has it.
fn chosen_bootargs<'a>(tree: &Tree<'a>) -> Result<&'a str, BootError<'a>> {
    let mut found = None;
    tree.walk(&mut |node| {
        if !node.is_top("chosen") {
            return Ok(());
        }
        if let Some((property, problem)) = OTHER_OWNERS.iter().find(|(property, _)| node.has(property)) {
            return Err(node.bad(property, problem));
        }
        let bootargs = match node.value("bootargs") {
            Some(value) => string(value).ok_or_else(|| node.bad("bootargs", "is not one string"))?,
            None => "",
        };
        match found.replace(bootargs) {
            Some(_) => Err(node.bad("bootargs", "is in a second /chosen")),
            None => Ok(()),
        }
    })?;
    Ok(found.unwrap_or_default())
}
