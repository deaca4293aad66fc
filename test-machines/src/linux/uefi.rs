//! A boot through UEFI firmware and ACPI: the firmware's shell starts `portcullis.efi`, then the kernel's own loader.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::linux::guest::Guest;
use crate::linux::verdict::Expect;
use crate::qemu::{Machine, Serials};

/// The files of a boot through firmware.
#[derive(Clone, Debug)]
pub struct Uefi {
    /// The firmware, for `-bios`.
    pub firmware: PathBuf,
    /// `portcullis.efi`; `None` boots the kernel without EL2.
    pub loader: Option<PathBuf>,
}

/// Slot of the disk with the boot files. It is the last one, so that the guest's other disks have the same names as in
/// a boot without firmware.
const SLOT: &str = "0x1e";

impl Uefi {
    /// Makes the boot disk below `dir` and adds it to `machine`. `bootargs` is the kernel's command line, `el2` is
    /// EL2's.
    ///
    /// # Errors
    /// When a file cannot be copied or written.
    pub(crate) fn prepare(
        &self,
        machine: &mut Machine,
        dir: &Path,
        guest: &Guest,
        bootargs: &str,
        el2: &str,
    ) -> Result<()> {
        let disk = dir.join("esp");
        if disk.exists() {
            fs::remove_dir_all(&disk).with_context(|| format!("cannot remove {}", disk.display()))?;
        }
        let own = disk.join("EFI/portcullis");
        fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
        link(&guest.kernel, &disk.join("Image"))?;
        let mut script = String::from("fs0:\r\n");
        if let Some(loader) = &self.loader {
            link(loader, &disk.join("portcullis.efi"))?;
            write(&own.join("options.txt"), el2)?;
            script.push_str("portcullis.efi\r\n");
        }
        script.push_str("Image ");
        if let Some(initrd) = &guest.initrd {
            link(initrd, &disk.join("initrd"))?;
            script.push_str("initrd=\\initrd ");
        }
        write(&disk.join("startup.nsh"), &format!("{script}{bootargs}\r\n"))?;
        machine.kernel = None;
        machine.initrd = None;
        machine.append = String::new();
        // ACPI tables describe only one console. The DMA policy is the same as on the machine with two consoles.
        machine.serials = match machine.serials {
            Serials::InteractiveHost | Serials::InteractiveHostAndEl2 => Serials::InteractiveHost,
            Serials::Host | Serials::HostAndEl2 | Serials::Shared => Serials::Shared,
        };
        let disk = disk.to_str().context("the path of the work folder is not UTF-8")?.replace(',', ",,");
        machine.arg("-bios").arg(&self.firmware);
        machine.arg("-drive").arg(format!("file=fat:{disk},readonly=on,format=raw,if=none,id=esp"));
        machine.device(&format!("virtio-blk-pci,drive=esp,addr={SLOT},iommu_platform=on,disable-legacy=on,romfile="));
        Ok(())
    }

    /// Adds the expected output of the guest on such a machine.
    pub(crate) fn expect(expect: &mut Expect) {
        expect.values.push(("description", "acpi".to_owned()));
        expect.checks.extend(["firmware_variable", "firmware_clock"]);
    }
}

/// Links a file under another name, or copies it to another file system.
fn link(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(|_| ()))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn write(to: &Path, text: &str) -> Result<()> {
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}
