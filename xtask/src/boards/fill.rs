//! Completes a board's device tree as a boot loader does before it starts EL2: memory, the command line and the
//! modules.

use anyhow::{Context, Result, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};
use hyp::boot_info::memory::Memory;
use hyp::boot_info::tree::Tree;
use hyp::boot_info::{PhysRange, RangeSet, dtb_size};
use io_pgtable::Pa;

const MIB: u64 = 1 << 20;
/// Minimum memory of a board; a node with less is an example that the boot loader replaces.
const MEMORY_MIN: u64 = 512 * MIB;
/// The size of the memory that is added.
const MEMORY: u64 = 1024 * MIB;
/// The start of memory if the tree does not contain it.
const MEMORY_BASE: u64 = 0x8000_0000;
/// Memory for EL2's image, its device tree, the kernel and the ramdisk.
const IMAGE_ROOM: u64 = 4 * MIB;
const TREE_ROOM: u64 = 2 * MIB;
const KERNEL_ROOM: u64 = 64 * MIB;
const RAMDISK_ROOM: u64 = 16 * MIB;
const POLICY_ROOM: u64 = 2 * MIB;

/// The author's options and rules.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Author<'o> {
    /// EL2's command line.
    pub(super) options: &'o str,
    /// The content of a policy module.
    pub(super) policy: Option<&'o [u8]>,
}

/// The tree that EL2 gets, and the other results of the boot loader.
pub(super) struct Filled {
    pub(super) dtb: Vec<u8>,
    pub(super) image: PhysRange,
    pub(super) dtb_at: PhysRange,
    pub(super) kernel: PhysRange,
    pub(super) memory: u64,
    /// The content of the policy module.
    pub(super) policy: Option<Vec<u8>>,
    /// A description of what was added.
    pub(super) notes: Vec<String>,
}

/// Completes `dtb`, with the author's options and rules.
///
/// # Errors
/// When `dtb` is not a device tree, or memory has no room for the modules.
pub(super) fn fill(dtb: &[u8], author: Author<'_>) -> Result<Filled> {
    let start = dtb.first_chunk().context("the file is shorter than a header")?;
    let size = dtb_size(start).map_err(|error| anyhow::anyhow!("{error}"))?;
    let dtb = dtb.get(..size).context("the file is cut short")?;
    let mut tree = DeviceTree::from_fdt(&Fdt::new_unchecked(dtb));
    let mut notes = Vec::new();
    fill_memory(&mut tree.root, &mut notes)?;
    let bare = tree.to_dtb();
    let refused = |error| anyhow::anyhow!("{error}");
    let parsed = Tree::parse(&bare).map_err(refused)?;
    let memory = Memory::find(&parsed).map_err(refused)?;
    let mut place = Places::of(&memory)?;
    let image = place.take(IMAGE_ROOM)?;
    let (dtb_at, kernel, ramdisk) = (place.take(TREE_ROOM)?, place.take(KERNEL_ROOM)?, place.take(RAMDISK_ROOM)?);
    notes.push(format!("EL2 is placed at {:#x}, a kernel at {:#x}", image.base().0, kernel.base().0));
    let policy = match author.policy {
        Some(content) => {
            let place = place.take(POLICY_ROOM)?;
            PhysRange::new(place.base(), u64::try_from(content.len())?)
        }
        None => None,
    };
    let memory = memory.ram.total();
    add_modules(&mut tree.root, author.options, kernel, ramdisk, policy);
    let dtb = tree.to_dtb();
    let dtb_at = PhysRange::new(dtb_at.base(), u64::try_from(dtb.len())?).context("a tree above all addresses")?;
    let policy = author.policy.map(<[u8]>::to_vec);
    Ok(Filled { dtb, image, dtb_at, kernel, memory, policy, notes })
}

/// Enables every SMMUv3 of a tree, and the nodes above it.
///
/// # Errors
/// When `dtb` is not a device tree.
pub(super) fn enable_smmus(dtb: &mut Vec<u8>) -> Result<()> {
    // A malformed tree is not changed: EL2's parser must refuse it.
    if Tree::parse(dtb).is_err() || !dtb.windows(SMMU.len()).any(|window| window == SMMU) {
        return Ok(());
    }
    let mut tree = DeviceTree::from_fdt(&Fdt::new_unchecked(dtb));
    enable(&mut tree.root);
    *dtb = tree.to_dtb();
    Ok(())
}

/// The `compatible` of an SMMUv3.
pub(super) const SMMU: &[u8] = b"arm,smmu-v3\0";

/// Whether there is an SMMUv3 at or below `node`; if so, it is enabled.
fn enable(node: &mut DeviceTreeNode) -> bool {
    let compatible = node
        .property("compatible")
        .is_some_and(|value| value.value().split_inclusive(|b| *b == 0).any(|name| name == SMMU));
    let below = node.children_mut().fold(false, |found, child| enable(child) | found);
    if compatible || below {
        node.remove_property("status");
    }
    compatible || below
}

/// The free memory.
struct Places(RangeSet<512>);

impl Places {
    fn of(memory: &Memory) -> Result<Self> {
        let mut free = RangeSet::new();
        let full = |_| anyhow::anyhow!("memory has too many separate ranges");
        memory.ram.iter().try_for_each(|range| free.insert(*range)).map_err(full)?;
        memory.reserved.iter().try_for_each(|range| free.remove(range)).map_err(full)?;
        Ok(Self(free))
    }

    fn take(&mut self, size: u64) -> Result<PhysRange> {
        let fit = |range: &PhysRange| {
            let start = range.base().0.next_multiple_of(2 * MIB);
            PhysRange::new(Pa(start), size).filter(|place| range.contains(place))
        };
        let place = self.0.iter().find_map(fit).context("no room for EL2, a kernel and a ramdisk in memory")?;
        self.0.remove(&place).map_err(|_| anyhow::anyhow!("memory has too many separate ranges"))?;
        Ok(place)
    }
}

fn fill_memory(root: &mut DeviceTreeNode, notes: &mut Vec<String>) -> Result<()> {
    let count = |name| cell(root, name).with_context(|| format!("the root has no {name}"));
    let (address, size) = (count("#address-cells")?, count("#size-cells")?);
    ensure!((1..=2).contains(&address) && (1..=2).contains(&size), "the root has unusual cell counts");
    let is_memory =
        |node: &&DeviceTreeNode| node.property("device_type").is_some_and(|property| property.value() == b"memory\0");
    let names: Vec<String> = root.children().filter(is_memory).map(|node| node.name().to_owned()).collect();
    let (address_bytes, entry) = (4 * address, 4 * (address + size));
    let (mut total, mut base) = (0u64, None);
    for name in &names {
        let reg = root.child(name).and_then(|node| node.property("reg")).map(|reg| reg.value().to_vec());
        for part in reg.unwrap_or_default().chunks_exact(entry) {
            let (at, length) = part.split_at(address_bytes);
            total = total.saturating_add(number(length));
            base = base.or(Some(number(at)).filter(|at| *at != 0));
        }
    }
    if total >= MEMORY_MIN {
        return Ok(());
    }
    let base = base.unwrap_or(MEMORY_BASE);
    for name in &names {
        root.remove_child(name);
    }
    let cells = |value: u64, count: usize| value.to_be_bytes()[8 - 4 * count..].to_vec();
    let mut node = DeviceTreeNode::new_unchecked(format!("memory@{base:x}"));
    set(&mut node, "device_type", b"memory\0");
    set(&mut node, "reg", &[cells(base, address), cells(MEMORY, size)].concat());
    root.add_child(node);
    let had = if total == 0 { "no memory".to_owned() } else { format!("{} MiB of memory", total / MIB) };
    notes.push(format!("the tree has {had}: {} MiB at {base:#x} are added", MEMORY / MIB));
    Ok(())
}

fn add_modules(
    root: &mut DeviceTreeNode,
    options: &str,
    kernel: PhysRange,
    ramdisk: PhysRange,
    policy: Option<PhysRange>,
) {
    if root.child("chosen").is_none() {
        root.add_child(DeviceTreeNode::new_unchecked("chosen"));
    }
    let Some(chosen) = root.child_mut("chosen") else { return };
    set(chosen, "bootargs", &text(&[options]));
    set(chosen, "#address-cells", &2u32.to_be_bytes());
    set(chosen, "#size-cells", &2u32.to_be_bytes());
    let kernel = Some(("module@1", "multiboot,kernel", kernel.base(), kernel.size() / 2));
    let ramdisk = Some(("module@2", "multiboot,ramdisk", ramdisk.base(), ramdisk.size() / 2));
    let policy = policy.map(|range| ("module@3", "portcullis,policy", range.base(), range.size()));
    for (name, kind, base, size) in [kernel, ramdisk, policy].into_iter().flatten() {
        let mut module = DeviceTreeNode::new_unchecked(name);
        set(&mut module, "compatible", &text(&["multiboot,module", kind]));
        set(&mut module, "reg", &[base.0.to_be_bytes(), size.to_be_bytes()].concat());
        chosen.add_child(module);
    }
}

fn set(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn text(strings: &[&str]) -> Vec<u8> {
    strings.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

fn cell(node: &DeviceTreeNode, name: &str) -> Option<usize> {
    let value = *node.property(name)?.value().first_chunk()?;
    usize::try_from(u32::from_be_bytes(value)).ok()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
