//! The guest's root file system: busybox, the modules in loading order, and the script.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guest::cpio::Archive;
use crate::guest::{self, modules, programs};

/// Drivers of the devices that `linux` puts into the machine, and of the firmware's variables.
const MODULES: [&str; 9] = [
    "nvme",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "e1000e",
    "uio_pci_generic",
    "efivarfs",
    // Their drivers would probe devices that EL2 withholds but that ACPI still describes.
    "virtio_mmio",
    "qemu_fw_cfg",
];

/// Mounts and functions for every script.
const COMMON: &str = include_str!("common.sh");
/// The guest's script; its mode is set on the kernel's command line.
const INIT: &str = include_str!("init.sh");
/// Parts of the script that only the attack modes source.
const ATTACK: &str = include_str!("attack.sh");
/// The part for the test module.
const MODULE: &str = include_str!("module.sh");
/// The part for the load test, in which all CPUs read.
const LOAD: &str = include_str!("load.sh");
/// The part for kexec.
const KEXEC: &str = include_str!("kexec.sh");
/// The part in which drivers are unbound and functions removed.
const DEVICES: &str = include_str!("devices.sh");
/// The part in which a guest gets the NVMe.
const HAND_OVER: &str = include_str!("hand_over.sh");

/// Extra files of some boots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// A module loaded by the script on demand.
    pub module: Option<&'a Path>,
    /// Files for kexec.
    pub kexec: Option<Kexec<'a>>,
}

/// The kexec program, and the kernel that it loads.
#[derive(Clone, Copy, Debug)]
pub struct Kexec<'a> {
    /// Unpacked packages with kexec and its libraries.
    pub packages: &'a Path,
    /// The next kernel, an arm64 Image.
    pub kernel: &'a Path,
    /// The next kernel's ramdisk.
    pub initrd: &'a Path,
}

/// Writes the initramfs for the modules of one kernel; returns its path.
///
/// # Errors
/// When busybox, a module or an extra cannot be read, or the file cannot be written.
pub fn build(into: &Path, busybox: &Path, modules_dir: &Path, extras: Extras<'_>) -> Result<PathBuf> {
    let mut archive = base(busybox, modules_dir, &MODULES)?;
    if let Some(file) = extras.module {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_name().context("a module without a name")?.to_string_lossy();
        archive.file(&format!("modules/{name}"), &bytes);
    }
    if let Some(kexec) = extras.kexec {
        add_kexec(&mut archive, kexec)?;
    }
    archive.program("init", INIT.as_bytes());
    archive.file("attack.sh", ATTACK.as_bytes());
    archive.file("module.sh", MODULE.as_bytes());
    archive.file("load.sh", LOAD.as_bytes());
    archive.file("kexec.sh", KEXEC.as_bytes());
    archive.file("devices.sh", DEVICES.as_bytes());
    archive.file("hand_over.sh", HAND_OVER.as_bytes());
    let path = into.join("initramfs.cpio");
    guest::write_if_changed(&path, &archive.finish())?;
    Ok(path)
}

/// An initramfs without a script: busybox, `modules` and their dependencies with the loading order, and
/// `common.sh`, which the scripts source.
///
/// # Errors
/// When busybox or a module cannot be read.
pub fn base(busybox: &Path, modules_dir: &Path, modules: &[&str]) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "tmp", "lib", "modules", "kexec"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    let program = fs::read(busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    archive.program("bin/busybox", &program);
    archive.symlink("bin/sh", "busybox");
    let mut order = String::new();
    for module in modules::closure(modules_dir, modules)? {
        archive.file(&format!("modules/{}.ko", module.name), &module.bytes);
        order.push_str(&module.name);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    archive.file("common.sh", COMMON.as_bytes());
    Ok(archive)
}

fn add_kexec(archive: &mut Archive, kexec: Kexec<'_>) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let program = read(&kexec.packages.join("sbin/kexec"))?;
    for library in programs::libraries(kexec.packages, &program)? {
        archive.program(&format!("lib/{}", library.name), &library.bytes);
    }
    archive.program("bin/kexec", &program);
    archive.file("kexec/Image", &read(kexec.kernel)?);
    archive.file("kexec/initrd", &read(kexec.initrd)?);
    Ok(())
}
