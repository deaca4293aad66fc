//! Claims: host pages that EL2 reads or writes on the host's behalf. A claimed page cannot change its owner.
//!
//! Claims are counted for each page, so that a queue and a table may be in the same page. EL2 maps a host page only
//! while it is claimed.

use io_pgtable::{Ipa, Pa};
use smmu_drv::platform::{ClaimError, HostMemory, Sharing};

use crate::error::Error;
use crate::map::PageMap;
use crate::page::{Owner, PageInfo};
use crate::range::PageRange;
use crate::traits::PageOps;

/// Maximum number of pages of one claim (64 MiB): more than any table or queue of an emulated SMMU has.
pub const MAX_CLAIM_PAGES: u64 = 1 << 14;

/// Host memory that EL2 may access, until [`HostMemory::release`].
///
/// Only [`HostMemory::claim`] creates one, and it cannot be copied. While it exists its pages are claimed, mapped and
/// the host's, so an access need not check the map.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the pages stay claimed until the claim is released"]
pub struct Claim {
    start: Ipa,
    bytes: u64,
    pages: PageRange,
    sharing: Sharing,
}

impl Claim {
    /// First byte of the claim.
    #[must_use]
    pub fn start(&self) -> Ipa {
        self.start
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Address of the `size` bytes at `offset`; `None` unless they are in the claim and aligned to their size in
    /// memory.
    fn at(&self, offset: u64, size: u64) -> Option<Pa> {
        let end = offset.checked_add(size)?;
        let at = self.start.0.checked_add(offset)?;
        (end <= self.bytes && at.is_multiple_of(size)).then_some(Pa(at))
    }
}

/// The ownership map and EL2's access to pages, for claims only. An SMMU's driver gets this type, which cannot change
/// an owner.
#[derive(Debug)]
pub struct HostPages<'m, P> {
    pub(crate) map: PageMap<'m>,
    pub(crate) pages: P,
}

impl<P: PageOps> HostPages<'_, P> {
    /// Changes the records of `range`, which was checked to be RAM.
    pub(crate) fn set(&mut self, range: PageRange, change: impl Fn(PageInfo) -> PageInfo) {
        if let Ok(pages) = self.map.pages_mut(range) {
            for page in pages {
                *page = change(*page);
            }
        }
    }

    /// Claims every page of `range`: normal memory that the host owns, shared or not.
    ///
    /// # Errors
    /// [`Error::NotRam`], [`Error::WrongState`], [`Error::TooManyClaims`], [`Error::NoMemory`] (to map a page into
    /// EL2); nothing changed.
    pub fn add_claims(&mut self, range: PageRange) -> Result<(), Error> {
        let pages = self.map.pages(range)?;
        if pages.iter().any(|page| page.owner() != Owner::Host) {
            return Err(Error::WrongState);
        }
        if pages.iter().any(|page| page.claimed().is_none()) {
            return Err(Error::TooManyClaims);
        }
        for page in range.pages() {
            if self.is_unclaimed(page) && self.pages.map(page).is_err() {
                self.unmap_unclaimed(range, page.first());
                return Err(Error::NoMemory);
            }
        }
        self.set(range, |page| page.claimed().unwrap_or(page));
        Ok(())
    }

    /// Ends one claim on every page of `range`.
    ///
    /// # Errors
    /// [`Error::NotRam`], or [`Error::WrongState`] if some page is not claimed; nothing changed.
    pub fn remove_claims(&mut self, range: PageRange) -> Result<(), Error> {
        if self.map.pages(range)?.iter().any(|page| page.claims() == 0) {
            return Err(Error::WrongState);
        }
        self.set(range, |page| page.unclaimed().unwrap_or(page));
        self.unmap_unclaimed(range, range.end());
        Ok(())
    }

    /// Whether `page` has no claim yet, so EL2 does not map it.
    fn is_unclaimed(&self, page: PageRange) -> bool {
        self.map.page(page.first()).is_some_and(|info| info.claims() == 0)
    }

    /// Unmaps the pages of `range` below `end` that have no claim from EL2.
    fn unmap_unclaimed(&mut self, range: PageRange, end: u64) {
        for page in range.pages().take_while(|page| page.first() < end) {
            if self.is_unclaimed(page) {
                self.pages.unmap(page);
            }
        }
    }
}

impl<P: PageOps> HostPages<'_, P> {
    /// Executes `store`, of `bytes` bytes at `pa`, with the cache maintenance that `sharing` needs.
    fn store(&mut self, sharing: Sharing, pa: Pa, bytes: u64, store: impl FnOnce(&mut P)) {
        match sharing {
            Sharing::Cacheable => store(&mut self.pages),
            Sharing::Memory => {
                // Also before the store: EL2's cache may have an older copy of the line than the host has stored next
                // to it.
                self.pages.clean_invalidate_bytes(pa, bytes);
                store(&mut self.pages);
                self.pages.clean_invalidate_bytes(pa, bytes);
            }
        }
    }
}

impl<P: PageOps> HostMemory for HostPages<'_, P> {
    type Claim = Claim;

    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Claim, ClaimError> {
        let pages = PageRange::covering(ipa, size).ok_or(ClaimError::BadRange)?;
        if pages.count() > MAX_CLAIM_PAGES {
            return Err(ClaimError::BadRange);
        }
        let claimed = self.add_claims(pages);
        // A page that is not the host's is neither claimed nor mapped for a claim; EL2 may map it for other reasons.
        match claimed {
            Ok(()) => Ok(Claim { start: ipa, bytes: size, pages, sharing }),
            Err(Error::NoMemory | Error::TooManyClaims) => Err(ClaimError::NoMemory),
            Err(_) => Err(ClaimError::NotOwned),
        }
    }

    fn release(&mut self, claim: Claim) {
        // Only `claim` creates claims, and they cannot be copied, so the pages of this one are claimed.
        let _ = self.remove_claims(claim.pages);
    }

    fn holds(&self, claim: &Claim) -> bool {
        self.map
            .pages(claim.pages)
            .is_ok_and(|pages| pages.iter().all(|page| page.owner() == Owner::Host && page.claims() != 0))
    }

    fn read64(&self, claim: &Claim, offset: u64) -> Option<u64> {
        let pa = claim.at(offset, 8)?;
        if claim.sharing == Sharing::Memory {
            self.pages.clean_invalidate_bytes(pa, 8);
        }
        Some(self.pages.load64(pa))
    }

    #[inline]
    fn read_pair(&self, claim: &Claim, offset: u64) -> Option<[u64; 2]> {
        let pa = claim.at(offset, 16)?;
        if claim.sharing == Sharing::Memory {
            self.pages.clean_invalidate_bytes(pa, 16);
        }
        Some([self.pages.load64(pa), self.pages.load64(Pa(pa.0.wrapping_add(8)))])
    }

    fn write64(&mut self, claim: &Claim, offset: u64, value: u64) -> Option<()> {
        let pa = claim.at(offset, 8)?;
        self.store(claim.sharing, pa, 8, |pages| pages.store64(pa, value));
        Some(())
    }

    fn write_record(&mut self, claim: &Claim, offset: u64, record: [u64; 4]) -> Option<()> {
        let pa = claim.at(offset, 32)?;
        self.store(claim.sharing, pa, 32, |pages| {
            for (word, at) in record.into_iter().zip([0_u64, 8, 16, 24]) {
                pages.store64(Pa(pa.0.wrapping_add(at)), word);
            }
        });
        Some(())
    }

    fn write32(&mut self, claim: &Claim, offset: u64, value: u32) -> Option<()> {
        let pa = claim.at(offset, 4)?;
        self.store(claim.sharing, pa, 4, |pages| pages.store32(pa, value));
        Some(())
    }
}
