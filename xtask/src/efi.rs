//! `cargo xtask efi`: the loader for UEFI firmware.

use anyhow::Result;

use crate::checkout::Checkout;
use crate::images::{self, Isolation};

/// Build portcullis.efi, which starts EL2 from UEFI firmware
/// Prints the path of the file. Copy it to the EFI system partition and start it before the operating system's own boot
/// loader, as described in docs/boot.md.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
///
/// # Errors
/// When it does not build.
pub(crate) fn main(checkout: &Checkout, _: &Args) -> Result<()> {
    println!("{}", images::efi(checkout, Isolation::On)?.display());
    Ok(())
}
