//! Boot input that EL2 has to refuse, for row 58 of the attack catalogue: a device tree that is well formed, and lies.
//!
//! The payload cannot test it, since it must never run. QEMU writes the tree of a good machine, one number of it is changed,
//! and the machine boots with that.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::console;
use crate::payload::Images;
use crate::qemu::{End, HOST_INITRD_ADDRESS, HOST_KERNEL_ADDRESS, HostModules, Machine, fresh_token};

const DEADLINE: Duration = Duration::from_secs(60);

/// A lie in the device tree.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// The test's name.
    pub name: &'static str,
    tell: fn(&mut [u8]) -> Result<()>,
    /// Words that EL2's reason must have.
    reason: &'static str,
}

/// Where EL2's own image lies.
const EL2_IMAGE: u32 = 0x4020_0000;
/// A page of the host's kernel, which lies at [`HOST_KERNEL_ADDRESS`].
const KERNEL: u32 = 0x4900_0000;
/// The end of the machine's memory.
const RAM_END: u32 = 0x8000_0000;

/// All of them.
pub const LIES: [Lie; 5] = [
    Lie { name: "t58_ramdisk_over_kernel", tell: |tree| move_ramdisk(tree, KERNEL + 0x1000), reason: "overlaps" },
    Lie { name: "t58_ramdisk_over_el2", tell: |tree| move_ramdisk(tree, EL2_IMAGE + 0x1000), reason: "overlaps" },
    Lie {
        name: "t58_ramdisk_beyond_memory",
        tell: |tree| move_ramdisk(tree, RAM_END - 0x1000),
        reason: "not in the machine's memory",
    },
    Lie {
        name: "t58_iommu_map_wraps",
        // The first StreamID of the only entry: requester, SMMU, StreamID, count.
        tell: |tree| change_cell(tree, "pcie@", "iommu-map", 2, u32::MAX),
        reason: "iommu-map",
    },
    Lie {
        name: "t58_huge_cell_count",
        tell: |tree| change_cell(tree, "cpus", "#address-cells", 0, 0x7fff_ffff),
        reason: "device tree",
    },
];

impl Lie {
    /// Boots a machine with `smp` CPUs of type `cpu` that tells it; EL2 must refuse to start its host, and say why.
    ///
    /// # Errors
    /// When it does not, or when the machine cannot be made.
    pub fn is_refused(&self, images: &Images, cpu: &str, smp: u32, dir: &Path) -> Result<()> {
        let hyp = images.hyp.as_ref().context("no hypervisor image")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let token = fresh_token()?;
        let payload = &images.payload;
        let new = || {
            let mut machine = Machine::new(&images.qemu);
            cpu.clone_into(&mut machine.cpu);
            machine.smp = smp;
            machine
        };
        let tree = dir.join("lie.dtb");
        let mut honest = new();
        let host =
            HostModules { kernel: payload.clone(), initrd: Some(payload.clone()), bootargs: "test=list".to_owned() };
        honest.boot_el2(hyp, &token, Some(&host))?;
        honest.machine.push_str(&format!(",dumpdtb={}", tree.display()));
        honest.run(&dir.join("dump"), DEADLINE)?.require_clean_exit()?;
        let mut bytes = fs::read(&tree)?;
        cut(&mut bytes)?;
        (self.tell)(&mut bytes)?;
        fs::write(&tree, bytes)?;
        let mut machine = new();
        machine.boot_el2(hyp, &token, None)?;
        machine.arg("-dtb").arg(&tree);
        for addr in [HOST_KERNEL_ADDRESS, HOST_INITRD_ADDRESS] {
            machine.device(&format!("loader,file={},addr={addr:#x},force-raw=on", payload.display()));
        }
        let outcome = machine.run(dir, DEADLINE)?;
        let said = &outcome.el2_console;
        ensure!(outcome.host_console.trim().is_empty(), "the host ran: {}", outcome.host_console);
        let exit = console::exit_line(said, &token).with_context(|| format!("EL2 said: {said}"))?;
        ensure!(exit.status == "error" && exit.reason == "boot", "EL2 ended with {} at {}", exit.status, exit.reason);
        match outcome.end {
            End::Exited(status) if !status.success() => {}
            end => bail!("the machine ended as if all were well: {end:?}"),
        }
        let errors = console::error_lines(said).join("; ");
        ensure!(errors.contains(self.reason), "the reason does not say `{}`: {errors}", self.reason);
        Ok(())
    }
}

/// Gives the ramdisk's module another address, below 4 GiB as the one that it has.
fn move_ramdisk(tree: &mut [u8], addr: u32) -> Result<()> {
    change_cell(tree, &format!("module@{HOST_INITRD_ADDRESS:#x}"), "reg", 1, addr)
}

/// Tokens of the flattened device tree: a property is this word, its length, its name's place, its value.
const PROPERTY: u32 = 3;
/// Offsets of the header's words: size of all, where the names are, how long they are.
const SIZE_AT: usize = 4;
const NAMES_AT: usize = 12;
const NAMES_SIZE_AT: usize = 32;

/// Cuts off the room that QEMU leaves behind the tree: it leaves twice as much when it reads it, which is more than may be.
pub(crate) fn cut(tree: &mut Vec<u8>) -> Result<()> {
    let end = word(tree, NAMES_AT)?.checked_add(word(tree, NAMES_SIZE_AT)?).context("no device tree")?;
    tree.truncate(usize::try_from(end)?);
    let size = tree.get_mut(SIZE_AT..).and_then(|rest| rest.first_chunk_mut::<4>()).context("no device tree")?;
    *size = end.to_be_bytes();
    Ok(())
}

/// Changes 32-bit cell `index` of property `name` of the first node whose name begins so.
fn change_cell(tree: &mut [u8], node: &str, name: &str, index: usize, value: u32) -> Result<()> {
    let names = usize::try_from(word(tree, NAMES_AT)?)?;
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    let place = find(tree.get(names..).unwrap_or_default(), &wanted).with_context(|| format!("no name {name}"))? + 1;
    let place = u32::try_from(place)?.to_be_bytes();
    // The token that begins a node, and its name.
    let begin = [&[0, 0, 0, 1], node.as_bytes()].concat();
    let begin = find(tree, &begin).with_context(|| format!("no node {node}"))?;
    let starts = |at: &usize| {
        tree.get(*at..).is_some_and(|rest| {
            rest.starts_with(&PROPERTY.to_be_bytes()) && rest.get(8..12).is_some_and(|name| *name == place)
        })
    };
    let at = (begin..names).step_by(4).find(starts).with_context(|| format!("no property {name}"))?;
    let cell = tree.get_mut(at + 12 + 4 * index..).and_then(|rest| rest.first_chunk_mut::<4>()).context("cut short")?;
    *cell = value.to_be_bytes();
    Ok(())
}

fn word(tree: &[u8], at: usize) -> Result<u32> {
    let bytes = tree.get(at..).and_then(|rest| rest.first_chunk::<4>()).context("the device tree is cut short")?;
    Ok(u32::from_be_bytes(*bytes))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header; a node "on" with a property of 8 bytes whose name is at 2; names.
    fn tree() -> Vec<u8> {
        let mut tree = vec![0; 80];
        tree[15] = 52;
        tree[35] = 6;
        tree[20..28].copy_from_slice(&[0, 0, 0, 1, b'o', b'n', 0, 0]);
        tree[28..32].copy_from_slice(&PROPERTY.to_be_bytes());
        tree[32..48].copy_from_slice(&[0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        tree[52..58].copy_from_slice(b"a\0map\0");
        tree
    }

    #[test]
    fn a_cell_is_found_by_its_node_and_property() {
        let mut tree = tree();
        assert!(change_cell(&mut tree, "on", "map", 1, 7).is_ok());
        assert_eq!(tree[40..48], [0, 0, 0, 1, 0, 0, 0, 7]);
        assert!(change_cell(&mut tree, "on", "pam", 0, 7).is_err());
        assert!(change_cell(&mut tree, "off", "map", 0, 7).is_err());
    }

    #[test]
    fn what_lies_behind_the_names_is_cut_off() {
        let mut tree = [0; 80].to_vec();
        (tree[15], tree[35]) = (52, 6);
        assert!(cut(&mut tree).is_ok());
        assert_eq!((tree.len(), tree[7]), (58, 58));
    }
}
