//! `cargo xtask check`: all static checks of the sources.

mod packages;
mod panics;
mod unsafe_inventory;

use anyhow::{Result, bail};
use test_machines::exec;
use test_machines::progress::{say, step};

use crate::checkout::Checkout;
use crate::defences;
use crate::deny;
use crate::setup::rust::{self, BARE_METAL, UEFI};

/// Check formatting, lints, documentation, the unsafe inventory, dependencies, packages, patches and panics
///
/// All checks run even if one fails. The first run builds cargo-deny, which takes minutes. `cargo xtask check --fix`
/// formats the sources and adds new modules with unsafe code, and new panics that a host can reach, to the lists; you
/// add the reasons.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Format the sources, and add new entries to the lists of unsafe modules and panics
    #[arg(long)]
    fix: bool,
}

/// Whether a check only reports or also fixes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    /// Report only.
    Report,
    /// Fix the findings.
    Fix,
}

/// Crates without hardware access: they are linted for both targets.
const LIBRARIES: [&str; 14] = [
    "-p",
    "io-pgtable",
    "-p",
    "host-access",
    "-p",
    "smmu-drv",
    "-p",
    "gic-guard",
    "-p",
    "shadow-s2",
    "-p",
    "mem-protect",
    "-p",
    "smmu-conformance",
];

/// Runs the command.
///
/// # Errors
/// When a check fails, with the number of failed checks; findings are printed immediately.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    rust::ensure_target(checkout)?;
    rust::ensure_lint_components(checkout)?;
    let action = if args.fix { Action::Fix } else { Action::Report };
    let mut failed: Vec<&str> = Vec::new();
    let mut all = 0;
    let mut run_check = |name: &'static str, result: Result<()>| {
        all += 1;
        if let Err(error) = result {
            say(&format!("{name}: {error:#}"));
            failed.push(name);
        }
    };
    run_check("formatting", formatting(checkout, action));
    for (name, arguments) in lints() {
        run_check(
            name,
            step(&format!("Checking {name}"), || {
                let mut cargo = checkout.cargo();
                cargo.arg("clippy").args(["--quiet", "--no-deps", "--keep-going"]).args(&arguments);
                cargo.args(["--", "-D", "warnings"]);
                // A program for UEFI contains EL2's image; the lints need any existing file.
                cargo.env("PORTCULLIS_IMAGE", checkout.root().join("Cargo.toml"));
                exec::output(&mut cargo).map(|_| ())
            }),
        );
    }
    for (name, arguments) in docs() {
        run_check(
            name,
            step(&format!("Checking {name}"), || {
                let mut cargo = checkout.cargo();
                cargo.env("RUSTDOCFLAGS", "-D warnings");
                cargo
                    .args(["doc", "--quiet", "--no-deps", "--keep-going", "--document-private-items"])
                    .args(&arguments);
                exec::output(&mut cargo).map(|_| ())
            }),
        );
    }
    run_check("the unsafe inventory", unsafe_inventory::check(checkout, action));
    run_check("dependencies", step("Checking licences and sources of dependencies", || deny::check(checkout)));
    say(deny::NO_ADVISORIES);
    run_check(
        "packages of the library crates",
        step("Checking that the library crates can be published", || packages::check(checkout, &LIBRARIES)),
    );
    run_check(
        "patches that remove defences",
        step("Checking the patches that remove defences", || defences::check(checkout)),
    );
    run_check("panics that a host can reach", panics::check(checkout, action));
    if failed.is_empty() {
        println!("{all} checks passed");
        return Ok(());
    }
    bail!("{} of {all} checks failed: {}", failed.len(), failed.join(", "))
}

fn formatting(checkout: &Checkout, action: Action) -> Result<()> {
    step("Checking formatting", || {
        let mut cargo = checkout.cargo();
        cargo.args(["fmt", "--all"]);
        if action == Action::Report {
            cargo.arg("--check");
        }
        exec::output(&mut cargo).map(|_| ())
    })
}

type Run = (&'static str, Vec<&'static str>);

fn lints() -> [Run; 5] {
    let bare =
        || vec!["--target", BARE_METAL, "-p", "hyp", "-p", "payload", "-p", "example-partitions", "--lib", "--bins"];
    let mut libraries = vec!["--target", BARE_METAL, "--lib"];
    libraries.extend(LIBRARIES);
    let with = |feature| vec!["--target", BARE_METAL, "-p", "hyp", "--lib", "--bins", "--features", feature];
    let mut bare = bare();
    bare.extend(LIBRARIES);
    [
        // As an editor does: every target of every package.
        ("lints for the build machine", vec!["--workspace", "--all-targets"]),
        ("lints for aarch64", bare),
        ("lints without isolation", with("no-isolation")),
        ("lints of the ghost build", with("ghost")),
        ("lints for UEFI", vec!["--target", UEFI, "-p", "uefi-loader", "-p", "uefi-attack", "--lib", "--bins"]),
    ]
}

fn docs() -> [Run; 2] {
    [
        ("documentation", vec![]),
        ("documentation for aarch64", vec!["--target", BARE_METAL, "-p", "hyp", "-p", "payload"]),
    ]
}
