//! The host's register accesses.
//!
//! The architecture leaves a 64-bit access to two adjacent 32-bit registers CONSTRAINED UNPREDICTABLE [S 6.2]. Of the permitted
//! behaviours EL2 implements two 32-bit accesses: FreeBSD's driver reads both indices of a queue at once.

use super::Smmu;
use crate::platform::{HostMemory, Platform};
use crate::smmu::budget::Budget;
use crate::smmu::emul::table::{AccessSize, Part, Register, lookup, pair};
use crate::spec::{high32, join, low32};

/// How an emulated store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteOutcome {
    /// Complete: advance the PC.
    Done,
    /// The budget of one trap is used up and progress is saved: return without advancing the PC, so that pending interrupts are
    /// taken and the host repeats the store.
    Again,
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Answers a load of the host: `offset` bytes from the base of page 0.
    ///
    /// Never fails: what no policy row allows reads as zero and is counted.
    pub fn mmio_read(&mut self, host: &mut H, offset: u32, size: AccessSize) -> u64 {
        if let Some(value) = self.mmio_read_plain(offset, size) {
            return value;
        }
        self.host.count_exit();
        let _ = self.check_alive();
        self.budget = Budget::for_one_trap();
        self.drain_events(host);
        self.end_trap();
        match size {
            AccessSize::Double => self.read_pair(Register::EventqProd, Register::EventqCons),
            AccessSize::Byte | AccessSize::Half | AccessSize::Word => self.host.read_register(Register::EventqProd),
        }
    }

    /// As [`Smmu::mmio_read`], for every register but those whose value depends on the host's memory (EVENTQ_PROD): there it
    /// changes nothing and is `None`.
    #[inline(always)]
    pub fn mmio_read_plain(&mut self, offset: u32, size: AccessSize) -> Option<u64> {
        let Some((register, part)) = lookup(offset, size) else {
            let _ = self.check_alive();
            return self.read_unlisted(offset, size);
        };
        if register == Register::EventqProd {
            return None;
        }
        self.host.count_exit();
        // A resuming host reads before it writes, and an SMMU that lost its state bypasses everything until EL2 notices.
        let _ = self.check_alive();
        let value = self.host.read_register(register);
        Some(match part {
            Part::Word | Part::Double => value,
            Part::Low => u64::from(low32(value)),
            Part::High => u64::from(high32(value)),
        })
    }

    /// Answers a store of the host: `offset` bytes from the base of page 0.
    ///
    /// Never fails: what no policy row allows is ignored and counted. After [`WriteOutcome::Again`] the host must repeat the store.
    pub fn mmio_write(&mut self, host: &mut H, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        self.host.count_exit();
        self.budget = Budget::for_one_trap();
        // A failed SMMU is still emulated, without hardware access.
        let _ = self.check_alive();
        let outcome = match lookup(offset, size) {
            Some((register, part)) => {
                let value = match part {
                    Part::Word => u64::from(low32(value)),
                    Part::Double => value,
                    Part::Low => join(high32(self.host.read_register(register)), low32(value)),
                    Part::High => join(low32(value), low32(self.host.read_register(register))),
                };
                self.write_register(host, register, value)
            }
            None => self.write_unlisted(host, offset, size, value),
        };
        if outcome == WriteOutcome::Again {
            self.host.count_budget_exit();
        }
        self.end_trap();
        outcome
    }

    /// Both registers in one 64-bit value.
    fn read_pair(&mut self, low: Register, high: Register) -> u64 {
        join(low32(self.host.read_register(high)), low32(self.host.read_register(low)))
    }

    /// A load without a row: of two registers, or unlisted.
    #[cold]
    fn read_unlisted(&mut self, offset: u32, size: AccessSize) -> Option<u64> {
        if let Some((low, high)) = pair(offset, size) {
            if low == Register::EventqProd {
                return None;
            }
            self.host.count_exit();
            return Some(self.read_pair(low, high));
        }
        self.host.count_exit();
        self.host.count_denied();
        Some(0)
    }

    /// A store without a row: to two registers, the lower one first, or unlisted.
    #[cold]
    fn write_unlisted(&mut self, host: &mut H, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        let Some((low, high)) = pair(offset, size) else {
            self.host.count_denied();
            return WriteOutcome::Done;
        };
        // If this ends early, the repeated store does the rest: no register has an effect a second time.
        match self.write_register(host, low, u64::from(low32(value))) {
            WriteOutcome::Done => self.write_register(host, high, u64::from(high32(value))),
            WriteOutcome::Again => WriteOutcome::Again,
        }
    }
}
