//! The folder in the build folder with all downloads, images and results of machines.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder for downloads, images and results.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkFolder {
    root: PathBuf,
}

impl WorkFolder {
    /// The folder at `root`, which need not exist yet.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// A folder in this folder, created if it is missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }

    /// Waits for any other process that installs or fetches files into this folder.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn lock(&self) -> Result<SetupLock> {
        let path = self.dir("")?.join("setup.lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(SetupLock { _file: file })
    }
}

/// Held during an installation or download, so that two processes do not install or fetch the same files into the same
/// folder.
#[derive(Debug)]
pub struct SetupLock {
    _file: File,
}
