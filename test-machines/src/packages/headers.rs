//! Prerequisites to build a module for Debian's kernel: headers and build tools, unpacked under the build folder,
//! and the system's cross compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::apt::{Kernel, PrivateApt, Release, Side, ensure_unpacked};
use crate::packages::system;
use crate::work::WorkFolder;

/// The prefix of the compiler's and the linker's names. On an arm64 machine the native ones also have it.
const PREFIX: &str = "aarch64-linux-gnu-";
/// The flavour that the tests boot.
const FLAVOUR: &str = "-arm64";

/// The headers of one kernel, ready for out-of-tree builds.
#[derive(Clone, Debug)]
pub struct Headers {
    /// Folder with `.config` and `Module.symvers`.
    flavour: PathBuf,
    /// Folder with the makefile of all flavours.
    common: PathBuf,
}

impl Headers {
    /// Fetches the headers of a kernel, and installs the compiler, unless they exist.
    ///
    /// # Errors
    /// When the archive has no headers of that version any more, or the compiler is missing and may not be installed;
    /// the text has the remedy.
    pub fn ensure(work: &WorkFolder, kernel: &Kernel) -> Result<Self> {
        let release = release(kernel)?;
        let names = Names::of(&release)?;
        let gcc = format!("{PREFIX}gcc");
        system::ensure_programs(
            work,
            &["make", &gcc],
            &["make", "gcc-aarch64-linux-gnu"],
            "the kernel module of the Linux tests",
        )?;
        let dir = work.dir("linux-headers")?.join(&release);
        ensure_unpacked(work, &dir, &format!("the headers of Linux {release}"), |into| {
            let guest = PrivateApt::prepare(work, Side::Guest, Release::Bookworm)?;
            let build = PrivateApt::prepare(work, Side::Build, Release::Bookworm)?;
            let fetched = guest
                .unpack(&names.flavour, into)
                .and_then(|()| guest.unpack(&names.common, into))
                .and_then(|()| build.unpack(&names.kbuild, into));
            fetched.with_context(|| {
                format!(
                    "no headers for the kernel {release} that was fetched earlier: remove {} to get the newest kernel, \
                     and run again",
                    work.path().join("linux").display()
                )
            })
        })?;
        let sources = dir.join("usr/src");
        Ok(Self { flavour: sources.join(&names.flavour), common: sources.join(&names.common) })
    }

    /// The command that builds the module in `folder`, which has a `Kbuild` file.
    pub fn make(&self, folder: &Path) -> Command {
        let mut make = Command::new("make");
        make.arg("-C").arg(&self.flavour).arg("-f").arg(self.common.join("Makefile"));
        make.arg(format!("M={}", folder.display()));
        make.args(["ARCH=arm64", &format!("CROSS_COMPILE={PREFIX}"), &format!("CC={PREFIX}gcc")]);
        // No BTF: it needs another program and is not used here.
        make.args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]);
        // Removes variables of an outer make or shell.
        for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARCH", "CROSS_COMPILE", "CC", "KBUILD_OUTPUT"] {
            make.env_remove(name);
        }
        make
    }
}

fn release(kernel: &Kernel) -> Result<String> {
    let name = kernel.modules.file_name().context("the kernel's folder of modules has no name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// The names of the packages, which are also those of their folders.
#[derive(Debug, Eq, PartialEq)]
struct Names {
    flavour: String,
    common: String,
    kbuild: String,
}

impl Names {
    fn of(release: &str) -> Result<Self> {
        let version = release
            .strip_suffix(FLAVOUR)
            .with_context(|| format!("{release} is not a plain arm64 kernel of Debian: its headers are not known"))?;
        Ok(Self {
            flavour: format!("linux-headers-{release}"),
            common: format!("linux-headers-{version}-common"),
            kbuild: format!("linux-kbuild-{version}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_three_packages_of_headers() {
        let names = Names {
            flavour: "linux-headers-6.12.117+deb12-arm64".into(),
            common: "linux-headers-6.12.117+deb12-common".into(),
            kbuild: "linux-kbuild-6.12.117+deb12".into(),
        };
        assert_eq!(Names::of("6.12.117+deb12-arm64").ok(), Some(names));
        assert!(Names::of("6.18.0-mine").is_err());
    }
}
