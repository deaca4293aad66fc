//! Why a transition was refused. Owners, tables and claims are unchanged, unless the description of the error says
//! otherwise.

use core::fmt;

/// The errors of the ownership transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The range is empty, longer than the limit of one call, or past the end of the address space.
    BadRange,
    /// Some page is not RAM, or the range spans two ranges of RAM.
    NotRam,
    /// Some page is not in the state that the transition starts from.
    WrongState,
    /// EL2 uses some page on the host's behalf (a queue, a table), which must be disabled first.
    Claimed,
    /// Some page has the maximum number of claims.
    TooManyClaims,
    /// Some page is allocated from EL2's pool.
    InUse,
    /// There is no memory for a table.
    NoMemory,
    /// No guest has this handle.
    NoSuchGuest,
    /// The guest was destroyed and still has pages: it cannot get more.
    GuestDying,
    /// The guest was not destroyed: its pages cannot be reclaimed.
    GuestAlive,
    /// Every guest handle is in use.
    TooManyGuests,
    /// An SMMU did not complete an invalidation in time, in this or an earlier call.
    NotCompleted,
    /// A table does not match the ownership map: a bug in EL2.
    Inconsistent,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRange => "page range empty, too long or past the address space",
            Self::NotRam => "page range is not within one range of RAM",
            Self::WrongState => "page in another state than the call requires",
            Self::Claimed => "page in use by EL2 on the host's behalf",
            Self::TooManyClaims => "page has the maximum number of claims",
            Self::InUse => "page in use by EL2",
            Self::NoMemory => "no memory for a table",
            Self::NoSuchGuest => "no such guest",
            Self::GuestDying => "guest was destroyed",
            Self::GuestAlive => "guest was not destroyed",
            Self::TooManyGuests => "no free guest handle",
            Self::NotCompleted => "an SMMU did not complete an invalidation",
            Self::Inconsistent => "tables and ownership disagree",
        })
    }
}

impl core::error::Error for Error {}
