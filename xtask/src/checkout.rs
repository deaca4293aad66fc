//! Paths: every path that xtask uses is derived from the checkout, so that
//! a command does the same in any folder of it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use test_machines::work::WorkFolder;

/// The checkout that this xtask was built from, and its build folder.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    root: PathBuf,
    target: PathBuf,
    work: WorkFolder,
}

impl Checkout {
    /// Finds the checkout from the manifest folder that cargo sets for the programs it runs.
    ///
    /// # Errors
    /// When the folder of the workspace cannot be resolved.
    pub(crate) fn find() -> Result<Self> {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root =
            manifest.join("..").canonicalize().with_context(|| format!("no checkout around {}", manifest.display()))?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir()?.join(dir),
            None => root.join("target"),
        };
        Ok(Self::at(root, target))
    }

    /// A copy of the checkout: its sources at `root`, its build folder at `target`.
    pub(crate) fn at(root: PathBuf, target: PathBuf) -> Self {
        let work = WorkFolder::at(target.join("portcullis"));
        Self { root, target, work }
    }

    /// The workspace's root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The sources of the kernel module of the Linux tests.
    pub(crate) fn test_module(&self) -> PathBuf {
        self.root.join("linux-tests/portcullis_test")
    }

    /// Cargo's build folder: `target/`, or the value of `CARGO_TARGET_DIR`.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// xtask's own folder below the build folder: downloads, images for machines and results.
    pub(crate) fn work(&self) -> &WorkFolder {
        &self.work
    }

    /// A folder in xtask's folder, created if it is missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn work_dir(&self, name: &str) -> Result<PathBuf> {
        self.work.dir(name)
    }

    /// A cargo command in the workspace's root, with the build folder that xtask uses.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        self.prepare(&mut command);
        command
    }

    /// A cargo command of another toolchain than the pinned one, which needs its own build folder.
    pub(crate) fn cargo_of(&self, toolchain: &str) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", toolchain, "cargo"]);
        self.prepare(&mut command);
        // These variables contain the programs of the pinned toolchain.
        for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        command
    }

    /// A cargo subcommand's program, run in the workspace's root.
    pub(crate) fn tool(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // Cargo sets these for the programs that it runs; inherited, they would describe xtask
        // instead of the package that is built.
        for (name, _) in env::vars_os() {
            let name_str = name.to_string_lossy();
            if name_str.starts_with("CARGO_PKG_") || name_str.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
    }
}
