//! Which page of the machine is behind which page of the host, and which of them are claimed: the host's memory for the driver.
//!
//! Consecutive IPAs need not be consecutive in memory, so each access translates the page that it touches. A claimed page stays where
//! it is: [`Pages::can_go`] refuses it.

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
    /// By the number of the page in the host's addresses.
    pages: BTreeMap<u64, Page>,
    /// Words fetched from the host's memory: for tests, which count them.
    fetches: Cell<u64>,
}

/// Pages that stay the host's until the claim is released.
pub struct Claim {
    ipa: u64,
    bytes: u64,
    sharing: Sharing,
}

impl Claim {
    /// The numbers of its pages.
    fn pages(&self) -> std::ops::RangeInclusive<u64> {
        self.ipa / PAGE..=(self.ipa + self.bytes - 1) / PAGE
    }
}

impl Pages {
    /// The host's memory: for each run its IPA, its PA and its bytes.
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

    /// Where the byte at `ipa` is, if it is the host's.
    #[must_use]
    pub fn translate(&self, ipa: Ipa) -> Option<Pa> {
        self.pages.get(&(ipa.0 / PAGE)).map(|page| Pa(page.pa + ipa.0 % PAGE))
    }

    /// Where the page at `ipa` is, if it can be taken from the host.
    ///
    /// # Errors
    /// It is not the host's, or it is claimed.
    pub fn can_go(&self, ipa: Ipa) -> Result<Pa, RevokeError> {
        match self.pages.get(&(ipa.0 / PAGE)) {
            None => Err(RevokeError::NotOwned),
            Some(page) if page.claims != 0 => Err(RevokeError::Claimed),
            Some(page) => Ok(Pa(page.pa)),
        }
    }

    /// The page at `ipa` is not the host's any more.
    pub fn remove(&mut self, ipa: Ipa) {
        self.pages.remove(&(ipa.0 / PAGE));
    }

    /// The page at `ipa` is the host's, and is at `pa`.
    pub fn add(&mut self, ipa: Ipa, pa: Pa) {
        self.pages.insert(ipa.0 / PAGE, Page { pa: pa.0, claims: 0 });
    }

    /// Words fetched from the host's memory since the last call.
    #[must_use]
    pub fn take_fetches(&self) -> u64 {
        self.fetches.take()
    }

    /// Where the `size` bytes at `offset` of a claim are: inside it, and aligned, so that one access fetches them.
    fn at(&self, claim: &Claim, offset: u64, size: u64) -> Option<u64> {
        let inside = offset.is_multiple_of(size) && offset.checked_add(size)? <= claim.bytes;
        let at = claim.ipa.checked_add(offset).filter(|at| inside && at.is_multiple_of(size))?;
        self.translate(Ipa(at)).map(|pa| pa.0)
    }

    /// Where the host looks past its caches, the hypervisor's copy of the line goes before a read, and reaches memory after a write.
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
        // One after the other: a size that the host invents costs no more than the pages that it has.
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
