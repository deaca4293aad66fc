//! How a run of a machine ended.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};

/// How a machine ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// It ended itself.
    Exited(ExitStatus),
    /// It was still running after this long.
    Killed(Duration),
}

/// Result of a finished machine.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The time from its start to its end.
    pub took: Duration,
    /// The host's console.
    pub host_console: String,
    /// EL2's console; empty for a machine that has none.
    pub el2_console: String,
    /// QEMU's messages.
    pub qemu_messages: String,
    /// The folder with the consoles.
    pub dir: PathBuf,
}

impl Outcome {
    /// Returns an error if the machine was killed or QEMU itself failed.
    ///
    /// # Errors
    /// With the deadline or the status, QEMU's message and the folder of the consoles.
    pub fn require_clean_exit(&self) -> Result<()> {
        match self.end {
            End::Exited(status) if status.success() => Ok(()),
            End::Exited(status) => {
                bail!("QEMU ended with {status}: {} (consoles in {})", self.qemu_messages.trim(), self.dir.display())
            }
            End::Killed(deadline) => bail!(
                "still running after {} s and killed (consoles in {}; use a larger --timeout)",
                deadline.as_secs(),
                self.dir.display()
            ),
        }
    }
}
