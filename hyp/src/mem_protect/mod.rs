//! Who owns which page, and the only code that changes it.
//!
//! Everything else in Portcullis serves one sentence: no stream reaches a byte whose owner is not the stream's owner.
//! This module keeps the owners. A transition checks both sides, changes the tables, waits until every TLB and every
//! SMMU has forgotten, and only then writes the new owner down: whoever reads the map under the lock reads the truth.
//!
//! The logic is pure. Tables, SMMUs, caches and EL2's own mapping are reached through [`HostStage2`], [`DmaStage2`] and
//! [`PageOps`]; on the build machine the tests make each of their steps fail. `docs/ownership.md` tells the whole
//! story.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod audit;
mod claim;
mod error;
mod guest;
mod host;
mod host_hyp;
mod map;
mod page;
mod range;
mod traits;

pub use audit::{Devices, Disagreement, Finding, Lost, Table};
pub use claim::{Claim, MAX_CLAIM_PAGES};
pub use error::Error;
pub use guest::GuestLife;
pub use host::{FaultAnswer, Stats};
pub use map::{MAX_RAM_RANGES, MapSetupError, PageMap};
pub use page::{GuestId, HypUse, MAX_GUESTS, MAX_PINS, Owner, PageInfo, PageState};
pub use range::{PAGE_BYTES, PAGE_SHIFT, PFN_LIMIT, PageRange, UncheckedRange};
pub use traits::{DmaError, DmaStage2, HostStage2, InUse, Leaf, LeafKind, NoMemory, PageOps, Stage2Error};

/// The ownership of all RAM, with the tables that follow it. One lock guards the whole of it.
#[derive(Debug)]
pub struct Ownership<'m, S, D, P> {
    map: PageMap<'m>,
    cpu: S,
    dma: D,
    pages: P,
    guests: guest::Guests,
    max_pages: u64,
    stats: Stats,
}

impl<'m, S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'m, S, D, P> {
    /// Takes over a map whose reserved pages are marked, and tables that agree with it: the host's pages mapped in
    /// `cpu` and, below its limit, in `dma`; no other RAM in either. `max_pages` caps the pages of one call, so that
    /// none runs long with interrupts masked.
    pub fn new(map: PageMap<'m>, cpu: S, dma: D, pages: P, max_pages: u64) -> Self {
        Self { map, cpu, dma, pages, guests: guest::Guests::default(), max_pages, stats: Stats::default() }
    }

    /// What [`Ownership::new`] got, as it is now.
    #[must_use]
    pub fn into_parts(self) -> (PageMap<'m>, S, D, P) {
        (self.map, self.cpu, self.dma, self.pages)
    }

    /// Most pages that one call takes.
    #[must_use]
    pub fn max_pages(&self) -> u64 {
        self.max_pages
    }

    /// Counters since boot.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The ownership map, to read.
    #[must_use]
    pub fn map(&self) -> &PageMap<'m> {
        &self.map
    }

    /// The host's CPU stage 2.
    #[must_use]
    pub fn cpu(&self) -> &S {
        &self.cpu
    }

    /// The host's CPU stage 2, to change outside RAM: device registers that a policy gives or takes.
    pub fn cpu_mut(&mut self) -> &mut S {
        &mut self.cpu
    }

    /// The IOMMU stage 2.
    #[must_use]
    pub fn dma(&self) -> &D {
        &self.dma
    }

    /// The IOMMU stage 2, for upkeep off the revocation path such as coalescing.
    pub fn dma_mut(&mut self) -> &mut D {
        &mut self.dma
    }

    /// Checks that every page of `range` is `want` to `who`.
    fn check_state(&self, range: PageRange, who: Owner, want: PageState) -> Result<(), Error> {
        if self.map.pages(range)?.iter().all(|page| page.state(who) == want) { Ok(()) } else { Err(Error::WrongState) }
    }

    /// Checks that no page of `range` is claimed: a claimed page changes neither its owner nor its sharing.
    fn check_unclaimed(&self, range: PageRange) -> Result<(), Error> {
        if self.map.pages(range)?.iter().all(|page| page.pins() == 0) { Ok(()) } else { Err(Error::Claimed) }
    }

    /// Rewrites the records of `range`, which a check has found in RAM.
    fn set(&mut self, range: PageRange, change: impl Fn(PageInfo) -> PageInfo) {
        if let Ok(pages) = self.map.pages_mut(range) {
            for page in pages {
                *page = change(*page);
            }
        }
    }
}

#[cfg(test)]
mod tests;
