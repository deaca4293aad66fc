//! Memory as EL2 sees it: its own stage 1, the host's CPU stage 2, the IOMMU stage 2, and the tables they are made of.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

pub mod dma;
pub mod el2;
pub mod host_s2;
pub mod tables;

use io_pgtable::{MapError, UnmapError};
use mem_protect::{Ownership, Stage2Error};

/// The page bookkeeping of this hypervisor, with the three tables that follow it.
pub type HostOwnership = Ownership<'static, host_s2::HostTable, dma::DmaTable, el2::El2Table>;

/// What a failed mapping means to a transition.
fn map_failure(error: MapError) -> Stage2Error {
    match error {
        MapError::NoMemory => Stage2Error::NoMemory,
        MapError::Misaligned | MapError::OutOfRange | MapError::BadProt | MapError::Overlap { .. } => {
            Stage2Error::Conflict
        }
    }
}

/// What a failed removal means to a transition. A CPU's TLB always answers, so [`UnmapError::Tlb`] cannot come.
fn unmap_failure(error: UnmapError) -> Stage2Error {
    match error {
        UnmapError::NoMemory => Stage2Error::NoMemory,
        UnmapError::Misaligned | UnmapError::OutOfRange | UnmapError::NotMapped(_) | UnmapError::Tlb(_) => {
            Stage2Error::Conflict
        }
    }
}
