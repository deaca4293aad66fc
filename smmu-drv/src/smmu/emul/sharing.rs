//! Cacheability of memory shared between the host and its SMMU, from SMMU_CR1 and the SMMU's coherency.
//!
//! The attributes in CR1 are those of the SMMU's accesses [S 6.3.11]. A host that maps its queues non-cacheable sets CR1
//! accordingly, also on an SMMU that could snoop [S 3.15]. EL2, which emulates the SMMU, must then read memory and not its
//! cache. All values except write-back and shareable are treated as non-cacheable: an unnecessary clean and invalidate
//! is harmless.

use super::VirtualSmmu;
use super::regs::{CR1_QUEUE, CR1_TABLE};
use crate::features::Coherency;
use crate::platform::Sharing;
use crate::spec::registers::cr1;
use crate::spec::{Field32, put32};

/// Cacheable queues: CR1\[5:0\] for write-back, inner or outer shareable.
const QUEUES: [u32; 2] = write_back([cr1::QUEUE_IC, cr1::QUEUE_OC], cr1::QUEUE_SH);
/// A cacheable stream table: CR1\[11:6\] for write-back, inner or outer shareable.
const TABLES: [u32; 2] = write_back([cr1::TABLE_IC, cr1::TABLE_OC], cr1::TABLE_SH);

const fn write_back([inner, outer]: [Field32; 2], shareability: Field32) -> [u32; 2] {
    let cached = put32(inner, cr1::WB) | put32(outer, cr1::WB);
    [cached | put32(shareability, cr1::ISH), cached | put32(shareability, cr1::OSH)]
}

impl<C> VirtualSmmu<C> {
    /// Cacheability of the queues.
    pub(super) fn queue_sharing(&self) -> Sharing {
        self.sharing(CR1_QUEUE, QUEUES)
    }

    /// Cacheability of the stream table.
    pub(super) fn table_sharing(&self) -> Sharing {
        self.sharing(CR1_TABLE, TABLES)
    }

    fn sharing(&self, fields: u32, cached: [u32; 2]) -> Sharing {
        match self.coherent {
            Coherency::Coherent if cached.contains(&(self.regs.cr1 & fields)) => Sharing::Cacheable,
            Coherency::Coherent | Coherency::NonCoherent => Sharing::Memory,
        }
    }
}
