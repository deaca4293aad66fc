//! Files for the emulated machine: an initramfs with busybox, the modules it needs and
//! the script that does the checks, and disks with known content.

pub mod cpio;
pub mod disks;
pub mod initramfs;
pub mod modules;
pub mod programs;

use std::fs;
use std::path::Path;
use std::{process, thread};

use anyhow::{Context, Result};

/// Writes `bytes` to a file atomically: another machine may be booting from it.
///
/// # Errors
/// When it cannot be written.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let partial = path.with_extension(format!("partial-{}-{:?}", process::id(), thread::current().id()));
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
