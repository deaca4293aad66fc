//! The host's stream table: locates an entry from the emulated registers and from host memory, which may change at any time.
//!
//! Every pointer is fetched once, through a claim that lasts until the walk needs another page or ends. An address above the output
//! size is not truncated, since the result would be another address: the claim fails, and the result is F_STE_FETCH,
//! the other behaviour that [S 3.4.3] permits.

use io_pgtable::Ipa;

use super::ids::HostIds;
use crate::platform::{HostMemory, Sharing};
use crate::smmu::budget::{self, Budget, Unfinished};
use crate::spec::registers::{strtab_base, strtab_base_cfg};
use crate::spec::ste::{L1STD_SIZE, STE_SIZE, l1std};
use crate::spec::{get32, get64, mask64};
use crate::stats::bump;

/// Geometry that the host programmed, limited to the values of the host's ID registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostStrtab {
    base: u64,
    log2size: u32,
    /// StreamID bits of a level-2 table; `None` for a linear table.
    split: Option<u32>,
    sharing: Sharing,
}

/// Location of a run of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// No entry: C_BAD_STREAMID. The same holds for every StreamID below `until`.
    OutOfRange {
        /// First StreamID that must be looked up again.
        until: u64,
    },
    /// The level-1 descriptor is not in host-owned memory: F_STE_FETCH at this address.
    Unreadable(u64),
    /// `count` consecutive entries from this address on; at least 1.
    At {
        /// Address of the first entry.
        address: u64,
        /// Number of entries that follow in the same table.
        count: u64,
    },
}

/// Size of a claimed page in bytes.
const PAGE: u64 = 4096;

/// A page that a walk has tried to claim.
struct Page<C> {
    base: u64,
    /// `None` if it is not host-owned memory.
    claim: Option<C>,
}

/// State of one walk over the host's table: the claimed page of level 1, the claimed page of entries, the current run of entries.
pub(super) struct Walk<C> {
    level1: Option<Page<C>>,
    entries: Option<Page<C>>,
    /// First StreamID, address and number of consecutive entries.
    run: Option<(u64, u64, u64)>,
    refused: u64,
}

impl<C> Walk<C> {
    pub(super) fn new() -> Self {
        Self { level1: None, entries: None, run: None, refused: 0 }
    }

    /// The claim of the page of entries at `address`; `None` if it is not host-owned memory; ownership is checked once
    /// for each page.
    ///
    /// # Errors
    /// The budget is not sufficient for another page.
    pub(super) fn entries<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        sharing: Sharing,
        address: u64,
    ) -> Result<Option<&C>, Unfinished> {
        claim(&mut self.entries, &mut self.refused, host_mem, budget, sharing, address)
    }

    /// Fetches one word of level 1.
    fn descriptor<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        sharing: Sharing,
        address: u64,
    ) -> Result<Option<u64>, Unfinished> {
        let claim = claim(&mut self.level1, &mut self.refused, host_mem, budget, sharing, address)?;
        Ok(claim.and_then(|claim| host_mem.read64(claim, in_page(address))))
    }

    /// Ends the claims. Returns the number of pages that could not be claimed.
    pub(super) fn end<H: HostMemory<Claim = C>>(self, host_mem: &mut H) -> u64 {
        let pages = [self.level1, self.entries];
        pages.into_iter().flatten().filter_map(|page| page.claim).for_each(|claim| host_mem.release(claim));
        self.refused
    }
}

/// Replaces `page` by the page of `address`, if it differs.
fn claim<'a, H: HostMemory>(
    page: &'a mut Option<Page<H::Claim>>,
    refused: &mut u64,
    host_mem: &mut H,
    budget: &mut Budget,
    sharing: Sharing,
    address: u64,
) -> Result<Option<&'a H::Claim>, Unfinished> {
    let base = address.wrapping_sub(in_page(address));
    if page.as_ref().is_none_or(|page| page.base != base) {
        budget.charge(budget::PAGE)?;
        if let Some(claim) = page.take().and_then(|page| page.claim) {
            host_mem.release(claim);
        }
        let claim = host_mem.claim(Ipa(base), PAGE, sharing).ok();
        if claim.is_none() {
            bump(refused);
        }
        *page = Some(Page { base, claim });
    }
    Ok(page.as_ref().and_then(|page| page.claim.as_ref()))
}

/// Offset of the address in its page.
pub(super) fn in_page(address: u64) -> u64 {
    address & PAGE.wrapping_sub(1)
}

impl HostStrtab {
    pub(super) fn new(base: u64, cfg: u32, sharing: Sharing, ids: &HostIds) -> Self {
        let written = get32(strtab_base_cfg::LOG2SIZE, cfg);
        let log2size = written.min(ids.sid_bits());
        let two_level = ids.two_level() && get32(strtab_base_cfg::FMT, cfg) == strtab_base_cfg::TWO_LEVEL;
        let split = two_level.then(|| match get32(strtab_base_cfg::SPLIT, cfg) {
            8 => 8,
            10 => 10,
            // Reserved values behave as 6 [S 6.3.25].
            _ => 6,
        });
        // The table's address is aligned down to its programmed size, or to 64 bytes [S 6.3.24].
        let log2bytes = match split {
            Some(split) => written.saturating_sub(split).saturating_add(3).max(6),
            None => written.saturating_add(6),
        };
        Self { base: base & mask64(strtab_base::ADDR) & !ones(log2bytes), log2size, split, sharing }
    }

    /// Cacheability of the table.
    pub(super) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Finds the entry of `sid`.
    ///
    /// # Errors
    /// The budget is not sufficient to claim the page of the level-1 descriptor.
    pub(super) fn locate<H: HostMemory>(
        &self,
        host_mem: &mut H,
        walk: &mut Walk<H::Claim>,
        budget: &mut Budget,
        sid: u32,
    ) -> Result<Located, Unfinished> {
        let sid = u64::from(sid);
        let size = 1_u64.checked_shl(self.log2size).unwrap_or(0);
        if sid >= size {
            return Ok(Located::OutOfRange { until: u64::MAX });
        }
        let Some(split) = self.split else {
            return Ok(Located::At { address: at(self.base, sid, STE_SIZE), count: size.saturating_sub(sid) });
        };
        if let Some((first, address, count)) = walk.run
            && let Some(index) = sid.checked_sub(first)
            && index < count
        {
            return Ok(Located::At { address: at(address, index, STE_SIZE), count: count.saturating_sub(index) });
        }
        let index = sid.checked_shr(split).unwrap_or(0);
        let next = index.saturating_add(1).checked_shl(split).unwrap_or(u64::MAX);
        let address = at(self.base, index, L1STD_SIZE);
        let Some(descriptor) = walk.descriptor(host_mem, budget, self.sharing, address)? else {
            return Ok(Located::Unreadable(address));
        };
        let span = get64(l1std::SPAN, descriptor);
        if span == 0 || span > u64::from(split).saturating_add(1) {
            return Ok(Located::OutOfRange { until: next });
        }
        let log2 = u32::try_from(span).unwrap_or(0).saturating_sub(1);
        let entries = 1_u64.checked_shl(log2).unwrap_or(0);
        let within = sid & ones(split);
        if within >= entries {
            return Ok(Located::OutOfRange { until: next });
        }
        let table = descriptor & mask64(l1std::L2PTR) & !ones(log2.saturating_add(6));
        let first_unmapped = sid.saturating_sub(within).saturating_add(entries).min(size);
        let (address, count) = (at(table, within, STE_SIZE), first_unmapped.saturating_sub(sid));
        walk.run = Some((sid, address, count));
        Ok(Located::At { address, count })
    }
}

fn ones(bits: u32) -> u64 {
    1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

/// Address of an element; bases have at most 52 bits and indices 32, so it does not wrap.
fn at(base: u64, index: u64, size: usize) -> u64 {
    base.wrapping_add(index.wrapping_mul(u64::try_from(size).unwrap_or(0)))
}
