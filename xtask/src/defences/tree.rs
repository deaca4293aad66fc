//! A copy of the sources from which a defence is removed.
//!
//! It is below `target/` and has its own build folder. Only files that differ are written, so that cargo
//! builds only the changed crates again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use test_machines::exec;

use super::Defence;
use crate::checkout::Checkout;

/// The copy: the current sources with one patch applied.
pub(crate) struct Tree {
    original: PathBuf,
    copy: Checkout,
}

impl Tree {
    /// Updates the copy from the checkout, uncommitted changes included.
    ///
    /// # Errors
    /// When the sources cannot be listed (by `git ls-files`) or copied.
    pub(crate) fn new(checkout: &Checkout) -> Result<Self> {
        let area = checkout.work_dir("without")?;
        let copy = Checkout::at(area.join("sources"), area.join("target"));
        let tree = Self { original: checkout.root().to_owned(), copy };
        tree.restore()?;
        Ok(tree)
    }

    /// The copy, for building.
    pub(crate) fn checkout(&self) -> &Checkout {
        &self.copy
    }

    /// Updates the copy and removes only `defence`.
    ///
    /// # Errors
    /// When the patch does not apply.
    pub(crate) fn remove(&self, defence: &Defence) -> Result<()> {
        self.restore()?;
        let mut git = git(self.copy.root());
        git.arg("apply").arg(&defence.file);
        exec::output(&mut git).map(|_| ()).with_context(|| format!("{} does not apply", defence.file.display()))
    }

    /// Restores the copy to the current sources.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(crate) fn restore(&self) -> Result<()> {
        let mut git = git(&self.original);
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = exec::output(&mut git)?;
        let mut wanted = BTreeSet::new();
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let from = self.original.join(name);
            // The file is deleted, and the deletion is not committed yet.
            if !from.is_file() {
                continue;
            }
            wanted.insert(PathBuf::from(name));
            update(&from, &self.copy.root().join(name)).with_context(|| format!("cannot copy {name}"))?;
        }
        remove_others(self.copy.root(), Path::new(""), &wanted)
            .with_context(|| format!("cannot clean {}", self.copy.root().display()))
    }
}

/// Writes `to` only if it differs from `from`.
fn update(from: &Path, to: &Path) -> io::Result<()> {
    let content = fs::read(from)?;
    match fs::read(to) {
        Ok(present) if present == content => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
        }
        Err(error) => return Err(error),
    }
    // Not fs::copy, which would keep the time of the original: cargo compares times.
    fs::write(to, content)
}

/// Removes files left by a patch or by an earlier state of the sources.
fn remove_others(root: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            remove_others(root, &name, wanted)?;
        } else if !wanted.contains(&name) {
            fs::remove_file(root.join(&name))?;
        }
    }
    Ok(())
}

/// Git in `folder` as its work tree, even inside another repository.
pub(super) fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder);
    if let Some(parent) = folder.parent() {
        git.env("GIT_CEILING_DIRECTORIES", parent);
    }
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_different_files_are_written_and_left_over_files_are_removed() {
        let area = std::env::temp_dir().join(format!("portcullis-tree-{}", std::process::id()));
        let (from, to) = (area.join("from"), area.join("to"));
        fs::create_dir_all(&from).expect("folder");
        fs::write(from.join("same"), "1").expect("file");
        update(&from.join("same"), &to.join("a/same")).expect("copy");
        let written = |name: &str| fs::metadata(to.join(name)).and_then(|data| data.modified()).expect("time");
        let before = written("a/same");
        update(&from.join("same"), &to.join("a/same")).expect("copy");
        assert_eq!(written("a/same"), before);
        fs::write(from.join("same"), "2").expect("file");
        update(&from.join("same"), &to.join("a/same")).expect("copy");
        assert_eq!(fs::read_to_string(to.join("a/same")).expect("file"), "2");
        fs::write(to.join("a/other"), "x").expect("file");
        remove_others(&to, Path::new(""), &[PathBuf::from("a/same")].into()).expect("clean");
        assert!(to.join("a/same").exists() && !to.join("a/other").exists());
        fs::remove_dir_all(&area).expect("clean");
    }
}
