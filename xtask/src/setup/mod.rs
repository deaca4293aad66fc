//! What has to be on the machine before anything runs, put there without questions
//! and only if it is missing. What xtask may not install it names, with the command
//! to type.

pub(crate) mod apt;
pub(crate) mod debian;
pub(crate) mod headers;
pub(crate) mod qemu;
pub(crate) mod qemu_release;
pub(crate) mod rust;
pub(crate) mod system;
pub(crate) mod tools;

use std::fs::File;

use anyhow::{Context, Result};

use crate::checkout::Checkout;

/// Held while something is being installed or fetched, so that two xtasks at once
/// do not do it twice into the same folder.
pub(crate) struct SetupLock {
    _file: File,
}

impl SetupLock {
    /// Waits for any other xtask of this checkout to finish its set-up.
    ///
    /// # Errors
    /// When the lock file cannot be made under the build folder.
    pub(crate) fn take(checkout: &Checkout) -> Result<Self> {
        let path = checkout.work_dir("")?.join("setup.lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}
