//! Errors, each with the state it leaves.

use core::fmt;

use io_pgtable::{Ipa, MapError};

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

/// Why a revocation failed. The pages stay with their owner in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeError {
    /// No memory for a table; nothing changed.
    NoMemory,
    /// An SMMU did not complete an invalidation, now or in an earlier call. Devices may still reach the pages.
    NotCompleted,
    /// The pages were not all mapped; the first that was not. Nothing changed.
    NotMapped(Ipa),
    /// The range cannot be mapped in this table; nothing changed.
    Unmappable,
}

/// Why a grant failed. No device reaches any page of the range that it did not reach before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// No memory for a table.
    NoMemory,
    /// Something is mapped at this address already.
    Overlap(Ipa),
    /// The range cannot be mapped in this table.
    Unmappable,
}

impl From<MapError> for GrantError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoMemory => Self::NoMemory,
            MapError::Overlap { iova, .. } => Self::Overlap(Ipa(iova.0)),
            MapError::Misaligned | MapError::OutOfRange | MapError::BadProt => Self::Unmappable,
        }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory for the IOMMU's tables"),
            Self::Overlap(ipa) => write!(f, "two ranges overlap at {ipa}"),
            Self::Unmappable(ipa) => write!(f, "the range at {ipa} cannot be mapped"),
        }
    }
}

impl fmt::Display for RevokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory for a table"),
            Self::NotCompleted => f.write_str("an SMMU did not complete an invalidation"),
            Self::NotMapped(ipa) => write!(f, "{ipa} is not mapped"),
            Self::Unmappable => f.write_str("the range cannot be mapped"),
        }
    }
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory for a table"),
            Self::Overlap(ipa) => write!(f, "{ipa} is mapped already"),
            Self::Unmappable => f.write_str("the range cannot be mapped"),
        }
    }
}

impl core::error::Error for SnapshotError {}
impl core::error::Error for RevokeError {}
impl core::error::Error for GrantError {}
