//! Errors, with the state after each error.

use core::fmt;

use io_pgtable::{Ipa, MapError, UnmapError};

/// Why the snapshot failed. Pages mapped before the error stay mapped; the table must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// No memory for a table.
    NoMemory,
    /// Two ranges overlap at this address.
    Overlap(Ipa),
    /// The range at this address cannot be mapped in this table.
    Unmappable(Ipa),
}

/// Why a change of the IOMMU stage 2, or of the CPU stage 2 with the same ownership, failed. Nothing
/// changed, except after [`TableError::NotCompleted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// No memory for a table.
    NoMemory,
    /// A TLB or an SMMU did not complete an invalidation, in this or an earlier call. The pages are mapped as before
    /// and must stay with their owner, since the old translations may be in use.
    NotCompleted,
    /// A page to unmap was not mapped; the first one.
    NotMapped(Ipa),
    /// Something is mapped already at this address.
    Overlap(Ipa),
    /// The range cannot be mapped in this table.
    Unmappable,
}

impl From<MapError> for TableError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoMemory => Self::NoMemory,
            MapError::Overlap { iova, .. } => Self::Overlap(Ipa(iova.0)),
            MapError::Misaligned | MapError::OutOfRange | MapError::BadProt => Self::Unmappable,
        }
    }
}

impl From<UnmapError> for TableError {
    fn from(error: UnmapError) -> Self {
        match error {
            UnmapError::NoMemory => Self::NoMemory,
            UnmapError::NotMapped(iova) => Self::NotMapped(Ipa(iova.0)),
            UnmapError::Misaligned | UnmapError::OutOfRange => Self::Unmappable,
            UnmapError::Tlb(_) => Self::NotCompleted,
        }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory for the IOMMU stage 2"),
            Self::Overlap(ipa) => write!(f, "two ranges overlap at {ipa}"),
            Self::Unmappable(ipa) => write!(f, "the range at {ipa} cannot be mapped"),
        }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory for a table"),
            Self::NotCompleted => f.write_str("an SMMU did not complete an invalidation"),
            Self::NotMapped(ipa) => write!(f, "{ipa} is not mapped"),
            Self::Overlap(ipa) => write!(f, "{ipa} is mapped already"),
            Self::Unmappable => f.write_str("the range cannot be mapped"),
        }
    }
}

impl core::error::Error for SnapshotError {}
impl core::error::Error for TableError {}
