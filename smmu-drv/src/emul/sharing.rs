//! How the host keeps what it shares with its SMMU: SMMU_CR1 says it, where the SMMU snoops at all.
//!
//! The attributes in CR1 are those of the SMMU's accesses [S 6.3.11]. A host that maps its queues past the caches says so there, also
//! on an SMMU that could snoop [S 3.15]: EL2, which stands in for the SMMU, then has to read memory and not its cache. Anything but
//! write-back and shareable counts as past the caches: cleaning and invalidating a line that both see costs time and nothing else.

use crate::features::Coherency;
use crate::platform::{HostMemory, Platform, Sharing};
use crate::smmu::Smmu;
use crate::spec::registers::cr1;
use crate::spec::{Field32, get32};

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Of the queues.
    pub(super) fn queue_sharing(&self) -> Sharing {
        self.sharing([cr1::QUEUE_IC, cr1::QUEUE_OC], cr1::QUEUE_SH)
    }

    /// Of the stream table.
    pub(super) fn table_sharing(&self) -> Sharing {
        self.sharing([cr1::TABLE_IC, cr1::TABLE_OC], cr1::TABLE_SH)
    }

    fn sharing(&self, cacheability: [Field32; 2], shareability: Field32) -> Sharing {
        let cr1 = self.regs.cr1;
        let write_back = cacheability.into_iter().all(|field| get32(field, cr1) == cr1::WB);
        let shareable = matches!(get32(shareability, cr1), cr1::ISH | cr1::OSH);
        match self.features.coherent {
            Coherency::Coherent if write_back && shareable => Sharing::Cacheable,
            Coherency::Coherent | Coherency::NonCoherent => Sharing::Memory,
        }
    }
}
