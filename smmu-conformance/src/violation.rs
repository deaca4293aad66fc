//! The contracts, each by the name of its violation.

use core::fmt;

/// A contract that an implementation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// There is no memory for the check, at its beginning or after it gave everything back.
    NoMemory,
    /// A block is not aligned to its size, or says another size than it was allocated for.
    NotAligned,
    /// Two blocks that are allocated have bytes in common.
    Overlap,
    /// A new buffer is not zero, for the CPU or for the SMMU.
    NotZeroed,
    /// A new buffer has dirty lines: they are written back later, over what the SMMU wrote.
    DirtyLines,
    /// `clean` does not reach what the SMMU reads.
    CleanIgnored,
    /// `invalidate` leaves an old copy of what the SMMU wrote.
    InvalidateIgnored,
    /// `dsb` or `publish` does not order stores before what the SMMU reads.
    BarrierLeftOut,
    /// An access outside a buffer, or unaligned, was made.
    OutsideBuffer,
    /// The clock went backwards.
    TimeBackwards,
    /// The clock stands: a wait for hardware that does not answer would never end.
    TimeStands,
    /// Memory of the host could not be claimed.
    ClaimRefused,
    /// Memory that is not the host's, no memory at all, or a range that wraps around was claimed.
    ClaimedForeign,
    /// A claim that failed, or its pages before the one that was refused, still holds.
    ClaimLeft,
    /// A page changed its owner while it was claimed.
    OwnerChanged,
    /// `holds` does not say whether the pages of a claim are the host's and claimed.
    HoldsIsWrong,
    /// A page is still claimed when its last claim was released.
    ReleaseIgnored,
    /// A page is free while one of its claims was not released.
    ReleasedEarly,
    /// What the host wrote is not what was read, with the sharing of the claim.
    StaleRead,
    /// One read fetched more than once: a host could change what was checked. Or it fetched nothing, and the value is an old one.
    FetchedTwice,
    /// An access outside a claim, or unaligned, was made.
    OutsideClaim,
    /// What was written is not what the host reads, with the sharing of the claim.
    StoreLost,
    /// A write changed a byte beside it.
    NeighbourChanged,
    /// `ptr` gives another place for the same table, or one that is not aligned.
    PointerChanged,
    /// An SMMU, by its number, still uses a translation after its invalidation: one SMMU was left out, a part of the range, or the
    /// wait.
    OldTranslation(usize),
    /// The devices showed no old translation before the invalidation: the check would prove nothing.
    NothingCached,
    /// An invalidation failed, with nothing broken.
    Failed,
    /// An SMMU did not complete an invalidation, and the call says that it did.
    FailureHidden,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoMemory => "no memory for the check",
            Self::NotAligned => "a block is not aligned to its size, or has another size",
            Self::Overlap => "two allocated blocks overlap",
            Self::NotZeroed => "a new buffer is not zero",
            Self::DirtyLines => "a new buffer has dirty lines",
            Self::CleanIgnored => "a cleaned store is not seen by the SMMU",
            Self::InvalidateIgnored => "what the SMMU wrote is not read after an invalidation",
            Self::BarrierLeftOut => "a barrier does not order stores",
            Self::OutsideBuffer => "an access outside a buffer was made",
            Self::TimeBackwards => "the clock goes backwards",
            Self::TimeStands => "the clock stands",
            Self::ClaimRefused => "memory of the host cannot be claimed",
            Self::ClaimedForeign => "a claim of what is not the host's succeeds",
            Self::ClaimLeft => "a refused claim holds pages",
            Self::OwnerChanged => "a claimed page changes its owner",
            Self::HoldsIsWrong => "`holds` is wrong",
            Self::ReleaseIgnored => "a release does not end its claim",
            Self::ReleasedEarly => "a release ends another claim",
            Self::StaleRead => "a read does not see what the host wrote",
            Self::FetchedTwice => "a read does not fetch exactly once",
            Self::OutsideClaim => "an access outside a claim was made",
            Self::StoreLost => "the host does not see a store",
            Self::NeighbourChanged => "a store changes bytes beside it",
            Self::PointerChanged => "a table's pointer changes or is not aligned",
            Self::OldTranslation(smmu) => {
                return write!(f, "SMMU {smmu} uses an old translation after its invalidation");
            }
            Self::NothingCached => "the devices show no old translation before an invalidation",
            Self::Failed => "an invalidation fails",
            Self::FailureHidden => "the failure of an SMMU is not reported",
        };
        f.write_str(text)
    }
}

impl core::error::Error for Violation {}
