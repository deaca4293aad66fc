//! `cargo xtask msrv`: the oldest Rust version that each library crate builds with.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use test_machines::exec;
use test_machines::progress::step;

use crate::checkout::Checkout;
use crate::setup::rust;

/// Packages for which a Rust version older than the workspace's is declared.
const PACKAGES: [&str; 9] = [
    "io-pgtable",
    "host-access",
    "smmu-drv",
    "gic-guard",
    "shadow-s2",
    "mem-protect",
    "smmu-conformance",
    "smmu-model",
    "gic-model",
];

/// Check that the library crates build with the Rust version that they declare, and not with the one before
///
/// Installs the toolchains that it needs with rustup, in its minimal profile, and does not change the default.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
///
/// # Errors
/// When a toolchain cannot be installed, or a package does not build with its `rust-version`, or builds with an older
/// one.
pub(crate) fn main(checkout: &Checkout, _: &Args) -> Result<()> {
    let mut cargo = checkout.cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&exec::output(&mut cargo)?)?;
    let mut wrong = Vec::new();
    for package in PACKAGES {
        let version = declared(&metadata, package).with_context(|| format!("{package} declares no rust-version"))?;
        let before = before(&version).with_context(|| format!("{package}: `{version}` is not a version like 1.88"))?;
        for version in [&version, &before] {
            rust::ensure_toolchain(checkout, version)?;
        }
        step(&format!("Checking {package} with Rust {version} and {before}"), || {
            if let Err(error) = build(checkout, package, &version) {
                wrong.push(format!("{package} does not build with its rust-version {version}: {error:#}"));
            } else if build(checkout, package, &before).is_ok() {
                wrong.push(format!("{package} also builds with {before}: lower its rust-version"));
            }
            Ok(())
        })?;
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    println!("{} packages build with the Rust version that they declare, and not with the one before", PACKAGES.len());
    Ok(())
}

fn build(checkout: &Checkout, package: &str, version: &str) -> Result<()> {
    let mut cargo = checkout.cargo_of(version);
    cargo.args(["check", "--quiet", "--locked", "--ignore-rust-version", "-p", package]);
    cargo.env("CARGO_TARGET_DIR", checkout.work_dir(&format!("msrv/{version}"))?);
    exec::output(&mut cargo).map(|_| ())
}

fn declared(metadata: &Value, package: &str) -> Option<String> {
    let packages = metadata.get("packages")?.as_array()?;
    let found = packages.iter().find(|found| found.get("name").and_then(Value::as_str) == Some(package))?;
    found.get("rust_version")?.as_str().map(str::to_owned)
}

/// The version before `1.N`.
fn before(version: &str) -> Option<String> {
    let minor: u32 = version.strip_prefix("1.")?.parse().ok()?;
    Some(format!("1.{}", minor.checked_sub(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_before_has_a_minor_number_one_less() {
        assert_eq!(before("1.88").as_deref(), Some("1.87"));
        assert_eq!((before("1.88.1"), before("2"), before("1.0")), (None, None, None));
    }

    #[test]
    fn a_package_without_a_rust_version_is_recognised() {
        let metadata = serde_json::json!({"packages": [{"name": "a", "rust_version": "1.88"}, {"name": "b"}]});
        assert_eq!(declared(&metadata, "a").as_deref(), Some("1.88"));
        assert_eq!((declared(&metadata, "b"), declared(&metadata, "c")), (None, None));
    }
}
