//! Errors after take-over. CERROR_* codes, which the host reads, have another type:
//! [`crate::spec::registers::Cerror`].

use core::fmt;

/// Why an SMMU is failed.
///
/// A failed SMMU stays failed: it is not programmed again, later invalidations return the same error immediately, and
/// no page that it can reach may change its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmmuError {
    /// EL2's command queue did not consume a CMD_SYNC within the timeout.
    SyncTimeout,
    /// EL2's command queue kept reporting errors after recovery.
    CommandRejected,
    /// The SMMU is in service failure mode (GERROR.SFM_ERR).
    ServiceFailure,
    /// The SMMU lost its programming and could not be programmed again.
    Reset,
}

impl fmt::Display for SmmuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SyncTimeout => "CMD_SYNC did not complete in time",
            Self::CommandRejected => "the command queue keeps rejecting commands",
            Self::ServiceFailure => "the SMMU is in service failure mode",
            Self::Reset => "the SMMU lost its state and could not be programmed again",
        })
    }
}

impl core::error::Error for SmmuError {}
