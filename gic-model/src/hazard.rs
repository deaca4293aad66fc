//! Errors of software that the model tolerates, but hardware need not.

/// An error of software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hazard {
    /// An access outside the memory that was given to the GIC: its address, and why it was made.
    Foreign(u64, &'static str),
    /// A command that hardware may ignore or stall at.
    Command(u64, &'static str),
    /// A command with UNPREDICTABLE effect.
    Unpredictable(u64, &'static str),
    /// Address bits are set that have to be zero: hardware may use another address.
    Unaligned(&'static str),
    /// A register was written while it is in use.
    InUse(&'static str),
    /// An ITS was enabled after software was to leave it off.
    Enabled,
    /// A pending table that was said to be zero is not.
    NotZero(u64),
}
