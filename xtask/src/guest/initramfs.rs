//! The guest's root: one busybox, the modules in loading order, and the script.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guest::cpio::Archive;
use crate::guest::{self, modules};

/// Drivers of the devices that `linux` puts into the machine.
const MODULES: [&str; 6] = ["nvme", "virtio_pci", "virtio_blk", "virtio_net", "e1000e", "uio_pci_generic"];

/// What the guest runs; its modes are chosen on the kernel's command line.
const INIT: &str = include_str!("init.sh");
/// Parts of the script that only the attack modes source.
const ATTACK: &str = include_str!("attack.sh");
/// The part that drives the test module.
const MODULE: &str = include_str!("module.sh");

/// Writes the initramfs for the modules of one kernel; returns its path. An `extra` module lies beside the drivers and
/// is loaded by the script that wants it.
///
/// # Errors
/// When busybox or a module cannot be read, or the file cannot be written.
pub(crate) fn build(into: &Path, busybox: &Path, modules_dir: &Path, extra: Option<&Path>) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    let program = fs::read(busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    archive.program("bin/busybox", &program);
    archive.symlink("bin/sh", "busybox");
    let mut order = String::new();
    for module in modules::closure(modules_dir, &MODULES)? {
        archive.file(&format!("modules/{}.ko", module.name), &module.bytes);
        order.push_str(&module.name);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    if let Some(file) = extra {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_name().context("a module without a name")?.to_string_lossy();
        archive.file(&format!("modules/{name}"), &bytes);
    }
    archive.program("init", INIT.as_bytes());
    archive.file("attack.sh", ATTACK.as_bytes());
    archive.file("module.sh", MODULE.as_bytes());
    let path = into.join("initramfs.cpio");
    guest::write_if_changed(&path, &archive.finish())?;
    Ok(path)
}
