//! Rust toolchain: the bare-metal target and the components that `check` needs.
//!
//! rust-toolchain.toml lists them, but rustup installs them only if automatic
//! installation is enabled, so they are added by name.

use std::process::Command;

use anyhow::{Context, Result, bail};
use test_machines::exec;
use test_machines::progress::step;

use crate::checkout::Checkout;

/// The target of everything that runs at EL2 or EL1 in the emulated machine.
pub(crate) const BARE_METAL: &str = "aarch64-unknown-none-softfloat";
/// The target of the loader that UEFI firmware starts.
pub(crate) const UEFI: &str = "aarch64-unknown-uefi";

/// Adds the targets of the emulated machine to the pinned toolchain if they are missing.
///
/// # Errors
/// When rustup is missing or cannot install it.
pub(crate) fn ensure_target(checkout: &Checkout) -> Result<()> {
    ensure(checkout, &[], "target", UEFI, UEFI)?;
    ensure(checkout, &[], "target", BARE_METAL, BARE_METAL)
}

/// Adds rustfmt and clippy to the pinned toolchain if they are missing.
///
/// # Errors
/// When rustup is missing or cannot install them.
pub(crate) fn ensure_lint_components(checkout: &Checkout) -> Result<()> {
    for (component, prefix) in [("rustfmt", "rustfmt"), ("clippy", "clippy")] {
        ensure(checkout, &[], "component", component, prefix)?;
    }
    Ok(())
}

/// Adds llvm-cov and llvm-profdata to the pinned toolchain if they are missing.
///
/// # Errors
/// When rustup is missing or cannot install them.
pub(crate) fn ensure_llvm_tools(checkout: &Checkout) -> Result<()> {
    ensure(checkout, &[], "component", "llvm-tools", "llvm-tools")
}

/// Adds Miri's components to `toolchain`, which must be installed: toolchains are not installed automatically.
///
/// # Errors
/// When rustup or the toolchain is missing, with the command to type, or a component cannot be installed.
pub(crate) fn ensure_miri(checkout: &Checkout, toolchain: &str) -> Result<()> {
    let listed = exec::output(Command::new("rustup").current_dir(checkout.root()).args(["toolchain", "list"]))
        .context("needs rustup: install it (rustup.rs)")?;
    if !listed.lines().any(|line| line.starts_with(toolchain)) {
        bail!(
            "needs a {toolchain} toolchain: `rustup toolchain install {toolchain} --profile minimal --component miri \
             --component rust-src`"
        );
    }
    for component in ["miri", "rust-src"] {
        ensure(checkout, &["--toolchain", toolchain], "component", component, component)?;
    }
    Ok(())
}

/// Installs another toolchain than the pinned one if it is missing.
///
/// # Errors
/// When rustup is missing or cannot install it.
pub(crate) fn ensure_toolchain(checkout: &Checkout, version: &str) -> Result<()> {
    let runs = || exec::output(Command::new("rustup").args(["run", version, "cargo", "--version"])).is_ok();
    if runs() {
        return Ok(());
    }
    let _lock = checkout.work().lock()?;
    step(&format!("Installing Rust {version}"), || {
        let mut rustup = Command::new("rustup");
        rustup.args(["toolchain", "install", version, "--profile", "minimal", "--no-self-update"]);
        exec::output(&mut rustup).context("needs rustup: install it (rustup.rs)")
    })?;
    Ok(())
}

fn ensure(checkout: &Checkout, toolchain: &[&str], kind: &str, name: &str, listed_as: &str) -> Result<()> {
    let rustup = || {
        let mut command = Command::new("rustup");
        command.current_dir(checkout.root());
        command
    };
    let remedy = || {
        format!(
            "needs rustup's {kind} `{name}`: install rustup (rustup.rs), then `rustup {kind} add {name} {}`",
            toolchain.join(" ")
        )
    };
    let listed = exec::output(rustup().args([kind, "list", "--installed"]).args(toolchain)).with_context(remedy)?;
    if listed.lines().any(|line| line.starts_with(listed_as)) {
        return Ok(());
    }
    let _lock = checkout.work().lock()?;
    step(&format!("Adding the Rust {kind} {name}"), || {
        exec::output(rustup().args([kind, "add", name]).args(toolchain)).with_context(remedy)
    })?;
    Ok(())
}
