//! cargo-deny: licences, sources and bans of every dependency, and the advisories about them. Its rules are in deny.toml.

use anyhow::{Context, Result};
use test_machines::exec;

use crate::checkout::Checkout;
use crate::setup::tools::{self, Build};

const VERSION: &str = "0.20.2";
/// The fuzz targets are a separate workspace.
const WORKSPACES: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

/// Printed when advisories are not checked.
pub(crate) const NO_ADVISORIES: &str =
    "advisories about dependencies were not checked: run `cargo xtask advisories` where github.com is reachable";

/// Check the dependencies against the advisories of RustSec
///
/// The database is a git repository on GitHub, which must be reachable; `cargo xtask check` therefore does not use it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
///
/// # Errors
/// When the database cannot be fetched, or a dependency has an advisory or was withdrawn.
pub(crate) fn main(checkout: &Checkout, _: &Args) -> Result<()> {
    let program = tools::ensure(checkout, "cargo-deny", VERSION, Build::Dev)?;
    let mut fetch = checkout.tool(&program);
    fetch.args(["fetch", "db"]);
    exec::output(&mut fetch).context("no advisory was checked: run this where github.com is reachable")?;
    for manifest in WORKSPACES {
        let mut deny = checkout.tool(&program);
        deny.args(["--manifest-path", manifest, "check", "--disable-fetch", "advisories"]);
        exec::output(&mut deny).with_context(|| format!("a dependency of {manifest} has an advisory"))?;
    }
    println!("no advisory about a dependency");
    Ok(())
}

/// Checks the licences and sources of all dependencies.
///
/// # Errors
/// When a dependency violates deny.toml; the text is cargo-deny's message.
pub(crate) fn check(checkout: &Checkout) -> Result<()> {
    let program = tools::ensure(checkout, "cargo-deny", VERSION, Build::Dev)?;
    for manifest in WORKSPACES {
        let mut deny = checkout.tool(&program);
        deny.args(["--locked", "--manifest-path", manifest, "check", "licenses", "bans", "sources"]);
        exec::output(&mut deny).with_context(|| format!("a dependency of {manifest} violates deny.toml"))?;
    }
    Ok(())
}
