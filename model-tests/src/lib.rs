//! A complete machine for tests: the adversarial SMMU model, the real driver, ownership map and IOMMU tables, and an
//! attacking host.
//!
//! The tests of this package are the rows of the attack catalogue that need no CPU. Each attack is a function of a
//! [`Machine`] and runs twice: without isolation ([`Guard::None`]) or with a [`Defect`] of EL2, where it must land; and
//! under EL2, where it must not.
#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "test support: a panic is a failed test")]

mod bus;
mod cpu;
mod defects;
pub mod host;
pub mod hostile;
pub mod layout;
mod machine;
mod owner;
mod pages;
mod rng;
mod setup;
mod snapshot;
mod twice;
mod work;

pub use bus::{Bus, Damage, Pool, StoreHook};
pub use defects::{Defect, with_defects};
pub use machine::{Breach, CANARY, DomainId, Machine, NotAssigned, StreamUser};
pub use owner::{Dma, Held, Owner};
pub use pages::LoadHook;
pub use rng::Rng;
pub use setup::{Guard, Setup};
pub use snapshot::Snapshot;
pub use twice::{Verdict, assert_landed, detects_defects, twice, twice_with};
pub use work::{BOUND, Work};
