//! The registers that the host's accesses cover.
//!
//! The architecture leaves a 64-bit access to two adjacent 32-bit registers CONSTRAINED UNPREDICTABLE [S 6.2]. Of the permitted
//! behaviours EL2 implements two 32-bit accesses: FreeBSD's driver reads both indices of a queue at once.

use super::VirtualSmmu;
use super::table::{AccessSize, Part, Register, lookup, pair};
use crate::spec::{high32, join, low32};
use crate::stats::bump;

/// A store to one whole register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub(super) register: Register,
    pub(super) value: u64,
}

impl<C> VirtualSmmu<C> {
    /// The value of a load; `None`, and nothing changes, for EVENTQ_PROD: its value depends on the host's memory, see
    /// [`VirtualSmmu::load_eventq`]. An access that no row of the table allows reads as zero and is counted.
    #[inline(always)]
    pub(crate) fn load(&mut self, offset: u32, size: AccessSize) -> Option<u64> {
        let Some((register, part)) = lookup(offset, size) else {
            return self.load_unlisted(offset, size);
        };
        if register == Register::EventqProd {
            return None;
        }
        bump(&mut self.stats.exits);
        let value = self.read_register(register);
        Some(match part {
            Part::Word | Part::Double => value,
            Part::Low => u64::from(low32(value)),
            Part::High => u64::from(high32(value)),
        })
    }

    /// The value of a load of EVENTQ_PROD, alone or with EVENTQ_CONS, after hardware's records were taken.
    pub(crate) fn load_eventq(&mut self, size: AccessSize) -> u64 {
        bump(&mut self.stats.exits);
        match size {
            AccessSize::Double => self.read_pair(Register::EventqProd, Register::EventqCons),
            AccessSize::Byte | AccessSize::Half | AccessSize::Word => self.read_register(Register::EventqProd),
        }
    }

    /// The register and value of a store; `None` if it is not to one register, see [`VirtualSmmu::stores`].
    #[inline(always)]
    pub(crate) fn store(&mut self, offset: u32, size: AccessSize, value: u64) -> Option<Store> {
        bump(&mut self.stats.exits);
        let (register, part) = lookup(offset, size)?;
        let value = match part {
            Part::Word => u64::from(low32(value)),
            Part::Double => value,
            Part::Low => join(high32(self.read_register(register)), low32(value)),
            Part::High => join(low32(value), low32(self.read_register(register))),
        };
        Some(Store { register, value })
    }

    /// The registers and values of a store to two registers, the lower one first; `None` if no row allows it, which is counted.
    #[cold]
    pub(crate) fn stores(&mut self, offset: u32, size: AccessSize, value: u64) -> Option<[Store; 2]> {
        let Some((low, high)) = pair(offset, size) else {
            bump(&mut self.stats.denied_accesses);
            return None;
        };
        Some([
            Store { register: low, value: u64::from(low32(value)) },
            Store { register: high, value: u64::from(high32(value)) },
        ])
    }

    /// Both registers in one 64-bit value.
    fn read_pair(&mut self, low: Register, high: Register) -> u64 {
        join(low32(self.read_register(high)), low32(self.read_register(low)))
    }

    /// A load without a row: of two registers, or unlisted.
    #[cold]
    fn load_unlisted(&mut self, offset: u32, size: AccessSize) -> Option<u64> {
        let registers = pair(offset, size);
        if matches!(registers, Some((Register::EventqProd, _))) {
            return None;
        }
        bump(&mut self.stats.exits);
        Some(match registers {
            Some((low, high)) => self.read_pair(low, high),
            None => {
                bump(&mut self.stats.denied_accesses);
                0
            }
        })
    }
}
