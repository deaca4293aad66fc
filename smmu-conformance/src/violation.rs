//! The contracts; each violation has a name.

use core::fmt;

/// A violation of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// There is no memory for the check, at its start or after it released everything.
    NoMemory,
    /// A block is not aligned to its size, or reports another size than the allocation.
    NotAligned,
    /// Two allocated blocks overlap.
    Overlap,
    /// A new buffer is not zero, for the CPU or for the SMMU.
    NotZeroed,
    /// A new buffer has dirty lines: they may be written back later, over data of the SMMU.
    DirtyLines,
    /// After `clean`, the SMMU does not read the stored value.
    CleanIgnored,
    /// After `invalidate`, the CPU reads an old copy and not the SMMU's data.
    InvalidateIgnored,
    /// `dsb` or `publish` does not order stores before the SMMU's reads.
    BarrierMissing,
    /// An access outside a buffer, or unaligned, was made.
    OutsideBuffer,
    /// The clock went backwards.
    TimeBackwards,
    /// The clock does not advance: a wait for hardware that does not respond would never end.
    ClockStopped,
    /// Memory of the host could not be claimed.
    ClaimRefused,
    /// A claim succeeded for memory that the host does not own, an empty range, or a range that wraps around.
    ClaimedForeign,
    /// Pages of a failed claim are still claimed.
    PagesStillClaimed,
    /// A page changed its owner while it was claimed.
    OwnerChanged,
    /// `holds` does not return whether the pages of a claim are owned by the host and claimed.
    HoldsIsWrong,
    /// A page is still claimed when its last claim was released.
    ReleaseIgnored,
    /// A page can be taken from the host while one of its claims is not released.
    ReleasedEarly,
    /// A read does not return the value that the host wrote with the sharing of the claim.
    StaleRead,
    /// One read fetched the word more than once, so that a host could change a checked value, or not at all.
    FetchedTwice,
    /// An access outside a claim, or unaligned, was made.
    OutsideClaim,
    /// With the sharing of the claim, the host does not read the written value.
    StoreLost,
    /// A write changed an adjacent byte.
    NeighbourChanged,
    /// `ptr` returns different addresses for the same table, or an unaligned one.
    PointerChanged,
    /// An SMMU, by its number, still uses a translation after its invalidation: the invalidation omitted this SMMU, a
    /// part of the range, or the wait.
    OldTranslation(usize),
    /// The devices showed no old translation before the invalidation: the check would have no meaning.
    NothingCached,
    /// An invalidation failed although the SMMUs work.
    Failed,
    /// An SMMU did not complete an invalidation, and the call returned success.
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
            Self::InvalidateIgnored => "data of the SMMU is not read after an invalidation",
            Self::BarrierMissing => "a barrier does not order stores",
            Self::OutsideBuffer => "an access outside a buffer was made",
            Self::TimeBackwards => "the clock goes backwards",
            Self::ClockStopped => "the clock does not advance",
            Self::ClaimRefused => "memory of the host cannot be claimed",
            Self::ClaimedForeign => "a claim of memory that the host does not own succeeds",
            Self::PagesStillClaimed => "the pages of a failed claim stay claimed",
            Self::OwnerChanged => "a claimed page changes its owner",
            Self::HoldsIsWrong => "`holds` is wrong",
            Self::ReleaseIgnored => "a release does not end its claim",
            Self::ReleasedEarly => "a release ends another claim",
            Self::StaleRead => "a read does not see what the host wrote",
            Self::FetchedTwice => "a read does not fetch exactly once",
            Self::OutsideClaim => "an access outside a claim was made",
            Self::StoreLost => "the host does not see a store",
            Self::NeighbourChanged => "a store changes adjacent bytes",
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
