//! Errors, with the values involved and the state after each.

use core::fmt;

use crate::addr::Iova;
use crate::cfg::Quirks;
use crate::tlb::TlbError;

/// Why a table could not be created. Nothing is allocated then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfgError {
    /// The input address size is not supported (bits).
    Ias(u32),
    /// The output address size is not supported (bits).
    Oas(u32),
    /// The stage-2 input size is larger than the output size, which the architecture does not permit.
    IasAboveOas {
        /// Input address size in bits.
        ias: u32,
        /// Output address size in bits.
        oas: u32,
    },
    /// 52-bit addresses need another descriptor format, which is not implemented (requested bits).
    Lpa(u32),
    /// The set of leaf sizes lacks the page size, has a gap, or has a size that the granule does not support.
    PageSizes(u64),
    /// These quirks do not apply to this regime, or conflict with the rest of the configuration.
    Quirks(Quirks),
    /// No memory for the root table, or memory above the output address size.
    NoMemory,
}

/// Why [`map`](crate::IoPgtable::map) failed. The table is then unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// Size 0, or an address or the size is not a multiple of the page size.
    Misaligned,
    /// The range wraps around or leaves the input or the output address space.
    OutOfRange,
    /// No access at all, or a permission that the regime does not have.
    BadProt,
    /// An address of the range is already mapped.
    Overlap {
        /// The first input address of the range that is mapped.
        iova: Iova,
        /// Bytes that this call mapped before `iova`, which stay mapped: 0 except from `map_pages`.
        mapped: u64,
    },
    /// No memory for a table.
    NoMemory,
}

/// Why [`unmap`](crate::IoPgtable::unmap) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapError {
    /// Size 0, or the address or the size is not a multiple of the page size. Nothing changed.
    Misaligned,
    /// The range wraps around or leaves the input address space. Nothing changed.
    OutOfRange,
    /// The range is not mapped completely; the first input address that is not. Nothing changed.
    NotMapped(Iova),
    /// No memory for the table that a split needs. Nothing changed.
    NoMemory,
    /// The TLB invalidation timed out. The table is as after success (the range unmapped, all else mapped as before),
    /// but the old translations may still be used: the pages that they map must keep their owner. Detached tables are
    /// never freed (see [`quarantined`](crate::IoPgtable::quarantined)).
    Tlb(TlbError),
}

impl fmt::Display for CfgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ias(bits) => write!(f, "input address size of {bits} bits: use 32 to 48"),
            Self::Oas(bits) => write!(f, "output address size of {bits} bits: use 32, 36, 40, 42, 44 or 48"),
            Self::IasAboveOas { ias, oas } => {
                write!(f, "stage-2 input of {ias} bits is larger than the output of {oas}: lower the input size")
            }
            Self::Lpa(bits) => write!(f, "{bits}-bit addresses need the LPA descriptor format, which is not supported"),
            Self::PageSizes(set) => {
                write!(f, "leaf sizes {set:#x}: the page size and every size up to the largest one are needed")
            }
            Self::Quirks(quirks) => write!(f, "quirks {quirks:?} are not possible here"),
            Self::NoMemory => write!(f, "no memory below the output address size for the root table"),
        }
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => write!(f, "empty or not aligned to the page size"),
            Self::OutOfRange => write!(f, "outside the address space of the table"),
            Self::BadProt => write!(f, "permissions that this table cannot express"),
            Self::Overlap { iova, mapped } => {
                write!(f, "{iova} is mapped already ({mapped:#x} bytes were mapped before it)")
            }
            Self::NoMemory => write!(f, "no memory for a table"),
        }
    }
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => write!(f, "empty or not aligned to the page size"),
            Self::OutOfRange => write!(f, "outside the address space of the table"),
            Self::NotMapped(iova) => write!(f, "{iova} is not mapped"),
            Self::NoMemory => write!(f, "no memory for the table of a split"),
            Self::Tlb(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CfgError {}
impl core::error::Error for MapError {}
impl core::error::Error for UnmapError {}
