//! Packages for the emulated machine, and for building its programs, fetched with apt without changing the
//! system: sources, lists and cache are under the build folder, and packages are only unpacked. Needs no root.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::packages::debian::{KEYRING, Mirrors};
use crate::progress::step;
use crate::work::WorkFolder;

/// A Debian kernel, unpacked.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The arm64 Image.
    pub image: PathBuf,
    /// `lib/modules/<version>`.
    pub modules: PathBuf,
}

/// Packages of newer kernels, which are split; older ones have a single package.
const KERNEL_PARTS: [&str; 3] = ["base", "binary", "modules"];

/// Fetches a Debian kernel of a release series (`6.1`, `6.12`) unless it exists.
///
/// # Errors
/// When apt is missing, no mirror of Debian is known, or no kernel of the series is found.
pub fn ensure_kernel(work: &WorkFolder, series: &str) -> Result<Kernel> {
    let dir = work.dir("linux")?.join(series);
    ensure_unpacked(work, &dir, &format!("Debian's Linux {series} for arm64"), |into| {
        let apt = PrivateApt::prepare(work, Side::Guest, Release::with_kernel(series))?;
        let names = apt.names("linux-")?;
        let package = newest_kernel(&names, series).with_context(|| {
            format!(
                "no kernel of series {series} in Debian's archives: try 6.1 or 6.12, which remain available, or --kernel FILE --initrd FILE"
            )
        })?;
        apt.unpack(&package, into)?;
        let version = package.trim_start_matches("linux-image-");
        let parts = KERNEL_PARTS.iter().map(|part| format!("linux-{part}-{version}"));
        parts.filter(|part| names.contains(part)).try_for_each(|part| apt.unpack(&part, into))
    })?;
    let modules_root = ["lib/modules", "usr/lib/modules"]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| path.is_dir())
        .with_context(|| format!("no modules in {}", dir.display()))?;
    let modules = only_entry(&modules_root, "")?;
    // Newer packages have the Image beside the modules.
    let image = match modules.join("vmlinuz") {
        beside if beside.is_file() => beside,
        _ => only_entry(&dir.join("boot"), "vmlinuz-")?,
    };
    Ok(Kernel { image, modules })
}

/// The folder with the device trees of an unpacked Debian kernel, and the kernel's version.
///
/// # Errors
/// As [`ensure_kernel`], or when the package has no device trees.
pub fn ensure_trees(work: &WorkFolder, series: &str) -> Result<(PathBuf, String)> {
    let kernel = ensure_kernel(work, series)?;
    let version = kernel.modules.file_name().context("a kernel without version")?.to_string_lossy().into_owned();
    let dir = work.dir("linux")?.join(series);
    // Newer packages have them beside the modules.
    let places = [dir.join(format!("usr/lib/linux-image-{version}")), kernel.modules.join("dtb")];
    let found = places.into_iter().find(|place| place.is_dir());
    Ok((found.with_context(|| format!("no device trees of Linux {version} in {}", dir.display()))?, version))
}

/// Fetches the static busybox for arm64 unless it exists; returns the program's path.
///
/// # Errors
/// As [`ensure_kernel`].
pub fn ensure_busybox(work: &WorkFolder) -> Result<PathBuf> {
    let dir = work.dir("busybox")?.join("arm64");
    ensure_unpacked(work, &dir, "busybox-static for arm64", |into| {
        PrivateApt::prepare(work, Side::Guest, Release::Bookworm)?.unpack("busybox-static", into)
    })?;
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| path.is_file())
        .with_context(|| format!("no busybox in {}: remove that folder and run again", dir.display()))
}

/// Fetches kexec for arm64 and the libraries that it needs, unless they exist; returns the folder.
///
/// # Errors
/// As [`ensure_kernel`].
pub fn ensure_kexec(work: &WorkFolder) -> Result<PathBuf> {
    let dir = work.dir("kexec")?.join("arm64");
    ensure_unpacked(work, &dir, "kexec-tools for arm64", |into| {
        PrivateApt::prepare(work, Side::Guest, Release::Bookworm)?.unpack_closure("kexec-tools", into)
    })?;
    Ok(dir)
}

/// Runs `fetch` in a temporary folder that is renamed to `dir` on success, unless `dir` exists.
///
/// # Errors
/// The errors of `fetch`, or when a folder cannot be created.
pub fn ensure_unpacked(
    work: &WorkFolder,
    dir: &Path,
    what: &str,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let _lock = work.lock()?;
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

/// The machine on which programs of the packages run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// In the emulated machine.
    Guest,
    /// On the build machine.
    Build,
}

impl Side {
    fn architecture(self) -> Result<String> {
        match self {
            Self::Guest => Ok("arm64".to_owned()),
            Self::Build => {
                let text = exec::output(Command::new("dpkg").arg("--print-architecture"))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}

/// Debian release of the packages, independent of the system's release.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Release {
    /// Debian 12: 6.1 is its own kernel, 6.12 comes from security or backports.
    Bookworm,
    /// Debian 13: the newest kernels and the newest QEMU are in its backports.
    Trixie,
}

impl Release {
    /// The release with a kernel series.
    fn with_kernel(series: &str) -> Self {
        match series {
            "6.1" | "6.12" => Self::Bookworm,
            _ => Self::Trixie,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    fn backports(self) -> String {
        format!("{}-backports", self.name())
    }

    /// The folder of the private apt with this release's lists.
    fn folder(self, side: Side) -> &'static str {
        match (self, side) {
            (Self::Bookworm, Side::Guest) => "apt",
            (Self::Bookworm, Side::Build) => "apt-build",
            (Self::Trixie, Side::Guest) => "apt-trixie",
            (Self::Trixie, Side::Build) => "apt-build-trixie",
        }
    }
}

/// An apt configuration independent of the system's packages.
pub struct PrivateApt {
    dir: PathBuf,
    architecture: String,
    release: Release,
}

impl PrivateApt {
    /// Creates its folders and reads the mirrors' package lists.
    ///
    /// # Errors
    /// When apt is missing, or no mirror of Debian is known or responds.
    pub fn prepare(work: &WorkFolder, side: Side, release: Release) -> Result<Self> {
        let elsewhere = match side {
            Side::Guest => {
                "kernels are fetched with apt from a Debian mirror that the system's own sources name; on this system \
                 pass --kernel FILE --initrd FILE"
            }
            Side::Build => "packages are fetched with apt from a Debian mirror in the system's own sources",
        };
        let mirrors = Mirrors::of_system().context(elsewhere)?;
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing: install debian-archive-keyring ({elsewhere})");
        }
        let dir = work.dir(release.folder(side))?;
        for folder in ["etc/preferences.d", "lists/partial", "cache/archives/partial", "state"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::write(dir.join("state/status"), "")?;
        fs::write(dir.join("sources.list"), sources(&mirrors, release))?;
        let apt = Self { dir, architecture: side.architecture()?, release };
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
            // The download user of an apt run by root cannot read folders below a home folder.
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
        exec::output(self.command("apt-get").args(["-q", "update"])).map(|_| ()).with_context(|| {
            format!(
                "apt cannot read the lists of Debian's {}: is the network up, and debian-archive-keyring new enough?",
                self.release.name()
            )
        })
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = exec::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Downloads a package and unpacks it into a folder.
    ///
    /// # Errors
    /// When there is no such package, or it cannot be fetched or unpacked.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let deb = self.download(package, into)?;
        exec::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(into))?;
        fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))
    }

    /// Downloads a package of the backports and all its dependencies, as if nothing were installed, and unpacks them
    /// into a folder.
    ///
    /// # Errors
    /// As [`PrivateApt::unpack`].
    pub fn unpack_closure(&self, package: &str, into: &Path) -> Result<()> {
        let archives = into.join("archives");
        fs::create_dir_all(archives.join("partial"))?;
        let mut apt = self.command("apt-get");
        apt.arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
        // Without recommended and essential packages. Download only, without the dpkg lock.
        apt.args(["-q", "--yes", "--download-only", "--no-install-recommends", "-o", "Debug::NoLocking=1"]);
        apt.args(["-t", &self.release.backports(), "install", package]);
        exec::output(&mut apt)?;
        for entry in fs::read_dir(&archives)? {
            let deb = entry?.path();
            if deb.extension().is_some_and(|ext| ext == "deb") {
                exec::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(into))?;
            }
        }
        fs::remove_dir_all(&archives).with_context(|| format!("cannot remove {}", archives.display()))
    }

    fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        exec::output(self.command("apt-get").current_dir(into).args(["-q", "download", package]))?;
        let found = fs::read_dir(into)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"));
        found.with_context(|| format!("apt-get download {package} did not write a package"))
    }
}

/// The sources.list of a release, with the suites of its kernels and programs.
fn sources(mirrors: &Mirrors, release: Release) -> String {
    let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n");
    let mut text = line(&mirrors.main, release.name());
    text.push_str(&line(&mirrors.main, &release.backports()));
    if let Some(security) = &mirrors.security {
        text.push_str(&line(security, &format!("{}-security", release.name())));
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
        let mut mirrors = Mirrors { main: "http://m.example/d".into(), security: None };
        let text = sources(&mirrors, Release::Bookworm);
        assert!(text.contains("http://m.example/d bookworm-backports main"));
        assert!(!text.contains("security"));
        mirrors.security = Some("http://m.example/s".into());
        assert!(sources(&mirrors, Release::Trixie).contains("http://m.example/s trixie-security main"));
    }
}
