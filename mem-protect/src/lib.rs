//! Who owns which page, and the only code that changes it.
//!
//! Everything else in Portcullis serves one sentence: no stream reaches a byte whose owner is not the stream's owner.
//! This module keeps the owners. A transition checks both sides, changes the tables, waits until every TLB and every
//! SMMU has forgotten, and only then writes the new owner down: whoever reads the map under the lock reads the truth.
//!
//! The logic is pure. Tables, SMMUs, caches and EL2's own mapping are reached through [`HostStage2`], [`DmaStage2`] and
//! [`PageOps`]; on the build machine the tests make each of their steps fail. `docs/ownership.md` tells the whole
//! story.
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
pub use page::{GuestId, HypUse, MAX_GUESTS, MAX_PINS, Owner, PageInfo, PageState};
pub use range::{PAGE_BYTES, PAGE_SHIFT, PFN_LIMIT, PageRange, UncheckedRange};
pub use stats::Stats;
pub use traits::{DmaStage2, HostStage2, InUse, Leaf, LeafKind, NoMemory, PageOps, TableError};
pub use transition::Transition;
