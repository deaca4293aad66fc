//! The host's device tree.
//!
//! A new tree is written, instead of editing it in place: removed data, in particular EL2's command line and token,
//! must not remain in unused space.

use super::cells::string;
use super::error::BootError;
use super::layout::Layout;
use super::memory::is_memory;
use super::modules::is_module;
use super::platform::Platform;
use super::policy::MmioPolicy;
use super::policy::bindings::is_hidden;
use super::range::RangeSet;
use super::smmu::{DATA_OVERRIDE, is_smmu};
use super::tree::{NodeId, NodeRef, Reg, is_at};
use super::uart::stdout_path;
use super::writer::{NoRoom, Writer};

/// Header of a version 17 device tree, in bytes.
const HEADER_SIZE: usize = 40;
const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const COMPATIBLE_VERSION: u32 = 16;

/// A shorter token could match by chance and is not searched for.
const TOKEN_MIN: usize = 8;

/// Maximum separate ranges of one memory node.
const NODE_RANGES_MAX: usize = 20;

/// Properties of `/chosen` that EL2 sets itself, or that are for EL2.
const CHOSEN_REPLACED: [&str; 3] = ["bootargs", "linux,initrd-start", "linux,initrd-end"];

/// Writes the host's tree to the start of `out` and zeroes the rest; returns its length in bytes.
/// Differences of the host's tree from EL2's: memory lacks the ranges that `layout` gives to EL2; `/chosen` has the
/// kernel module's command line and the ramdisk's address instead of EL2's command line and the modules; every node
/// that `policy` withholds is disabled, and no alias or console path names it; memory reserved for firmware has no
/// `compatible`, by which a driver would find it; SMMU nodes lack the property that EL2 implements itself
/// (`arm,instdata-override`).
///
/// # Errors
/// [`BootError::HostDtbRoom`] when `out` is too small (see [`layout::plan`](super::layout::plan));
/// [`BootError::TokenLeft`] if the token is still in the result, because it is also in other parts of the source.
/// After an error all of `out` is zero.
pub fn write_host_dtb<'a>(
    platform: &Platform<'a>,
    policy: &MmioPolicy,
    layout: &Layout,
    out: &mut [u8],
) -> Result<usize, BootError<'a>> {
    out.fill(0);
    let written = write(platform, policy, layout, out).and_then(|length| {
        let token = platform.options.token.filter(|token| token.len() >= TOKEN_MIN);
        match token.and_then(|token| out.windows(token.len()).position(|w| w.eq_ignore_ascii_case(token.as_bytes()))) {
            Some(offset) => Err(BootError::TokenLeft { offset }),
            None => Ok(length),
        }
    });
    if written.is_err() {
        out.fill(0);
    }
    written
}

fn write<'a>(
    platform: &Platform<'a>,
    policy: &MmioPolicy,
    layout: &Layout,
    out: &mut [u8],
) -> Result<usize, BootError<'a>> {
    let no_room = BootError::HostDtbRoom { room: out.len() };
    let mut measured = Editor::new(platform, policy, layout, Writer::measuring())?;
    let (structure_len, _) = measured.run().and_then(|()| measured.finish())?;

    let mut reserved_len = 16usize;
    for _ in platform.tree.fdt().memory_reservations() {
        reserved_len = reserved_len.saturating_add(16);
    }
    let structure_at = HEADER_SIZE.saturating_add(reserved_len);
    let strings_at = structure_at.saturating_add(structure_len);
    let (front, strings) = out.split_at_mut_checked(strings_at).ok_or_else(|| no_room.clone())?;
    let (head, structure) = front.split_at_mut_checked(structure_at).ok_or_else(|| no_room.clone())?;

    let mut editor = Editor::new(platform, policy, layout, Writer::writing(structure, strings))?;
    let (_, strings_len) = editor.run().and_then(|()| editor.finish())?;
    let total = strings_at.saturating_add(strings_len);

    let (header, reservations) = head.split_at_mut_checked(HEADER_SIZE).ok_or_else(|| no_room.clone())?;
    let mut slots = reservations.chunks_exact_mut(16);
    for entry in platform.tree.fdt().memory_reservations() {
        let slot = slots.next().ok_or_else(|| no_room.clone())?;
        let (address, size) = slot.split_at_mut_checked(8).ok_or_else(|| no_room.clone())?;
        address.copy_from_slice(&entry.address().to_be_bytes());
        size.copy_from_slice(&entry.size().to_be_bytes());
    }
    let cell = |value: usize| u32::try_from(value).map_err(|_| no_room.clone());
    let fields = [
        MAGIC,
        cell(total)?,
        cell(structure_at)?,
        cell(strings_at)?,
        cell(HEADER_SIZE)?,
        VERSION,
        COMPATIBLE_VERSION,
        platform.tree.fdt().boot_cpuid_phys(),
        cell(strings_len)?,
        cell(structure_len)?,
    ];
    for (slot, field) in header.chunks_exact_mut(4).zip(fields) {
        slot.copy_from_slice(&field.to_be_bytes());
    }
    Ok(total)
}

/// Copies a tree node by node.
struct Editor<'e, 'a, 'b> {
    platform: &'e Platform<'a>,
    policy: &'e MmioPolicy,
    layout: &'e Layout,
    stdout: Option<NodeId>,
    writer: Option<Writer<'b>>,
    /// Number of open nodes.
    open: usize,
    /// Depth of the node that is being skipped with its subtree.
    skipping: Option<usize>,
}

impl<'e, 'a, 'b> Editor<'e, 'a, 'b> {
    fn new(
        platform: &'e Platform<'a>,
        policy: &'e MmioPolicy,
        layout: &'e Layout,
        writer: Writer<'b>,
    ) -> Result<Self, BootError<'a>> {
        let mut stdout = None;
        if let Some(path) = stdout_path(&platform.tree)? {
            stdout = find(platform, path)?;
        }
        Ok(Self { platform, policy, layout, stdout, writer: Some(writer), open: 0, skipping: None })
    }

    fn run(&mut self) -> Result<(), BootError<'a>> {
        let tree = self.platform.tree;
        tree.walk(&mut |node| self.node(node))
    }

    fn finish(&mut self) -> Result<(usize, usize), BootError<'a>> {
        self.close_to(0)?;
        let writer = self.writer.take().ok_or(BootError::HostDtbRoom { room: 0 })?;
        writer.finish().map_err(no_room)
    }

    fn put(&mut self, what: impl FnOnce(&mut Writer<'b>) -> Result<(), NoRoom>) -> Result<(), BootError<'a>> {
        self.writer.as_mut().ok_or(NoRoom).and_then(what).map_err(no_room)
    }

    fn close_to(&mut self, depth: usize) -> Result<(), BootError<'a>> {
        while self.open > depth {
            self.put(Writer::end_node)?;
            self.open = self.open.saturating_sub(1);
        }
        Ok(())
    }

    fn node(&mut self, node: &NodeRef<'a, '_>) -> Result<(), BootError<'a>> {
        if self.skipping.is_some_and(|depth| node.depth > depth) {
            return Ok(());
        }
        self.skipping = None;
        let memory = if is_memory(node) && node.enabled() { Some(self.memory_left(node)?) } else { None };
        if is_module(node) || memory.as_ref().is_some_and(|left| left.total() == 0) {
            self.skipping = Some(node.depth);
            return Ok(());
        }
        self.close_to(node.depth)?;
        self.put(|w| w.begin_node(node.name()))?;
        self.open = self.open.saturating_add(1);

        let withheld = self.policy.is_withheld(node.id);
        let chosen = node.is_top("chosen");
        let aliases = node.is_top("aliases");
        let hidden = is_hidden(node)?;
        let emulated = is_smmu(node) && cfg!(not(feature = "no-isolation"));
        node.properties(&mut |name, value| {
            if (withheld && name == "status")
                || (hidden && name == "compatible")
                || (memory.is_some() && name == "reg")
                || (emulated && name == DATA_OVERRIDE)
                || (chosen && CHOSEN_REPLACED.contains(&name))
                || (chosen && name == "stdout-path" && self.leads_nowhere(self.stdout))
                || (aliases && self.leads_nowhere(self.alias(value)?))
            {
                return Ok(());
            }
            self.put(|w| w.property(name, &[value]))
        })?;
        if withheld {
            self.put(|w| w.property("status", &[b"disabled\0"]))?;
        }
        if let Some(left) = memory {
            self.memory_reg(node, &left)?;
        }
        if chosen {
            self.chosen()?;
        }
        Ok(())
    }

    /// The host's part of a memory node. `no-map` reservations are not removed: `/reserved-memory` describes
    /// them.
    fn memory_left(&self, node: &NodeRef<'a, '_>) -> Result<RangeSet<NODE_RANGES_MAX>, BootError<'a>> {
        let full = |_| BootError::TooMany { what: "ranges of the host's memory in one node", limit: NODE_RANGES_MAX };
        let mut left = RangeSet::new();
        for reg in node.reg()? {
            if let Reg::Visible(range) = reg?
                && let Some(pages) = range.whole_pages()
            {
                left.insert(pages).map_err(full)?;
            }
        }
        left.remove(&self.layout.image).map_err(full)?;
        left.remove(&self.layout.pool).map_err(full)?;
        Ok(left)
    }

    fn memory_reg(&mut self, node: &NodeRef<'a, '_>, left: &RangeSet<NODE_RANGES_MAX>) -> Result<(), BootError<'a>> {
        let cells = node.parent().map_or(Ok((2, 1)), NodeRef::child_cells)?;
        let mut value = [0u8; NODE_RANGES_MAX * 32];
        let mut slots = value.chunks_exact_mut(4);
        let mut used = 0usize;
        for range in left {
            for (number, count) in [(range.base().0, cells.0), (range.size(), cells.1)] {
                for cell in (0..count).rev() {
                    let bits = cell.saturating_mul(32);
                    let part = number.checked_shr(bits).unwrap_or(0) & u64::from(u32::MAX);
                    let part = u32::try_from(part).map_err(|_| no_room(NoRoom))?;
                    slots.next().ok_or(NoRoom).map_err(no_room)?.copy_from_slice(&part.to_be_bytes());
                    used = used.saturating_add(4);
                }
            }
        }
        let value = value.get(..used).ok_or(NoRoom).map_err(no_room)?;
        self.put(|w| w.property("reg", &[value]))
    }

    fn chosen(&mut self) -> Result<(), BootError<'a>> {
        let Some(modules) = self.platform.modules() else { return Ok(()) };
        if let Some(bootargs) = modules.kernel.bootargs {
            self.put(|w| w.property("bootargs", &[bootargs.as_bytes(), b"\0"]))?;
        }
        if let Some(range) = modules.ramdisk.map(|m| m.range) {
            self.put(|w| w.property("linux,initrd-start", &[&range.base().0.to_be_bytes()]))?;
            self.put(|w| w.property("linux,initrd-end", &[&range.end().0.to_be_bytes()]))?;
        }
        Ok(())
    }

    fn alias(&self, value: &'a [u8]) -> Result<Option<NodeId>, BootError<'a>> {
        match string(value) {
            Some(path) => find(self.platform, path),
            None => Ok(None),
        }
    }

    fn leads_nowhere(&self, target: Option<NodeId>) -> bool {
        target.is_some_and(|node| self.policy.is_withheld(node))
    }
}

fn find<'a>(platform: &Platform<'a>, path: &str) -> Result<Option<NodeId>, BootError<'a>> {
    let mut found = None;
    platform.tree.walk(&mut |node| {
        if is_at(node, path) {
            found = found.or(Some(node.id));
        }
        Ok(())
    })?;
    Ok(found)
}

fn no_room<'a>(_: NoRoom) -> BootError<'a> {
    BootError::HostDtbRoom { room: 0 }
}
