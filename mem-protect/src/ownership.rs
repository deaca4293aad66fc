//! The ownership of all RAM, as one value: the map, the tables that must match it, and the checks that every
//! transition begins with.

use crate::claim::HostPages;
use crate::error::Error;
use crate::guest::Guests;
use crate::map::PageMap;
use crate::page::{Owner, PageState};
use crate::range::PageRange;
use crate::stats::Stats;
use crate::traits::{DmaStage2, HostStage2, PageOps};

/// The ownership of all RAM, with the tables that must match it. One lock protects all of it.
#[derive(Debug)]
pub struct Ownership<'m, S, D, P> {
    pub(crate) memory: HostPages<'m, P>,
    pub(crate) cpu: S,
    pub(crate) dma: D,
    pub(crate) guests: Guests,
    pub(crate) max_pages: u64,
    pub(crate) stats: Stats,
}

impl<'m, S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'m, S, D, P> {
    /// Creates the ownership from a map whose reserved pages are marked, and from matching tables: the host's pages are
    /// mapped in `cpu` and, below its limit, in `dma`; no other RAM is in either. `max_pages` limits the pages of one
    /// call, which runs with interrupts masked.
    pub fn new(map: PageMap<'m>, cpu: S, dma: D, pages: P, max_pages: u64) -> Self {
        Self {
            memory: HostPages { map, pages },
            cpu,
            dma,
            guests: Guests::default(),
            max_pages,
            stats: Stats::default(),
        }
    }

    /// The arguments of [`Ownership::new`], in their current state.
    #[must_use]
    pub fn into_parts(self) -> (PageMap<'m>, S, D, P) {
        (self.memory.map, self.cpu, self.dma, self.memory.pages)
    }

    /// Maximum number of pages of one call.
    #[must_use]
    pub fn max_pages(&self) -> u64 {
        self.max_pages
    }

    /// Counters since boot.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The ownership map, read-only.
    #[must_use]
    pub fn map(&self) -> &PageMap<'m> {
        &self.memory.map
    }

    /// The part for claims, for an SMMU's driver.
    pub fn memory_mut(&mut self) -> &mut HostPages<'m, P> {
        &mut self.memory
    }

    /// The same, read-only.
    #[must_use]
    pub fn memory(&self) -> &HostPages<'m, P> {
        &self.memory
    }

    /// The host's CPU stage 2.
    #[must_use]
    pub fn cpu(&self) -> &S {
        &self.cpu
    }

    /// The host's CPU stage 2, mutable, for changes outside RAM: device registers that a policy gives to or takes from
    /// the host.
    pub fn cpu_mut(&mut self) -> &mut S {
        &mut self.cpu
    }

    /// The IOMMU stage 2.
    #[must_use]
    pub fn dma(&self) -> &D {
        &self.dma
    }

    /// The IOMMU stage 2, for work that is not part of a revocation, such as coalescing.
    pub fn dma_mut(&mut self) -> &mut D {
        &mut self.dma
    }

    /// Checks that every page of `range` has the state `want` for `who`.
    pub(crate) fn check_state(&self, range: PageRange, who: Owner, want: PageState) -> Result<(), Error> {
        if self.memory.map.pages(range)?.iter().all(|page| page.state(who) == want) {
            Ok(())
        } else {
            Err(Error::WrongState)
        }
    }

    /// Checks that no page of `range` is claimed: a claimed page changes neither its owner nor its sharing.
    pub(crate) fn check_unclaimed(&self, range: PageRange) -> Result<(), Error> {
        if self.memory.map.pages(range)?.iter().all(|page| page.claims() == 0) { Ok(()) } else { Err(Error::Claimed) }
    }
}
