//! QEMU, new enough to emulate an SMMU with two stages.
//!
//! Older versions start without an error but emulate a stage-1-only SMMU, so the version is checked first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::exec;
use crate::packages::debian::{KEYRING, Mirrors, OsRelease};
use crate::packages::qemu_release;
use crate::packages::system::{apt_get, is_root};
use crate::progress::{say, step};
use crate::two_smmus::Smmus;
use crate::work::WorkFolder;

/// First version whose SMMUv3 has nested translation.
const NEEDED: (u32, u32) = (9, 1);
const PROGRAM: &str = "qemu-system-aarch64";
const BACKPORTS_SUITE: &str = "bookworm-backports";
/// The apt source file that xtask writes, unless it exists.
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/portcullis-backports.sources";

/// Lowest version that `--qemu 11` fetches. It is the first with several SMMUs.
pub(crate) const NEWER: (u32, u32) = (11, 0);

/// Returns a QEMU that is new enough; installs the distribution's if that is
/// allowed. If `chosen` is a path, that QEMU is only checked; if it is `11`, QEMU 11 is fetched into the build folder.
///
/// # Errors
/// When there is no such QEMU and it may not be installed; the text has the command to type.
pub fn ensure(work: &WorkFolder, chosen: Option<&Path>) -> Result<PathBuf> {
    if chosen == Some(Path::new(qemu_release::NAME)) {
        return newer(work);
    }
    if let Some(path) = chosen {
        let version = version_of(path).map_err(|error| match error.downcast_ref::<io::Error>() {
            Some(_) => anyhow!("{error:#}; does the file in --qemu exist?"),
            None => error,
        })?;
        require(path, version)?;
        return Ok(path.to_owned());
    }
    let program = PathBuf::from(PROGRAM);
    if version_of(&program).is_ok_and(|version| version >= NEEDED) {
        return Ok(program);
    }
    let _lock = work.lock()?;
    // Another xtask may have installed QEMU while this one waited.
    if version_of(&program).is_ok_and(|version| version >= NEEDED) {
        return Ok(program);
    }
    install(&OsRelease::read())?;
    let version = version_of(&program)?;
    require(&program, version)?;
    say(&format!("{PROGRAM} {}.{} is installed", version.0, version.1));
    Ok(program)
}

/// QEMU 11 or newer: the installed QEMU if its version is 11 or newer, otherwise Debian 13's, which is fetched but not
/// installed.
///
/// # Errors
/// When it cannot be fetched or does not start.
pub fn newer(work: &WorkFolder) -> Result<PathBuf> {
    let program = PathBuf::from(PROGRAM);
    if version_of(&program).is_ok_and(|version| version >= NEWER) {
        return Ok(program);
    }
    let program = qemu_release::ensure(work)?;
    let version = version_of(&program)
        .with_context(|| format!("{} does not start: remove its folder and run again", program.display()))?;
    if version < NEWER {
        bail!("{} is version {}.{}: remove its folder and run again", program.display(), version.0, version.1);
    }
    Ok(program)
}

/// Whether this QEMU has the machines and CPU features of [`newer`].
#[must_use]
pub fn is_newer(qemu: &Path) -> bool {
    version_of(qemu).is_ok_and(|version| version >= NEWER)
}

/// As [`ensure`], for a machine with these SMMUs: two need [`newer`].
///
/// # Errors
/// As [`ensure`] and [`newer`]; a `chosen` one that is too old.
pub fn for_smmus(work: &WorkFolder, chosen: Option<&Path>, smmus: Smmus) -> Result<PathBuf> {
    let qemu = match (smmus, chosen) {
        (Smmus::Two, None) => newer(work)?,
        (Smmus::One | Smmus::Two, _) => ensure(work, chosen)?,
    };
    if smmus == Smmus::Two && version_of(&qemu)? < NEWER {
        bail!("{} has no machine with two SMMUs: use QEMU 11 or newer (--qemu 11)", qemu.display());
    }
    Ok(qemu)
}

fn require(path: &Path, version: (u32, u32)) -> Result<()> {
    if version < NEEDED {
        bail!(
            "{} is version {}.{}; nested SMMUv3 needs {}.{} or newer: install a newer \
             qemu-system-arm, or name one with --qemu FILE",
            path.display(),
            version.0,
            version.1,
            NEEDED.0,
            NEEDED.1
        );
    }
    Ok(())
}

pub(crate) fn version_of(program: &Path) -> Result<(u32, u32)> {
    let text = exec::output(Command::new(program).arg("--version"))?;
    parse_version(&text).with_context(|| format!("{} --version prints no version: is it QEMU?", program.display()))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, after) = text.split_once("version ")?;
    let mut numbers = after.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The source of this system's QEMU.
#[derive(Debug, Eq, PartialEq)]
enum Origin {
    /// Debian 12 ships 7.2; backports has 10.x.
    Backports,
    /// Newer Debian releases and Ubuntu ship a new enough one.
    Distribution,
    /// xtask does not know this system's package manager.
    Unknown,
}

fn origin(os: &OsRelease) -> Origin {
    match (os.id.as_str(), os.version.as_str()) {
        ("debian", "12") => Origin::Backports,
        ("debian" | "ubuntu", _) => Origin::Distribution,
        _ => Origin::Unknown,
    }
}

fn install(os: &OsRelease) -> Result<()> {
    let origin = origin(os);
    let (command, suite) = match origin {
        Origin::Backports => (format!("apt-get install -t {BACKPORTS_SUITE} qemu-system-arm"), Some(BACKPORTS_SUITE)),
        Origin::Distribution => ("apt-get install qemu-system-arm".to_owned(), None),
        Origin::Unknown => bail!(
            "{PROGRAM} {}.{} or newer is needed and this system ({}) is not one xtask can \
             install it on: install your distribution's QEMU for Arm, or name one with --qemu FILE",
            NEEDED.0,
            NEEDED.1,
            if os.id.is_empty() { "unknown" } else { &os.id },
        ),
    };
    if !is_root() {
        let enable = match origin {
            Origin::Backports => format!("enable the suite {BACKPORTS_SUITE} and "),
            Origin::Distribution | Origin::Unknown => String::new(),
        };
        bail!(
            "{PROGRAM} {}.{} or newer is needed and only root may install it: as root, {enable}run \
             `apt-get update && {command}`, or run this command once as root",
            NEEDED.0,
            NEEDED.1
        );
    }
    if origin == Origin::Backports {
        enable_backports()?;
    }
    step("Updating the package lists", || apt_get(&["update"]))?;
    step("Installing qemu-system-arm", || {
        let mut args = vec!["install", "--yes", "--no-install-recommends"];
        args.extend(suite.iter().flat_map(|suite| ["-t", suite]));
        args.push("qemu-system-arm");
        apt_get(&args)
    })
}

fn enable_backports() -> Result<()> {
    let path = Path::new(BACKPORTS_FILE);
    let wanted = backports_stanza(&Mirrors::of_system()?.main);
    if fs::read_to_string(path).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    fs::write(path, wanted).with_context(|| format!("cannot write {BACKPORTS_FILE}"))?;
    say(&format!("enabled {BACKPORTS_SUITE} in {BACKPORTS_FILE}"));
    Ok(())
}

fn backports_stanza(mirror: &str) -> String {
    format!("Types: deb\nURIs: {mirror}\nSuites: {BACKPORTS_SUITE}\nComponents: main\nSigned-By: {KEYRING}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_qemus_output() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(parse_version(debian), Some((10, 0)));
        assert_eq!(parse_version("QEMU emulator version 9.1.0"), Some((9, 1)));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn an_old_qemu_is_refused_with_its_version_and_a_remedy() {
        let text = require(Path::new("q"), (7, 2)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("7.2") && text.contains("--qemu"), "{text}");
        assert!(require(Path::new("q"), (9, 1)).is_ok());
        assert!(require(Path::new("q"), (11, 0)).is_ok());
    }

    #[test]
    fn a_missing_qemu_file_is_reported_with_its_option() -> Result<()> {
        let error = ensure(&WorkFolder::at("target".into()), Some(Path::new("/nonexist")));
        let text = error.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(text.contains("/nonexist") && text.ends_with("does the file in --qemu exist?"), "{text}");
        Ok(())
    }

    #[test]
    fn only_debian_12_needs_backports() {
        let os = |id: &str, version: &str| OsRelease { id: id.into(), version: version.into() };
        assert_eq!(origin(&os("debian", "12")), Origin::Backports);
        assert_eq!(origin(&os("debian", "13")), Origin::Distribution);
        assert_eq!(origin(&os("ubuntu", "24.04")), Origin::Distribution);
        assert_eq!(origin(&os("fedora", "42")), Origin::Unknown);
    }
}
