//! UEFI firmware for the emulated machine: Debian's build of EDK2, fetched but not installed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::packages::apt::{PrivateApt, Release, Side, ensure_unpacked};
use crate::work::WorkFolder;

const PACKAGE: &str = "qemu-efi-aarch64";
/// The firmware, in the package and in the folder that is kept.
const IMAGE: &str = "usr/share/qemu-efi-aarch64/QEMU_EFI.fd";
/// Images for two flash banks, 64 MiB each; QEMU fills the banks itself.
const PADDED: &str = "usr/share/AAVMF";

/// Fetches the firmware unless it exists; returns the file for QEMU's `-bios`.
///
/// # Errors
/// When apt is missing, or no mirror of Debian is known or responds.
pub fn ensure(work: &WorkFolder) -> Result<PathBuf> {
    let dir = work.dir("")?.join("firmware");
    ensure_unpacked(work, &dir, "UEFI firmware for arm64", |into| {
        PrivateApt::prepare(work, Side::Guest, Release::Trixie)?.unpack(PACKAGE, into)?;
        let padded = into.join(PADDED);
        fs::remove_dir_all(&padded).with_context(|| format!("cannot remove {}", padded.display()))
    })?;
    let image = dir.join(IMAGE);
    let missing = || format!("no {} in {}: remove that folder and run again", IMAGE, dir.display());
    image.is_file().then_some(image).with_context(missing)
}
