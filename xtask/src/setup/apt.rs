//! Packages for the emulated machine, and those that build something for it, fetched
//! with apt but without touching the system: sources, lists and cache live under the
//! build folder, and nothing is installed, only unpacked. Needs no root.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::checkout::Checkout;
use crate::exec;
use crate::progress::step;
use crate::setup::SetupLock;
use crate::setup::debian::{KEYRING, Mirrors};

/// A Debian kernel, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The arm64 Image.
    pub(crate) image: PathBuf,
    /// `lib/modules/<version>`.
    pub(crate) modules: PathBuf,
}

/// Fetches a Debian kernel of a release series (`6.1`, `6.12`) unless it is there.
///
/// # Errors
/// When apt is missing, no mirror of Debian is known, or nothing of the series is found.
pub(crate) fn ensure_kernel(checkout: &Checkout, series: &str) -> Result<Kernel> {
    let dir = checkout.work_dir("linux")?.join(series);
    ensure_unpacked(checkout, &dir, &format!("Debian's Linux {series} for arm64"), |into| {
        let apt = PrivateApt::prepare(checkout, Side::Guest)?;
        let names = apt.names(&format!("linux-image-{series}."))?;
        let package = newest_kernel(&names, series).with_context(|| {
            format!(
                "no kernel of series {series} in Debian 12's archives: try 6.1 or 6.12, or --kernel FILE --initrd FILE"
            )
        })?;
        apt.unpack(&package, into)
    })?;
    let image = only_entry(&dir.join("boot"), "vmlinuz-")?;
    let modules_root = ["lib/modules", "usr/lib/modules"]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| path.is_dir())
        .with_context(|| format!("no modules in {}", dir.display()))?;
    let modules = only_entry(&modules_root, "")?;
    Ok(Kernel { image, modules })
}

/// Fetches the static busybox for arm64 unless it is there; returns the program's path.
///
/// # Errors
/// As [`ensure_kernel`].
pub(crate) fn ensure_busybox(checkout: &Checkout) -> Result<PathBuf> {
    let dir = checkout.work_dir("busybox")?.join("arm64");
    ensure_unpacked(checkout, &dir, "busybox-static for arm64", |into| {
        PrivateApt::prepare(checkout, Side::Guest)?.unpack("busybox-static", into)
    })?;
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| path.is_file())
        .with_context(|| format!("no busybox in {}: remove that folder and run again", dir.display()))
}

/// Has `fetch` fill a folder that becomes `dir`, all or nothing, unless that is there.
///
/// # Errors
/// Those of `fetch`, or when a folder cannot be made.
pub(crate) fn ensure_unpacked(
    checkout: &Checkout,
    dir: &Path,
    what: &str,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let _lock = SetupLock::take(checkout)?;
    if dir.is_dir() {
        return Ok(());
    }
    step(&format!("Fetching {what}"), || {
        let partial = dir.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        fetch(&partial)?;
        fs::rename(&partial, dir).with_context(|| format!("cannot move {} into place", partial.display()))
    })
}

/// Where the packages' programs run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// In the emulated machine.
    Guest,
    /// On the machine that builds.
    Build,
}

impl Side {
    fn folder(self) -> &'static str {
        match self {
            Self::Guest => "apt",
            Self::Build => "apt-build",
        }
    }

    fn architecture(self) -> Result<String> {
        match self {
            Self::Guest => Ok("arm64".to_owned()),
            Self::Build => {
                let said = exec::output(Command::new("dpkg").arg("--print-architecture"))?;
                Ok(said.trim().to_owned())
            }
        }
    }
}

/// An apt that knows nothing of the system's packages.
pub(crate) struct PrivateApt {
    dir: PathBuf,
    architecture: String,
}

impl PrivateApt {
    /// Makes its folders and reads the mirrors' package lists.
    ///
    /// # Errors
    /// When apt is missing, or no mirror of Debian is known or answers.
    pub(crate) fn prepare(checkout: &Checkout, side: Side) -> Result<Self> {
        let elsewhere = "kernels are fetched with apt from a Debian mirror that the system's own \
                         sources name; on this system pass --kernel FILE --initrd FILE";
        let mirrors = Mirrors::of_system().context(elsewhere)?;
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing: install debian-archive-keyring ({elsewhere})");
        }
        let dir = checkout.work_dir(side.folder())?;
        for folder in ["etc/preferences.d", "lists/partial", "cache/archives/partial", "state"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::write(dir.join("state/status"), "")?;
        fs::write(dir.join("sources.list"), sources(&mirrors))?;
        let apt = Self { dir, architecture: side.architecture()? };
        apt.update()?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |name: &str| self.dir.join(name).display().to_string();
        let options = [
            format!("Dir::Etc={}", path("etc")),
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State={}", path("state")),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::State::status={}", path("state/status")),
            format!("Dir::Cache={}", path("cache")),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            // The download user of a root apt cannot read folders below a home.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        for option in options {
            command.arg("-o").arg(option);
        }
        command
    }

    fn update(&self) -> Result<()> {
        exec::output(self.command("apt-get").args(["-q", "update"]))
            .map(|_| ())
            .context("apt cannot read the mirror's package lists: is the network up?")
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let said = exec::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Downloads a package and unpacks it into a folder.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be fetched or unpacked.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let deb = self.download(package, into)?;
        exec::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(into))?;
        fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))
    }

    fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        exec::output(self.command("apt-get").current_dir(into).args(["-q", "download", package]))?;
        let found = fs::read_dir(into)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"));
        found.with_context(|| format!("apt-get download {package} left no package"))
    }
}

/// The suites of Debian 12: 6.1 is its own kernel, 6.12 comes from security or
/// backports. Used on any Debian, whose mirrors keep older releases.
fn sources(mirrors: &Mirrors) -> String {
    let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n");
    let mut text = line(&mirrors.main, "bookworm");
    text.push_str(&line(&mirrors.main, "bookworm-backports"));
    if let Some(security) = &mirrors.security {
        text.push_str(&line(security, "bookworm-security"));
    }
    text
}

/// The newest plain kernel package of a series, among flavours, debug and unsigned ones.
fn newest_kernel(names: &[String], series: &str) -> Option<String> {
    let plain = |name: &&String| {
        name.strip_prefix("linux-image-")
            .and_then(|rest| rest.strip_suffix("-arm64"))
            .and_then(|version| version.strip_prefix(series))
            .is_some_and(|rest| {
                rest.starts_with('.')
                    && rest.split(['-', '+']).all(|part| {
                        let digits = part.strip_prefix("deb").unwrap_or(part);
                        let digits = digits.strip_prefix("bpo").unwrap_or(digits);
                        digits.chars().all(|c| c.is_ascii_digit() || c == '.')
                    })
            })
    };
    names.iter().filter(plain).max_by(|a, b| natural_order(a, b)).cloned()
}

/// Compares names with their numbers as numbers: 6.12.117 is after 6.12.95.
fn natural_order(a: &str, b: &str) -> Ordering {
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn only_entry(dir: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| format!("nothing named {prefix}* in {}: remove the folder and run again", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_newest_plain_kernel_is_chosen_by_number() {
        let offered = names(&[
            "linux-image-6.12.95+deb12-arm64",
            "linux-image-6.12.117+deb12-arm64",
            "linux-image-6.12.117+deb12-rt-arm64",
            "linux-image-6.12.118+deb12-cloud-arm64",
            "linux-image-6.12.119+deb12-arm64-unsigned",
            "linux-image-6.12.120+deb12-arm64-dbg",
            "linux-image-6.12-arm64",
        ]);
        assert_eq!(newest_kernel(&offered, "6.12").as_deref(), Some("linux-image-6.12.117+deb12-arm64"));
    }

    #[test]
    fn a_series_is_not_a_prefix_of_another() {
        let offered =
            names(&["linux-image-6.12.95+deb12-arm64", "linux-image-6.1.0-9-arm64", "linux-image-6.1.0-56-arm64"]);
        assert_eq!(newest_kernel(&offered, "6.1").as_deref(), Some("linux-image-6.1.0-56-arm64"));
        assert_eq!(newest_kernel(&offered, "5.10"), None);
    }

    #[test]
    fn the_private_sources_use_the_systems_mirrors() {
        let text = sources(&Mirrors { main: "http://m.example/d".into(), security: None });
        assert!(text.contains("http://m.example/d bookworm-backports main"));
        assert!(!text.contains("security"));
    }
}
