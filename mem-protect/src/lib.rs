//! Page ownership, and the only code that changes it.
//!
//! The invariant: no stream reaches a byte whose owner is not the stream's owner. A transition checks the owner and
//! the state of every page, changes the tables, waits until every TLB and every SMMU has completed the invalidation,
//! and only then records the new owner. So the map agrees with the tables whenever its lock is free.
//!
//! The logic accesses no hardware: tables, SMMUs, caches and EL2's own mapping are accessed through [`HostStage2`],
//! [`DmaStage2`] and [`PageOps`]; on the build machine the tests make each of their steps fail. `docs/ownership.md` has
//! the states, the transitions and the order of their steps.
#![no_std]
#![forbid(unsafe_code)]
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

#[cfg(test)]
extern crate std;

mod audit;
mod audit_guest;
mod claim;
mod error;
mod finding;
pub mod ghost;
mod guest;
mod host;
mod host_guest;
mod host_hyp;
mod map;
mod ownership;
mod page;
mod range;
mod stats;
mod traits;
mod transition;

#[cfg(test)]
mod tests;

pub use audit::{Devices, Lost};
pub use claim::{Claim, HostPages, MAX_CLAIM_PAGES};
pub use error::Error;
pub use finding::{Finding, Mismatch, Page, Table};
pub use guest::GuestLife;
pub use host::FaultAnswer;
pub use map::{MAX_RAM_RANGES, MapSetupError, PageMap};
pub use ownership::Ownership;
pub use page::{GuestId, HypUse, MAX_CLAIMS, MAX_GUESTS, Owner, PageInfo, PageState};
pub use range::{PAGE_BYTES, PAGE_SHIFT, PFN_LIMIT, PageRange, UncheckedRange};
pub use stats::Stats;
pub use traits::{DmaStage2, GuestTables, HostStage2, InUse, Leaf, LeafKind, NoMemory, PageOps, TableError};
pub use transition::Transition;
