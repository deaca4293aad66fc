//! A machine with a policy module. QEMU's `guest-loader` describes a kernel and a ramdisk only, so QEMU first writes
//! its device tree, and the machine boots with that tree and one more node.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::qemu::{Machine, Serials};
use crate::tree::{Node, add_node_below, cut};

/// The address of the module: after QEMU's own device tree, before the host's kernel.
const ADDRESS: u32 = 0x48f0_0000;
const DEADLINE: Duration = Duration::from_secs(60);

/// Adds the node of a policy module with `size` bytes to a device tree.
pub(crate) fn describe(tree: &mut Vec<u8>, size: usize) -> Result<()> {
    let reg = [0, ADDRESS, 0, u32::try_from(size)?].map(u32::to_be_bytes).concat();
    let properties: [(&str, &[u8]); 2] = [("compatible", b"multiboot,module\0portcullis,policy\0"), ("reg", &reg)];
    add_node_below(tree, "chosen", &Node { name: "module@0x48f00000", properties: &properties, children: &[] })
}

/// Loads the module's content from `file`.
pub(crate) fn load(machine: &mut Machine, file: &Path) {
    machine.device(&format!("loader,file={},addr={ADDRESS:#x},force-raw=on", file.display()));
}

/// Adds the policy in `file` to `machine`, which must be otherwise complete; writes its device tree to `dir`.
///
/// # Errors
/// When QEMU does not write the tree, or a file cannot be read or written.
pub fn add(machine: &mut Machine, file: &Path, dir: &Path) -> Result<()> {
    let size = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    let dir = dir.join("tree");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let tree = dir.join("with-policy.dtb");
    let mut plain = machine.clone();
    plain.serials = Serials::HostAndEl2;
    plain.machine.push_str(&format!(",dumpdtb={}", tree.display()));
    plain.run(&dir, DEADLINE)?.require_clean_exit()?;
    let mut bytes = fs::read(&tree)?;
    cut(&mut bytes)?;
    describe(&mut bytes, size)?;
    fs::write(&tree, bytes)?;
    machine.boot_with_tree(&tree);
    load(machine, file);
    Ok(())
}
