//! Errors of hardware and of take-over.

use core::fmt;

use crate::platform::Frame;

/// Why an ITS has failed. A failed ITS is disabled if it responds, and never written again; its memory is never freed;
/// the host sees that CREADR does not advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItsError {
    /// The queue did not consume its commands within the bound.
    Timeout,
    /// The queue keeps stalling.
    Stalls,
    /// The ITS did not become quiescent, or its Enabled bit did not change.
    NoAck,
    /// The ITS lost its registers while it was enabled, or they do not read back after they were written again.
    Lost,
}

impl fmt::Display for ItsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "commands were not consumed in time",
            Self::Stalls => "the command queue keeps stalling",
            Self::NoAck => "GITS_CTLR was not acknowledged",
            Self::Lost => {
                "its registers were lost by a power-off or reset, with data that it had not written to memory"
            }
        })
    }
}

impl core::error::Error for ItsError {}

/// Why a take-over failed. ITSs that were written are disabled, and their registers may refer to memory that was freed:
/// the host must not get access to any frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOverError {
    /// More ITSs or redistributors than [`crate::limits`] has room for.
    TooMany,
    /// The pool is empty.
    NoMemory,
    /// EnableLPIs of this redistributor cannot be cleared: tables of earlier software are in use.
    LpisOn(usize),
    /// GICR_CTLR.RWP of this redistributor stays 1: it may still write memory.
    RdBusy(usize),
    /// GICR_VPENDBASER of this redistributor stays valid, or dirty: a vPE of earlier software is resident.
    RdResident(usize),
    /// The base registers of this redistributor do not read back the addresses or the INTID bits of EL2's tables.
    RdUnusable(usize),
    /// This ITS did not become quiescent.
    Busy(usize),
    /// This ITS has no physical LPIs, has fewer collections than there are redistributors, or accepts no table or
    /// queue of EL2.
    Unusable(usize),
}

impl fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("more ITSs or redistributors than are supported"),
            Self::NoMemory => f.write_str("no memory for interrupt tables; give EL2 a larger pool"),
            Self::LpisOn(n) => write!(
                f,
                "redistributor {n}: LPIs are enabled and cannot be disabled: start from a reset of the machine, and have \
                 the boot loader leave GICR_CTLR.EnableLPIs at 0"
            ),
            Self::RdBusy(n) => write!(
                f,
                "redistributor {n}: GICR_CTLR.RWP stays 1, so it may still write to memory: start from a reset of the \
                 machine"
            ),
            Self::RdResident(n) => write!(
                f,
                "redistributor {n}: a virtual CPU stays resident (GICR_VPENDBASER): start from a reset of the machine"
            ),
            Self::RdUnusable(n) => write!(
                f,
                "redistributor {n} does not keep the addresses or the INTID bits of its LPI tables: give EL2 a pool at \
                 lower addresses"
            ),
            Self::Busy(n) => write!(f, "ITS {n} does not become quiescent"),
            Self::Unusable(n) => {
                write!(f, "ITS {n} has no physical LPIs, too few collections, or accepts no table or queue of EL2")
            }
        }
    }
}

impl core::error::Error for TakeOverError {}

/// The first error of an audit: a defect of EL2, or of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicFinding {
    /// A table of EL2 is not in EL2's memory. The fields are the frame, and the register or table with its address.
    NotOwned(Frame, &'static str),
    /// A register does not have the value that EL2 wrote.
    Changed(Frame, &'static str),
}

impl fmt::Display for GicFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwned(frame, what) => write!(f, "{frame:?}: {what} is not in EL2's memory"),
            Self::Changed(frame, what) => write!(f, "{frame:?}: {what} is not as EL2 wrote it"),
        }
    }
}
