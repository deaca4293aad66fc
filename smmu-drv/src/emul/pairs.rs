//! Accesses that no single row allows: 64 bits over two registers of 32, and what is not there at all.
//!
//! The architecture leaves a 64-bit access to two adjacent 32-bit registers CONSTRAINED UNPREDICTABLE [S 6.2]. Of what it lists,
//! EL2 does what two 32-bit accesses do: FreeBSD's driver reads both indices of a queue at once.

use super::table::{Register, pair};
use crate::platform::{HostMemory, Platform};
use crate::smmu::{AccessSize, Smmu, WriteOutcome};
use crate::spec::{high32, join, low32};
use crate::stats::bump;

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Both registers in one 64-bit value.
    pub(super) fn read_pair(&mut self, low: Register, high: Register) -> u64 {
        join(low32(self.read_register(high)), low32(self.read_register(low)))
    }

    /// A load that no single row allows: of two registers, or of nothing.
    #[cold]
    pub(super) fn read_unlisted(&mut self, offset: u32, size: AccessSize) -> Option<u64> {
        if let Some((low, high)) = pair(offset, size) {
            if low == Register::EventqProd {
                return None;
            }
            bump(&mut self.stats.exits);
            return Some(self.read_pair(low, high));
        }
        bump(&mut self.stats.exits);
        bump(&mut self.stats.denied_accesses);
        Some(0)
    }

    /// A store that no single row allows: to two registers, the lower one first, or to nothing.
    #[cold]
    pub(super) fn write_unlisted(&mut self, host: &mut H, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        let Some((low, high)) = pair(offset, size) else {
            bump(&mut self.stats.denied_accesses);
            return WriteOutcome::Done;
        };
        let mut outcome = self.write_register(host, low, u64::from(low32(value)));
        if outcome == WriteOutcome::Done {
            outcome = self.write_register(host, high, u64::from(high32(value)));
        }
        if outcome == WriteOutcome::Again {
            // The same store again does the rest; no register has an effect a second time.
            bump(&mut self.stats.budget_exits);
        }
        outcome
    }
}
