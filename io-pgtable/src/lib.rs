//! Armv8 LPAE page tables, stage 1 and stage 2, for CPUs and IOMMUs.
//!
//! One engine serves a hypervisor's CPU stage 2, its own EL2 stage 1 and the tables of an SMMUv3: the descriptors, start
//! levels, quirks and configuration outputs are those of Linux's `io-pgtable-arm`. The crate touches memory only through
//! [`TableMemory`] and maintains TLBs only through [`TlbOps`], so the same code runs at EL2 and on the build machine.
//!
//! What a caller can rely on:
//!
//! - **All or nothing.** [`IoPgtable::map`] and [`IoPgtable::unmap`] check the whole range and allocate every table they
//!   need before their first store: after an error the table is what it was (the one exception, a TLB that does not
//!   answer, is spelled out at [`UnmapError::Tlb`]).
//! - **Always valid for a walker.** Live descriptors change by single 64-bit stores; a table is complete before it is
//!   linked. A concurrent walker sees the old or the new translation, or, only with [`Bbm::Level0`], a fault.
//! - **Freed late.** A table is freed after the invalidation that covers it has completed, or never.
//! - **No panic.** Every address, size and attribute combination is answered with an error.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(any(test, feature = "heap"))]
extern crate std;

// The walker of the integration tests names the crate as a user does.
#[cfg(test)]
extern crate self as io_pgtable;

mod addr;
mod attrs;
mod cfg;
mod chain;
mod coalesce;
mod desc;
mod error;
mod granule;
mod map;
#[cfg(test)]
mod observed;
mod out;
mod pages;
mod pte;
mod regime;
mod table;
mod tlb;
mod unmap;
mod walk;

pub use addr::{Iova, Ipa, Pa};
pub use attrs::{Attrs, MemType, Prot};
pub use cfg::{Bbm, Cfg, Quirks};
pub use error::{CfgError, MapError, UnmapError};
pub use granule::{G4K, G16K, G64K, Granule};
pub use out::{MAIR, S1Cfg, S2Cfg, WalkAttrs};
pub use pte::TableMemory;
#[cfg(any(test, feature = "heap"))]
pub use pte::heap::HeapMemory;
pub use regime::{El2, Regime, S1, S2};
pub use table::IoPgtable;
pub use tlb::{NoTlb, TlbError, TlbOps, TlbRange, TlbScope};
pub use walk::{Extent, Extents, Leaf, Leaves};
