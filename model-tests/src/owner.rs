//! The ownership map as the drivers know it: host memory behind claims.

use std::ops::{Deref, DerefMut};

use io_pgtable::Ipa;
use mem_protect::{Claim, Ownership};
use smmu_drv::platform::{ClaimError, HostMemory, Sharing};

use crate::cpu::Cpu;
use crate::dma::Dma;
use crate::pages::Pages;

/// The ownership map with everything that follows it.
pub struct Owner(pub(crate) Ownership<'static, Cpu, Dma, Pages>);

/// A claim. Drivers can be copied only while they have none: see [`crate::Machine::snapshot`].
#[derive(Debug)]
pub struct Held(Claim);

impl Clone for Held {
    fn clone(&self) -> Self {
        panic!("a claim has no copies: {:?}", self.0)
    }
}

impl Deref for Owner {
    type Target = Ownership<'static, Cpu, Dma, Pages>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Owner {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl HostMemory for Owner {
    type Claim = Held;

    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Held, ClaimError> {
        self.0.memory_mut().claim(ipa, size, sharing).map(Held)
    }

    fn release(&mut self, claim: Held) {
        self.0.memory_mut().release(claim.0);
    }

    fn holds(&self, claim: &Held) -> bool {
        self.0.memory().holds(&claim.0)
    }

    fn read64(&self, claim: &Held, offset: u64) -> Option<u64> {
        self.0.memory().read64(&claim.0, offset)
    }

    fn read_pair(&self, claim: &Held, offset: u64) -> Option<[u64; 2]> {
        self.0.memory().read_pair(&claim.0, offset)
    }

    fn write64(&mut self, claim: &Held, offset: u64, value: u64) -> Option<()> {
        self.0.memory_mut().write64(&claim.0, offset, value)
    }

    fn write_record(&mut self, claim: &Held, offset: u64, record: [u64; 4]) -> Option<()> {
        self.0.memory_mut().write_record(&claim.0, offset, record)
    }

    fn write32(&mut self, claim: &Held, offset: u64, value: u32) -> Option<()> {
        self.0.memory_mut().write32(&claim.0, offset, value)
    }
}
