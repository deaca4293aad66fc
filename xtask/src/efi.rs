//! `cargo xtask efi`: the loader for UEFI firmware.

use anyhow::Result;

use crate::checkout::Checkout;
use crate::images::{self, Isolation};

/// Build portcullis.efi, which puts EL2 below running UEFI firmware
///
/// Copy it to the EFI system partition and start it before the operating system's own boot loader; docs/boot.md says
/// how. Prints its path.
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
