//! Tests of the transitions on a mock machine made of sets: every step can fail on request, and every translation
//! stays cached until it is invalidated.

mod audit;
mod claims;
mod ghost;
mod matrix;
mod property;
mod steps;
mod tables;
mod world;

use crate::host::Recipient;
use crate::{DmaStage2, Error, HostStage2, Ownership, PageOps, UncheckedRange};

use crate::PageRange;

/// An unchecked range.
fn unchecked(pfn: u64, count: u64) -> UncheckedRange {
    UncheckedRange { pfn, count }
}

/// A checked range.
fn range(first: u64, count: u64) -> PageRange {
    PageRange::new(first, count).unwrap()
}

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    fn host_donate_hyp(&mut self, range: UncheckedRange) -> Result<(), Error> {
        self.host_donate(range, Recipient::Pool)
    }

    fn host_donate_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error> {
        self.host_donate(range, Recipient::Guest(handle))
    }
}
