//! The defences that attacks are tested against, each with a patch that removes it.
//!
//! A test of an attack is useful only if it fails without its defence. No product build can disable one:
//! `xtask/defences/WORD.patch` removes it from a copy of the sources below `target/`, and that copy is built and
//! attacked. The first lines of the patch list the tests that must fail.

mod names;
pub(crate) mod patch;
mod tree;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::checkout::Checkout;

pub(crate) use patch::Defence;
use test_machines::exec;
pub(crate) use tree::Tree;

/// Folder of the patches, relative to the checkout's root.
const FOLDER: &str = "xtask/defences";

/// Every defence with a patch, sorted by name.
///
/// # Errors
/// When a patch has an invalid header.
pub(crate) fn all(checkout: &Checkout) -> Result<Vec<Defence>> {
    files(checkout)?.into_iter().map(|file| Defence::read(&file)).collect()
}

fn files(checkout: &Checkout) -> Result<Vec<PathBuf>> {
    let folder = checkout.root().join(FOLDER);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Checks that every patch applies to the current sources, and that the tests that it names exist.
///
/// # Errors
/// When patches do not apply any more or have invalid headers; the text lists them.
pub(crate) fn check(checkout: &Checkout) -> Result<()> {
    let mut stale = Vec::new();
    for file in files(checkout)? {
        let applies = Defence::read(&file).and_then(|defence| {
            let mut git = tree::git(checkout.root());
            git.args(["apply", "--check"]).arg(&defence.file);
            exec::output(&mut git)?;
            names::check(checkout.root(), &defence)
        });
        if let Err(error) = applies {
            stale.push(format!("{}: {error:#}", file.display()));
        }
    }
    ensure!(
        stale.is_empty(),
        "{} of the patches in {FOLDER} do not apply, or name a test that does not exist; regenerate each so that it \
         removes its defence again:\n{}",
        stale.len(),
        stale.join("\n")
    );
    Ok(())
}
