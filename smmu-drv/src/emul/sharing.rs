//! How the host keeps what it shares with its SMMU: SMMU_CR1 says it, where the SMMU snoops at all.
//!
//! The attributes in CR1 are those of the SMMU's accesses [S 6.3.11]. A host that maps its queues past the caches says so there, also
//! on an SMMU that could snoop [S 3.15]: EL2, which stands in for the SMMU, then has to read memory and not its cache. Anything but
//! write-back and shareable counts as past the caches: cleaning and invalidating a line that both see costs time and nothing else.

use super::{CR1_QUEUE, CR1_TABLE};
use crate::features::Coherency;
use crate::platform::{HostMemory, Platform, Sharing};
use crate::smmu::Smmu;
use crate::spec::registers::cr1;
use crate::spec::{Field32, put32};

/// Of the queues: CR1\[5:0\] for write-back, inner or outer shareable.
const QUEUES: [u32; 2] = write_back([cr1::QUEUE_IC, cr1::QUEUE_OC], cr1::QUEUE_SH);
/// Of the stream table: CR1\[11:6\] likewise.
const TABLES: [u32; 2] = write_back([cr1::TABLE_IC, cr1::TABLE_OC], cr1::TABLE_SH);

const fn write_back([inner, outer]: [Field32; 2], shareability: Field32) -> [u32; 2] {
    let cached = put32(inner, cr1::WB) | put32(outer, cr1::WB);
    [cached | put32(shareability, cr1::ISH), cached | put32(shareability, cr1::OSH)]
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Of the queues.
    pub(super) fn queue_sharing(&self) -> Sharing {
        self.sharing(CR1_QUEUE, QUEUES)
    }

    /// Of the stream table.
    pub(super) fn table_sharing(&self) -> Sharing {
        self.sharing(CR1_TABLE, TABLES)
    }

    fn sharing(&self, fields: u32, cached: [u32; 2]) -> Sharing {
        match self.features.coherent {
            Coherency::Coherent if cached.contains(&(self.regs.cr1 & fields)) => Sharing::Cacheable,
            Coherency::Coherent | Coherency::NonCoherent => Sharing::Memory,
        }
    }
}
