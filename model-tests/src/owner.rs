//! The ownership map as the drivers' `HostMemory`.

mod dma;

use std::ops::{Deref, DerefMut};

use io_pgtable::Ipa;
use mem_protect::{Claim, Ownership};
use smmu_drv::platform::{ClaimError, HostMemory, Sharing};

use crate::cpu::Cpu;
use crate::pages::Pages;

pub use dma::Dma;
pub(crate) use dma::{Drivers, Mirror, narrowed};

/// The ownership map with its tables.
pub struct Owner {
    inner: Ownership<'static, Cpu, Dma, Pages>,
    /// Whether it was borrowed mutably: more than its claims may then have changed.
    changed: bool,
}

impl Owner {
    pub(crate) fn new(inner: Ownership<'static, Cpu, Dma, Pages>) -> Self {
        Self { inner, changed: false }
    }

    /// Whether only claims can have changed since it was created.
    pub(crate) fn has_only_claims(&self) -> bool {
        !self.changed
    }

    pub(crate) fn into_inner(self) -> Ownership<'static, Cpu, Dma, Pages> {
        self.inner
    }
}

/// A claim. A driver can be copied only while it has no claims: see [`crate::Machine::snapshot`].
#[derive(Debug)]
pub struct Held(Claim);

impl Clone for Held {
    fn clone(&self) -> Self {
        panic!("claims cannot be copied: {:?}", self.0)
    }
}

impl Deref for Owner {
    type Target = Ownership<'static, Cpu, Dma, Pages>;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl DerefMut for Owner {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.changed = true;
        &mut self.inner
    }
}

impl HostMemory for Owner {
    type Claim = Held;

    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Held, ClaimError> {
        self.inner.memory_mut().claim(ipa, size, sharing).map(Held)
    }

    fn release(&mut self, claim: Held) {
        self.inner.memory_mut().release(claim.0);
    }

    fn holds(&self, claim: &Held) -> bool {
        self.inner.memory().holds(&claim.0)
    }

    fn read64(&self, claim: &Held, offset: u64) -> Option<u64> {
        self.inner.memory().read64(&claim.0, offset)
    }

    fn read_pair(&self, claim: &Held, offset: u64) -> Option<[u64; 2]> {
        self.inner.memory().read_pair(&claim.0, offset)
    }

    fn write64(&mut self, claim: &Held, offset: u64, value: u64) -> Option<()> {
        self.inner.memory_mut().write64(&claim.0, offset, value)
    }

    fn write_record(&mut self, claim: &Held, offset: u64, record: [u64; 4]) -> Option<()> {
        self.inner.memory_mut().write_record(&claim.0, offset, record)
    }

    fn write32(&mut self, claim: &Held, offset: u64, value: u32) -> Option<()> {
        self.inner.memory_mut().write32(&claim.0, offset, value)
    }
}
