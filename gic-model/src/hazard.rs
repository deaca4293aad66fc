//! Errors of software that the model tolerates, but hardware need not.

/// An error of software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hazard {
    /// An access outside the memory that was given to the GIC: its address, and the register or table that caused it.
    Foreign(u64, &'static str),
    /// A command that hardware may ignore or stall at.
    Command(u64, &'static str),
    /// A command with UNPREDICTABLE effect.
    Unpredictable(u64, &'static str),
    /// Address bits are set that must be zero: hardware may use another address.
    Unaligned(&'static str),
    /// A register was written while it is in use.
    InUse(&'static str),
    /// Software enabled an ITS that must remain disabled.
    Enabled,
    /// A pending table is not zero although GICR_PENDBASER.PTZ is 1.
    NotZero(u64),
}
