//! Tests of the transitions on a machine of sets: every step can be made to fail, and every translation that was ever
//! usable stays cached until it is invalidated.

mod audit;
mod claims;
mod ghost;
mod matrix;
mod property;
mod steps;
mod tables;
mod world;

use crate::{PageRange, UncheckedRange};

/// A range as a caller names it.
fn named(pfn: u64, count: u64) -> UncheckedRange {
    UncheckedRange { pfn, count }
}

/// A range that is one.
fn range(first: u64, count: u64) -> PageRange {
    PageRange::new(first, count).unwrap()
}
