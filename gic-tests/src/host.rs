//! The host's memory, as EL2 accesses it.

use std::cell::Cell;
use std::collections::BTreeSet;

use gic_guard::{ClaimError, HostMemory, Sharing};
use gic_model::Memory;
use io_pgtable::Ipa;

use crate::{RAM, RAM_SIZE};

/// Called with the address of each word before it is read.
pub type OnRead = Box<dyn Fn(&Memory, u64)>;

/// The host's memory.
pub struct Host {
    /// The memory of the machine.
    pub memory: Memory,
    /// Pages of the RAM that the host has donated.
    pub donated: BTreeSet<u64>,
    /// Number of claims that are not released.
    pub claimed: Cell<u32>,
    /// Number of claims so far.
    pub claims: Cell<u64>,
    /// Number of words read so far.
    pub reads: Cell<u64>,
    /// The cacheability of the last claim.
    pub last_sharing: Cell<Option<Sharing>>,
    /// Models another CPU of the host, which stores to memory that EL2 reads.
    pub on_read: Option<OnRead>,
}

/// A claimed range.
pub struct Claim {
    base: u64,
    size: u64,
}

impl Host {
    /// A host that owns all of its memory.
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            donated: BTreeSet::new(),
            claimed: Cell::new(0),
            claims: Cell::new(0),
            reads: Cell::new(0),
            last_sharing: Cell::new(None),
            on_read: None,
        }
    }
}

impl Host {
    /// Whether the host can store to `address`.
    pub fn owns(&self, address: u64) -> bool {
        (RAM..RAM + RAM_SIZE).contains(&address) && !self.donated.contains(&(address & !0xfff))
    }
}

impl HostMemory for Host {
    type Claim = Claim;

    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Claim, ClaimError> {
        let end = ipa.0.checked_add(size).filter(|_| size > 0).ok_or(ClaimError::BadRange)?;
        let owned = ipa.0 >= RAM
            && end <= RAM + RAM_SIZE
            && (ipa.0 & !0xfff..end).step_by(0x1000).all(|page| !self.donated.contains(&page));
        if !owned {
            return Err(ClaimError::NotOwned);
        }
        self.claimed.set(self.claimed.get() + 1);
        self.claims.set(self.claims.get() + 1);
        self.last_sharing.set(Some(sharing));
        Ok(Claim { base: ipa.0, size })
    }

    fn release(&mut self, _claim: Claim) {
        self.claimed.set(self.claimed.get() - 1);
    }

    fn holds(&self, _claim: &Claim) -> bool {
        true
    }

    fn read64(&self, claim: &Claim, offset: u64) -> Option<u64> {
        if !offset.is_multiple_of(8) || offset + 8 > claim.size {
            return None;
        }
        let at = claim.base + offset;
        self.reads.set(self.reads.get() + 1);
        if let Some(hook) = &self.on_read {
            hook(&self.memory, at);
        }
        Some(self.memory.read64(at))
    }

    fn write64(&mut self, _claim: &Claim, _offset: u64, _value: u64) -> Option<()> {
        panic!("the guard must not write the host's memory")
    }

    fn write32(&mut self, _claim: &Claim, _offset: u64, _value: u32) -> Option<()> {
        panic!("the guard must not write the host's memory")
    }
}
