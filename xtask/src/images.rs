//! Builds the images for the emulated machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use test_machines::exec;
use test_machines::images::flatten_file;
use test_machines::linux::variant::Hypervisor;
use test_machines::progress::step;

use crate::checkout::Checkout;
use crate::setup::rust::{self, BARE_METAL, UEFI};

/// The profile for releases, tests and benchmarks.
const RELEASE: &str = "release";
/// The profile of single-use images for `threats`: fast to link.
const QUICK: &str = "quick";

/// Whether the hypervisor or the host controls the SMMU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Isolation {
    /// The product: EL2 controls the SMMU.
    On,
    /// The host uses the SMMU directly: only for the demonstration and the tests.
    Off,
    /// The product with `--features ghost`: it audits itself after every trap (slow).
    Ghost,
}

/// Builds the hypervisor; returns the file QEMU boots.
///
/// # Errors
/// When it does not compile; the error has the compiler's output.
pub(crate) fn hyp(checkout: &Checkout, isolation: Isolation) -> Result<PathBuf> {
    match isolation {
        Isolation::On => bare_metal(checkout, "hyp", "hyp", RELEASE, &[]),
        Isolation::Off => bare_metal(checkout, "hyp", "hyp-no-isolation", RELEASE, &["--features", "no-isolation"]),
        Isolation::Ghost => bare_metal(checkout, "hyp", "hyp-ghost", RELEASE, &["--features", "ghost"]),
    }
}

/// Builds the hypervisor for a boot of Linux.
///
/// # Errors
/// As [`hyp()`].
pub(crate) fn portcullis(checkout: &Checkout) -> Result<Hypervisor> {
    hyp(checkout, Isolation::On).map(Hypervisor::Portcullis)
}

/// Builds `portcullis.efi`, which has the hypervisor in it; returns its path.
///
/// # Errors
/// As [`hyp()`].
pub(crate) fn efi(checkout: &Checkout, isolation: Isolation) -> Result<PathBuf> {
    let hyp = hyp(checkout, isolation)?;
    let built = uefi(checkout, "uefi-loader", "portcullis", Some(&hyp))?;
    let name = hyp.file_stem().unwrap_or_default().to_string_lossy().replace("hyp", "portcullis");
    let file = checkout.work_dir("images")?.join(format!("{name}.efi"));
    std::fs::copy(&built, &file).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(file)
}

/// Builds the application that starts `portcullis.efi` and attacks; returns its path.
///
/// # Errors
/// As [`hyp()`].
pub(crate) fn efi_attack(checkout: &Checkout) -> Result<PathBuf> {
    uefi(checkout, "uefi-attack", "uefi-attack", None)
}

/// Builds the program `bin` of `package` for UEFI, with the image of EL2 that it contains.
fn uefi(checkout: &Checkout, package: &str, bin: &str, image: Option<&Path>) -> Result<PathBuf> {
    rust::ensure_target(checkout)?;
    step(&format!("Building {bin}.efi"), || {
        let mut cargo = checkout.cargo();
        cargo.args(["build", "--quiet", "--profile", RELEASE, "--target", UEFI, "-p", package, "--bin", bin]);
        if let Some(image) = image {
            cargo.env("PORTCULLIS_IMAGE", image);
        }
        exec::output(&mut cargo).map(|_| ()).with_context(|| format!("{bin}.efi does not build"))
    })?;
    Ok(checkout.target().join(UEFI).join(RELEASE).join(format!("{bin}.efi")))
}

/// Builds the hypervisor with which the host uses the SMMU directly.
///
/// # Errors
/// As [`hyp()`].
pub(crate) fn without_isolation(checkout: &Checkout) -> Result<Hypervisor> {
    hyp(checkout, Isolation::Off).map(Hypervisor::WithoutIsolation)
}

/// Builds the hypervisor from a copy of the sources, for one run of an attack; returns the file QEMU boots.
///
/// # Errors
/// As [`hyp()`].
pub(crate) fn hyp_of(copy: &Checkout, name: &str) -> Result<PathBuf> {
    bare_metal(copy, "hyp", name, QUICK, &[])
}

/// Builds the EL1 test payload; returns the file EL2 boots as its host.
///
/// # Errors
/// As [`hyp()`].
pub(crate) fn payload(checkout: &Checkout) -> Result<PathBuf> {
    bare_metal(checkout, "payload", "payload", RELEASE, &[])
}

fn bare_metal(checkout: &Checkout, package: &str, image: &str, profile: &str, more: &[&str]) -> Result<PathBuf> {
    rust::ensure_target(checkout)?;
    step(&format!("Building {image}"), || {
        let mut cargo = checkout.cargo();
        cargo
            .args(["build", "--quiet", "--profile", profile, "--target", BARE_METAL])
            .args(["-p", package, "--bin", package])
            .args(more);
        exec::output(&mut cargo).map(|_| ()).with_context(|| format!("{image} does not build"))
    })?;
    let elf = checkout.target().join(BARE_METAL).join(profile).join(package);
    let file = checkout.work_dir("images")?.join(format!("{image}.bin"));
    flatten_file(&elf, &file)?;
    Ok(file)
}
