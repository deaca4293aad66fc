//! The audit of one SMMU: its shadow stream table, and the claims behind the host's queues.

use core::fmt;

use super::queue::HostQueue;
use crate::platform::{HostMemory, Platform};
use crate::smmu::Smmu;
use crate::strtab::audit::StrtabFinding;

/// What an audit found first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmmuFinding {
    /// The table that hardware reads lets a stream escape.
    Strtab(StrtabFinding),
    /// A queue is in use whose memory is not claimed any more.
    Unclaimed(&'static str),
}

impl fmt::Display for SmmuFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strtab(finding) => finding.fmt(f),
            Self::Unclaimed(queue) => write!(f, "the host's {queue} is in use and not claimed"),
        }
    }
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Checks that every stream is confined, and that the host's queues in use are still the host's.
    ///
    /// # Errors
    /// The first thing that is wrong: a defect of EL2. Nothing is changed.
    pub fn audit(&self, host: &H) -> Result<(), SmmuFinding> {
        self.strtab.audit().map_err(SmmuFinding::Strtab)?;
        for (queue, name) in [(&self.regs.cmdq, "command queue"), (&self.regs.eventq, "event queue")] {
            if let HostQueue::On(_, claim) = queue
                && host.read64(claim, 0).is_none()
            {
                return Err(SmmuFinding::Unclaimed(name));
            }
        }
        Ok(())
    }
}
