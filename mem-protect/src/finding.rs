//! Findings of an audit or of the ghost. Each is a defect of EL2.

use core::fmt;

use io_pgtable::Ipa;
use smmu_drv::SmmuFinding;

use crate::page::Owner;
use crate::transition::Transition;

/// The table that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The host's CPU stage 2.
    Cpu,
    /// The IOMMU stage 2.
    Dma,
    /// The table of a guest's devices.
    Guest,
}

/// How a table differs from the ownership map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A page of the table's owner is not mapped: the owner has no access, and nobody else has.
    Missing,
    /// Something is mapped that the table's owner neither owns nor was given as a device: the invariant is broken.
    Foreign,
    /// A leaf maps to another address (not the identity): the invariant may be broken.
    NotIdentity,
    /// RAM mapped as a device, or a device mapped as RAM.
    WrongKind,
}

/// Owner and sharing of a page according to the specification: the ghost's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// Page of the host, not shared.
    #[default]
    Host,
    /// Page of the host, shared with EL2.
    SharedWithHyp,
    /// Page of the host, shared with the guest with this handle.
    SharedWithGuest(u8),
    /// Page of EL2 since boot.
    HypBoot,
    /// Page of EL2, donated by the host.
    HypDonated,
    /// Page of the guest with this handle.
    Guest(u8),
    /// Page without an owner: reserved by firmware.
    Nobody,
}

/// The first mismatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A page in a stage-2 table differs from the ownership map.
    Table {
        /// The table.
        table: Table,
        /// The page, as the table's input address.
        ipa: Ipa,
        /// Its owner in the map.
        owner: Owner,
        /// The kind of mismatch.
        what: Mismatch,
    },
    /// A finding of an SMMU's audit.
    Smmu(SmmuFinding),
    /// A transition succeeded that the specification refuses for this page.
    Forbidden {
        /// The transition.
        transition: Transition,
        /// Page number.
        pfn: u64,
        /// The page's state before the transition.
        was: Option<Page>,
    },
    /// The ownership map has another owner or borrower for this page than the specification.
    Differs {
        /// Page number.
        pfn: u64,
        /// Its state according to the specification.
        expected: Page,
        /// Owner in the map.
        owner: Owner,
    },
    /// After a transition, a table still maps a page that the host no longer owns, or does not map one that it owns.
    Reach {
        /// The transition.
        transition: Transition,
        /// Page number.
        pfn: u64,
        /// The table.
        table: Table,
    },
    /// A guest was created although its handle was in use, or destroyed although it did not exist.
    GuestState(u64),
}

impl From<SmmuFinding> for Finding {
    fn from(finding: SmmuFinding) -> Self {
        Self::Smmu(finding)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { table, ipa, owner, what } => {
                write!(f, "audit: {table:?} stage 2 at {ipa}: {what:?}, owner {owner:?}")
            }
            Self::Smmu(finding) => finding.fmt(f),
            Self::Forbidden { transition, pfn, was } => {
                write!(f, "{} of page {pfn:#x} succeeded, but the page was {was:?}", transition.name())
            }
            Self::Differs { pfn, expected, owner } => {
                write!(f, "page {pfn:#x} should be {expected:?}, but its owner is {owner:?}")
            }
            Self::Reach { transition, pfn, table } => {
                write!(f, "after {} the {table:?} stage 2 is wrong for page {pfn:#x}", transition.name())
            }
            Self::GuestState(handle) => {
                write!(f, "guest {handle} was created while in use, or destroyed while not in use")
            }
        }
    }
}
