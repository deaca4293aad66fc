//! Builds the fuzz targets with cargo-fuzz.
//!
//! No sanitizer: the code is safe Rust, and so the pinned stable compiler can be used. No comparison tracing: the
//! inputs have their own encoding, and the model would be twice as slow.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use test_machines::exec;
use test_machines::progress::step;

use crate::checkout::Checkout;

/// Version of cargo-fuzz that is installed if it is missing.
const CARGO_FUZZ: &str = "0.13.2";

/// The triple that targets are built for: libFuzzer runs on the build machine.
pub(super) fn host(checkout: &Checkout) -> Result<String> {
    let text = exec::output(Command::new("rustc").current_dir(checkout.root()).arg("-vV"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc reports no host")?.to_owned())
}

/// Builds every target from `sources`, which are those of `checkout` or a copy. Returns the folder of the programs.
///
/// # Errors
/// When there is no C++ compiler, cargo-fuzz cannot be installed, or a target does not compile.
pub(super) fn targets(checkout: &Checkout, sources: &Checkout) -> Result<PathBuf> {
    if exec::output(Command::new("c++").arg("--version")).is_err() {
        bail!("needs a C++ compiler, for libFuzzer: install one with the command `c++` (Debian: `apt install g++`)");
    }
    let tool = ensure_cargo_fuzz(checkout)?;
    let target = sources.work_dir("fuzz/build")?;
    let triple = host(checkout)?;
    step("Building the fuzz targets", || {
        let mut cargo = sources.cargo();
        cargo.env_remove("CARGO_TARGET_DIR").env("PATH", path_with(tool.as_deref())?);
        cargo.args([
            "fuzz",
            "build",
            "--sanitizer",
            "none",
            "--no-trace-compares",
            "--target",
            &triple,
            "--target-dir",
        ]);
        cargo.arg(&target);
        exec::output(&mut cargo)
    })?;
    Ok(target.join(triple).join("release"))
}

/// Folder of xtask's own cargo-fuzz; `None` if cargo-fuzz is already installed.
fn ensure_cargo_fuzz(checkout: &Checkout) -> Result<Option<PathBuf>> {
    if exec::output(checkout.cargo().args(["fuzz", "--version"])).is_ok() {
        return Ok(None);
    }
    let root = checkout.work_dir("tools")?;
    let folder = root.join("bin");
    if !folder.join("cargo-fuzz").is_file() {
        step(&format!("Installing cargo-fuzz {CARGO_FUZZ} into {}", root.display()), || {
            let mut cargo = checkout.cargo();
            cargo.args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"]).arg(&root);
            exec::output(cargo.env("CARGO_TARGET_DIR", checkout.work_dir("tools/build")?))
                .context("needs cargo-fuzz: `cargo install cargo-fuzz --locked`")
        })?;
    }
    Ok(Some(folder))
}

/// `PATH` with `folder` in front.
fn path_with(folder: Option<&Path>) -> Result<std::ffi::OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = folder.map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&old));
    std::env::join_paths(all).context("PATH cannot be extended")
}
