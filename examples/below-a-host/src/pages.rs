//! The host's memory for the driver: the physical address and the claims of each page of the host.
//!
//! Consecutive IPAs need not be consecutive in physical memory, so each access translates its page. A claimed page
//! cannot be taken from the host: [`Pages::can_be_taken`] refuses it.

use std::cell::Cell;
use std::collections::BTreeMap;

use io_pgtable::{Ipa, Pa};
use smmu_drv::{ClaimError, HostMemory, Sharing};
use smmu_model::Memory;

use crate::{PAGE, RevokeError};

/// A page of the host.
struct Page {
    pa: u64,
    claims: u32,
}

/// The host's pages.
pub struct Pages {
    mem: Memory,
    /// Pages by IPA, divided by the page size.
    pages: BTreeMap<u64, Page>,
    /// The number of words fetched from the host's memory, for tests.
    fetches: Cell<u64>,
}

/// Pages that the host keeps until the claim is released.
pub struct Claim {
    ipa: u64,
    bytes: u64,
    sharing: Sharing,
}

impl Claim {
    /// The numbers of the claim's pages.
    fn pages(&self) -> std::ops::RangeInclusive<u64> {
        self.ipa / PAGE..=(self.ipa + self.bytes - 1) / PAGE
    }
}

impl Pages {
    /// The host's memory, with the IPA, the PA and the size of each run.
    #[must_use]
    pub fn new(mem: Memory, runs: &[(Ipa, Pa, u64)]) -> Self {
        let mut pages = BTreeMap::new();
        for (ipa, pa, bytes) in runs {
            for offset in (0..*bytes).step_by(4096) {
                pages.insert((ipa.0 + offset) / PAGE, Page { pa: pa.0 + offset, claims: 0 });
            }
        }
        Self { mem, pages, fetches: Cell::new(0) }
    }

    /// The physical address of `ipa`, if the host owns the page.
    #[must_use]
    pub fn translate(&self, ipa: Ipa) -> Option<Pa> {
        self.pages.get(&(ipa.0 / PAGE)).map(|page| Pa(page.pa + ipa.0 % PAGE))
    }

    /// The physical address of the page at `ipa`, if it can be taken from the host.
    ///
    /// # Errors
    /// The host does not own it, or it is claimed.
    pub fn can_be_taken(&self, ipa: Ipa) -> Result<Pa, RevokeError> {
        match self.pages.get(&(ipa.0 / PAGE)) {
            None => Err(RevokeError::NotOwned),
            Some(page) if page.claims != 0 => Err(RevokeError::Claimed),
            Some(page) => Ok(Pa(page.pa)),
        }
    }

    /// Removes the page at `ipa` from the host's pages.
    pub fn remove(&mut self, ipa: Ipa) {
        self.pages.remove(&(ipa.0 / PAGE));
    }

    /// Adds the page at `pa` to the host's pages, at `ipa`.
    pub fn add(&mut self, ipa: Ipa, pa: Pa) {
        self.pages.insert(ipa.0 / PAGE, Page { pa: pa.0, claims: 0 });
    }

    /// The number of words fetched from the host's memory since the last call.
    #[must_use]
    pub fn take_fetches(&self) -> u64 {
        self.fetches.take()
    }

    /// The physical address of `size` bytes at `offset` of a claim. They must be inside the claim, and aligned so that
    /// one access fetches them.
    fn at(&self, claim: &Claim, offset: u64, size: u64) -> Option<u64> {
        let inside = offset.is_multiple_of(size) && offset.checked_add(size)? <= claim.bytes;
        let at = claim.ipa.checked_add(offset).filter(|at| inside && at.is_multiple_of(size))?;
        self.translate(Ipa(at)).map(|pa| pa.0)
    }

    /// If the host does not use its caches, the hypervisor's cached copy of the line is invalidated before a read, and
    /// cleaned after a write.
    fn maintain(&self, claim: &Claim, at: u64) {
        if claim.sharing == Sharing::Memory {
            self.mem.invalidate(at..at + 8);
        }
    }

    fn stored(&self, claim: &Claim, at: u64) {
        if claim.sharing == Sharing::Memory {
            self.mem.clean(at..at + 8);
        }
    }
}

impl HostMemory for Pages {
    type Claim = Claim;

    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Claim, ClaimError> {
        let last = size.checked_sub(1).and_then(|rest| ipa.0.checked_add(rest)).ok_or(ClaimError::BadRange)?;
        // The pages are checked in order up to the first one that the host does not own: a large size costs no more
        // work than the host has pages.
        if !(ipa.0 / PAGE..=last / PAGE).all(|page| self.pages.contains_key(&page)) {
            return Err(ClaimError::NotOwned);
        }
        let claim = Claim { ipa: ipa.0, bytes: size, sharing };
        for (_, page) in self.pages.range_mut(claim.pages()) {
            page.claims += 1;
        }
        Ok(claim)
    }

    fn release(&mut self, claim: Claim) {
        for (_, page) in self.pages.range_mut(claim.pages()) {
            page.claims = page.claims.saturating_sub(1);
        }
    }

    fn holds(&self, claim: &Claim) -> bool {
        claim.pages().all(|page| self.pages.get(&page).is_some_and(|page| page.claims != 0))
    }

    fn read64(&self, claim: &Claim, offset: u64) -> Option<u64> {
        let at = self.at(claim, offset, 8)?;
        self.maintain(claim, at);
        self.fetches.set(self.fetches.get() + 1);
        Some(self.mem.cpu_read64(at))
    }

    fn write64(&mut self, claim: &Claim, offset: u64, value: u64) -> Option<()> {
        let at = self.at(claim, offset, 8)?;
        self.maintain(claim, at);
        self.mem.cpu_write64(at, value);
        self.stored(claim, at);
        Some(())
    }

    fn write32(&mut self, claim: &Claim, offset: u64, value: u32) -> Option<()> {
        let at = self.at(claim, offset, 4)?;
        self.maintain(claim, at & !7);
        self.mem.cpu_write32(at, value);
        self.stored(claim, at & !7);
        Some(())
    }
}
