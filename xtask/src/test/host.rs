//! Tests that run on the build machine: the libraries, the hypervisor's own library and
//! the tools.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use test_machines::exec;

use crate::checkout::Checkout;
use crate::setup::rust;
use crate::test::results::TestResults;

/// A package whose tests all boot machines: they are a separate suite.
const MACHINES: &str = "qemu-tests";

/// Runs all tests: one suite per package.
pub(crate) fn run(checkout: &Checkout, results: &mut TestResults) {
    let packages = match default_members(checkout) {
        Ok(packages) => packages,
        Err(error) => return results.fail("host tests", &format!("{error:#}")),
    };
    // A test of the bare-metal example links it, and needs the target.
    if let Err(error) = rust::ensure_target(checkout) {
        return results.fail("host tests", &format!("{error:#}"));
    }
    // The hypervisor's binary does not link for the build machine; its library does.
    for package in packages.iter().map(String::as_str).filter(|package| *package != MACHINES).chain(["hyp"]) {
        let mut cargo = checkout.cargo();
        cargo.args(["test", "--no-fail-fast", "-p", package]);
        if package == "hyp" {
            cargo.arg("--lib");
        }
        results.cargo_test(package, &mut cargo);
    }
}

/// Runs the tests that parse QEMU's device trees.
pub(crate) fn run_with_qemu(checkout: &Checkout, qemu: &Path, results: &mut TestResults) {
    let mut cargo = checkout.cargo();
    cargo.args(["test", "-p", "hyp", "--lib", "qemus_", "--", "--ignored"]).env("PORTCULLIS_QEMU", qemu);
    results.cargo_test("hyp, QEMU's device trees", &mut cargo);
}

/// The packages that build for the build machine: the workspace's default members.
fn default_members(checkout: &Checkout) -> Result<Vec<String>> {
    let mut cargo = checkout.cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&exec::output(&mut cargo)?)?;
    names(&metadata).context("cargo metadata does not list the workspace's members")
}

fn names(metadata: &Value) -> Option<Vec<String>> {
    let members = metadata.get("workspace_default_members")?.as_array()?;
    let packages = metadata.get("packages")?.as_array()?;
    let name_of = |id: &Value| {
        let package = packages.iter().find(|package| package.get("id") == Some(id))?;
        package.get("name")?.as_str().map(str::to_owned)
    };
    members.iter().map(name_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_default_members_are_tested_on_the_build_machine() {
        let metadata = serde_json::json!({
            "packages": [{"id": "x#1", "name": "x"}, {"id": "y#1", "name": "y"}],
            "workspace_default_members": ["y#1"],
        });
        assert_eq!(names(&metadata), Some(vec!["y".to_owned()]));
    }
}
