//! The packages of the library crates: complete, buildable outside the workspace, under this project's licence.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use test_machines::exec;

use crate::checkout::Checkout;

/// The licence that every package of the workspace declares.
const LICENCE: &str = "MIT OR Apache-2.0";
/// Files of every published package besides its sources.
const FILES: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Packs the packages named by `options` (`-p NAME ...`) and builds the packed sources.
///
/// # Errors
/// When a package of the workspace declares another licence, or is published and not among these, or one of these lacks
/// a file or does not build.
pub(super) fn check(checkout: &Checkout, options: &[&str]) -> Result<()> {
    let mut cargo = checkout.cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata = serde_json::from_str(&exec::output(&mut cargo)?)?;
    let wrong = other_licences(&metadata)?;
    ensure!(wrong.is_empty(), "should declare `{LICENCE}`: {}", wrong.join(", "));
    let unchecked = published(&metadata)?.into_iter().filter(|name| !options.contains(&name.as_str()));
    let unchecked = unchecked.collect::<Vec<_>>();
    ensure!(unchecked.is_empty(), "published, but not a library of this check: {}", unchecked.join(", "));
    for name in options.iter().filter(|word| **word != "-p") {
        let mut cargo = checkout.cargo();
        cargo.args(["package", "--quiet", "--list", "--allow-dirty", "-p", name]);
        let listed = exec::output(&mut cargo)?;
        if let Some(gone) = FILES.iter().find(|file| !listed.lines().any(|line| line == **file)) {
            bail!("{name} would be published without {gone}");
        }
    }
    let folder = checkout.work_dir("package")?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    let mut cargo = checkout.cargo();
    cargo.args(["package", "--quiet", "--allow-dirty", "--no-verify"]).args(options);
    exec::output(cargo.env("CARGO_TARGET_DIR", &folder))?;
    build_packed(checkout, &folder.join("package"))
}

/// Unpacks every `.crate` file in `folder` and builds them as one workspace.
///
/// Cargo's own check would unpack them below its home folder, once for each version: after a change of one package the
/// others would be built with the old sources of that package.
fn build_packed(checkout: &Checkout, folder: &Path) -> Result<()> {
    let (mut members, mut patches) = (Vec::new(), String::new());
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let file = entry?.path();
        if file.extension().is_none_or(|extension| extension != "crate") {
            continue;
        }
        exec::output(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(folder))?;
        let packed = file.file_stem().and_then(|stem| stem.to_str()).context("a package's name is not UTF-8")?;
        let (name, _) = packed.rsplit_once('-').with_context(|| format!("{packed} has no version"))?;
        patches.push_str(&format!("{name} = {{ path = \"{packed}\" }}\n"));
        members.push(format!("\"{packed}\""));
    }
    ensure!(!members.is_empty(), "cargo package wrote no file in {}", folder.display());
    let manifest =
        format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n[patch.crates-io]\n{patches}", members.join(", "));
    fs::write(folder.join("Cargo.toml"), manifest).context("cannot write a workspace for the packed sources")?;
    fs::copy(checkout.root().join("Cargo.lock"), folder.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    let mut cargo = checkout.cargo();
    cargo.args(["check", "--quiet", "--workspace"]).current_dir(folder);
    exec::output(cargo.env("CARGO_TARGET_DIR", folder.join("target"))).map(|_| ())
}

/// Packages that declare another licence.
fn other_licences(metadata: &Value) -> Result<Vec<String>> {
    names(metadata, |package| package.get("license").and_then(Value::as_str) != Some(LICENCE))
}

/// Packages without `publish = false`.
fn published(metadata: &Value) -> Result<Vec<String>> {
    names(metadata, |package| package.get("publish").is_none_or(|to| to.as_array().is_none_or(|to| !to.is_empty())))
}

/// The names of the packages that `matching` accepts.
fn names(metadata: &Value, matching: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata lists no packages")?;
    let name = |package: &Value| package.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
    Ok(packages.iter().filter(|package| matching(package)).map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packages_must_declare_the_licence_of_the_project() {
        let package = |name: &str, licence: &str| serde_json::json!({"name": name, "license": licence});
        let metadata = serde_json::json!({"packages": [package("x", "MIT"), package("y", LICENCE), {"name": "z"}]});
        assert_eq!(other_licences(&metadata).ok(), Some(vec!["x".to_owned(), "z".to_owned()]));
        assert!(other_licences(&serde_json::json!({})).is_err());
    }

    #[test]
    fn a_package_is_published_unless_its_list_of_registries_is_empty() {
        let package = |name: &str, publish: Value| serde_json::json!({"name": name, "publish": publish});
        let (all, none, some) = (Value::Null, serde_json::json!([]), serde_json::json!(["x"]));
        let packages = [package("all", all), package("none", none), package("some", some)];
        let metadata = serde_json::json!({"packages": packages});
        assert_eq!(published(&metadata).ok(), Some(vec!["all".to_owned(), "some".to_owned()]));
    }
}
