//! Installing packages on the build machine: only as root and without prompts; otherwise the error has the command.

use std::process::Command;

use anyhow::{Result, bail};

use crate::exec;
use crate::packages::debian::OsRelease;
use crate::progress::step;
use crate::work::WorkFolder;

/// Makes sure that `programs` can be run, installing `packages` if that is allowed.
///
/// # Errors
/// When a program is missing and may not be installed; the text has the command to type. `purpose` is the purpose of
/// the programs in this text.
pub fn ensure_programs(work: &WorkFolder, programs: &[&str], packages: &[&str], purpose: &str) -> Result<()> {
    if missing(programs).is_empty() {
        return Ok(());
    }
    let _lock = work.lock()?;
    // Another xtask may have installed them while this one waited.
    let missing = missing(programs).join(" and ");
    if missing.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let os = OsRelease::read();
    if !matches!(os.id.as_str(), "debian" | "ubuntu") {
        bail!("{purpose} needs {missing}: install your distribution's equivalent of Debian's {list}");
    }
    if !is_root() {
        bail!(
            "{purpose} needs {missing} and only root may install it: as root, run `apt-get update && apt-get install \
             {list}`, or run this command once as root"
        );
    }
    step("Updating the package lists", || apt_get(&["update"]))?;
    step(&format!("Installing {list}"), || {
        apt_get(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
    })
}

fn missing<'a>(programs: &[&'a str]) -> Vec<&'a str> {
    let runs = |program: &&&str| exec::output(Command::new(program).arg("--version")).is_ok();
    programs.iter().filter(|program| !runs(program)).copied().collect()
}

/// Runs the system's own apt-get, which waits for another one to finish.
///
/// # Errors
/// When it fails, with its output.
pub fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]).args(args);
    exec::output(&mut command).map(|_| ())
}

/// Whether packages may be installed.
pub fn is_root() -> bool {
    exec::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_run_is_missing() {
        assert_eq!(missing(&["sh-that-is-not-there", "true"]), ["sh-that-is-not-there"]);
    }
}
