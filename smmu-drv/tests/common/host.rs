//! The host's memory: pages that the host owns or does not own, and claims on them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use io_pgtable::Ipa;
use smmu_drv::{ClaimError, HostMemory, Sharing};
use smmu_model::Memory;

use super::*;

/// The host's page ownership.
pub struct Host {
    pub mem: Memory,
    pub owned: BTreeSet<u64>,
    pub claims: BTreeMap<u64, u32>,
    /// Called on every fetch, so that a test can change memory between two.
    pub on_read: Option<Box<dyn Fn(u64)>>,
    pub reads: Cell<u64>,
    pub log: RefCell<Vec<u64>>,
    /// Words in EL2's cache, while the host accesses memory without caches: the values that EL2 reads until the line
    /// is evicted, and the values that it wrote last.
    pub cached: RefCell<Option<BTreeMap<u64, u64>>>,
}

pub struct Claim {
    ipa: u64,
    size: u64,
    sharing: Sharing,
}

impl Host {
    pub fn new(mem: Memory) -> Self {
        let owned = (RAM / 4096..(RAM + RAM_SIZE) / 4096).collect();
        Self {
            mem,
            owned,
            claims: BTreeMap::new(),
            on_read: None,
            reads: Cell::new(0),
            log: RefCell::default(),
            cached: RefCell::default(),
        }
    }

    /// Changes the owner of a page; refused while it is claimed.
    pub fn donate(&mut self, page: u64) -> bool {
        if self.claims.contains_key(&(page / 4096)) {
            return false;
        }
        self.owned.remove(&(page / 4096))
    }

    /// The value that EL2 loads from `at`.
    fn load(&self, at: u64, sharing: Sharing) -> u64 {
        let memory = self.mem.cpu_read64(at);
        let mut cached = self.cached.borrow_mut();
        let Some(cached) = cached.as_mut() else { return memory };
        if sharing == Sharing::Memory {
            cached.remove(&at);
            return memory;
        }
        *cached.entry(at).or_insert(memory)
    }

    /// EL2 stores `value` to the word at `at`.
    fn store(&self, at: u64, value: u64, sharing: Sharing) {
        if let (Some(cached), Sharing::Cacheable) = (self.cached.borrow_mut().as_mut(), sharing) {
            cached.insert(at, value);
        } else {
            self.mem.cpu_write64(at, value);
        }
    }

    fn at(&self, claim: &Claim, offset: u64, size: u64) -> Option<u64> {
        let end = offset.checked_add(size)?;
        // A page whose owner changed although it was claimed: only a test does that.
        let owned = self.owned.contains(&(claim.ipa.checked_add(offset)? / 4096));
        (owned && offset.is_multiple_of(size) && end <= claim.size).then_some(claim.ipa + offset)
    }
}

impl HostMemory for Host {
    type Claim = Claim;

    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Claim, ClaimError> {
        let last = size.checked_sub(1).and_then(|s| ipa.0.checked_add(s)).ok_or(ClaimError::BadRange)?;
        let pages = ipa.0 / 4096..=last / 4096;
        if pages.end() - pages.start() > 0x10_0000 || !pages.clone().all(|p| self.owned.contains(&p)) {
            return Err(ClaimError::NotOwned);
        }
        for page in pages {
            *self.claims.entry(page).or_default() += 1;
        }
        Ok(Claim { ipa: ipa.0, size, sharing })
    }
    fn release(&mut self, claim: Claim) {
        for page in claim.ipa / 4096..=(claim.ipa + claim.size - 1) / 4096 {
            let count = self.claims.get_mut(&page).expect("released twice");
            *count -= 1;
            if *count == 0 {
                self.claims.remove(&page);
            }
        }
    }
    fn holds(&self, claim: &Claim) -> bool {
        (claim.ipa / 4096..=(claim.ipa + claim.size - 1) / 4096)
            .all(|page| self.owned.contains(&page) && self.claims.contains_key(&page))
    }
    fn read64(&self, claim: &Claim, offset: u64) -> Option<u64> {
        let at = self.at(claim, offset, 8)?;
        self.reads.set(self.reads.get() + 1);
        self.log.borrow_mut().push(at);
        let value = self.load(at, claim.sharing);
        if let Some(hook) = &self.on_read {
            hook(at);
        }
        Some(value)
    }
    fn write64(&mut self, claim: &Claim, offset: u64, value: u64) -> Option<()> {
        let at = self.at(claim, offset, 8)?;
        self.store(at, value, claim.sharing);
        Some(())
    }
    fn write32(&mut self, claim: &Claim, offset: u64, value: u32) -> Option<()> {
        let at = self.at(claim, offset, 4)?;
        let word = self.load(at & !7, claim.sharing);
        let shift = (at & 4) * 8;
        self.store(at & !7, word & !(0xffff_ffff << shift) | u64::from(value) << shift, claim.sharing);
        Some(())
    }
}
