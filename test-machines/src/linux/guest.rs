//! The guest system: Debian's kernel with the ramdisk of the tests, or a kernel of the user.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::guest::initramfs::{self, Extras, Kexec};
use crate::linux::module;
use crate::packages::apt::{self, Kernel};
use crate::work::WorkFolder;

/// The system that boots.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Name for titles.
    pub name: String,
    series: Option<String>,
    /// An arm64 Image.
    pub kernel: PathBuf,
    /// Its ramdisk.
    pub initrd: Option<PathBuf>,
    /// The script that runs in it.
    pub script: Script,
}

/// Whether the guest runs the script of the tests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Script {
    /// The script of the tests.
    OfTheTests,
    /// Another program: only EL2's result is checked.
    Unknown,
}

impl Guest {
    /// Debian's kernel of a series with the initramfs of the tests.
    ///
    /// # Errors
    /// When something cannot be fetched.
    pub fn debian(work: &WorkFolder, series: &str) -> Result<Self> {
        let kernel = apt::ensure_kernel(work, series)?;
        Self::of(work, series, &kernel, "", Extras::default())
    }

    /// As [`Guest::debian`], with the test module, built from `sources`, in the initramfs.
    ///
    /// # Errors
    /// When something cannot be fetched, or the module cannot be built.
    pub fn debian_with_module(work: &WorkFolder, sources: &Path, series: &str) -> Result<Self> {
        let kernel = apt::ensure_kernel(work, series)?;
        let module = module::build(work, sources, &kernel)?;
        let extras = Extras { module: Some(&module), ..Extras::default() };
        Self::of(work, series, &kernel, "-module", extras)
    }

    /// As [`Guest::debian`], with kexec, the module and a second copy of the kernel.
    ///
    /// # Errors
    /// As [`Guest::debian_with_module`].
    pub fn debian_with_kexec(work: &WorkFolder, sources: &Path, series: &str) -> Result<Self> {
        let kernel = apt::ensure_kernel(work, series)?;
        let module = module::build(work, sources, &kernel)?;
        let extras = Extras { module: Some(&module), ..Extras::default() };
        let next = Self::of(work, series, &kernel, "-module", extras)?;
        let packages = apt::ensure_kexec(work)?;
        let initrd = next.initrd.context("Debian's kernel without a ramdisk")?;
        let kexec = Kexec { packages: &packages, kernel: &next.kernel, initrd: &initrd };
        let extras = Extras { module: Some(&module), kexec: Some(kexec) };
        Self::of(work, series, &kernel, "-kexec", extras)
    }

    fn of(work: &WorkFolder, series: &str, kernel: &Kernel, variant: &str, extras: Extras<'_>) -> Result<Self> {
        let busybox = apt::ensure_busybox(work)?;
        let dir = work.dir(&format!("guest/{series}{variant}"))?;
        let initrd = initramfs::build(&dir, &busybox, &kernel.modules, extras)?;
        Ok(Self {
            name: format!("Linux {series}"),
            series: Some(series.to_owned()),
            kernel: kernel.image.clone(),
            initrd: Some(initrd),
            script: Script::OfTheTests,
        })
    }

    /// Whether the kernel's SMMU driver has the option `disable_bypass`, which later drivers lack.
    pub fn has_disable_bypass(&self) -> bool {
        self.series.as_deref() == Some("6.1")
    }

    /// A kernel and a ramdisk of the user.
    ///
    /// # Errors
    /// When a file does not exist.
    pub fn own(kernel: &Path, initrd: Option<&Path>) -> Result<Self> {
        for (option, file) in [("--kernel", Some(kernel)), ("--initrd", initrd)] {
            if let Some(file) = file.filter(|file| !file.is_file()) {
                bail!("{option}: {} is not a file", file.display());
            }
        }
        Ok(Self {
            name: kernel.display().to_string(),
            series: None,
            kernel: kernel.canonicalize()?,
            initrd: initrd.map(Path::canonicalize).transpose()?,
            script: Script::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_reported_with_its_option() {
        let (here, gone) = (Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")), Path::new("/nonexist"));
        let why = |kernel, initrd| Guest::own(kernel, initrd).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(why(gone, None), Err("--kernel: /nonexist is not a file".to_owned()));
        assert_eq!(why(here, Some(gone)), Err("--initrd: /nonexist is not a file".to_owned()));
        assert_eq!(why(here, Some(here)), Ok(()));
    }
}
