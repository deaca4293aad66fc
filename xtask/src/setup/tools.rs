//! Cargo subcommands from the package registry, each in one pinned version below target/, so that user-installed
//! versions are not replaced and every run uses the same one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use test_machines::exec;
use test_machines::progress::step;

use crate::checkout::Checkout;

/// How a subcommand is built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Build {
    /// Optimised, for long runs.
    Release,
    /// Not optimised, for runs of seconds: optimising takes minutes.
    Dev,
}

/// Builds `package` in `version` if it is missing, and returns the path of its program.
///
/// # Errors
/// When it cannot be fetched or built, with the output of the build and the command to type instead.
pub(crate) fn ensure(checkout: &Checkout, package: &str, version: &str, build: Build) -> Result<PathBuf> {
    let root = checkout.work_dir("tools")?.join(format!("{package}-{version}"));
    let program = root.join("bin").join(package);
    if program.is_file() {
        return Ok(program);
    }
    let _lock = checkout.work().lock()?;
    step(&format!("Building {package} {version}"), || {
        let mut cargo = checkout.cargo();
        cargo.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(&root).arg(package);
        match build {
            Build::Release => {}
            Build::Dev => {
                cargo.args(["--debug", "--no-default-features"]).env("CARGO_PROFILE_DEV_DEBUG", "false");
            }
        }
        cargo.env("CARGO_TARGET_DIR", checkout.work_dir("tools-build")?);
        exec::output(&mut cargo).with_context(|| {
            format!("needs {package} {version}: the package registry must be reachable, and a C compiler installed")
        })
    })?;
    Ok(program)
}
