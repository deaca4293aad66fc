//! The host's register accesses.

use super::emul::table::AccessSize;
use super::hosted::{HostedSmmu, WriteOutcome};
use crate::platform::{HostMemory, Platform};

impl<P: Platform, H: HostMemory> HostedSmmu<P, H> {
    /// Emulates a load of the host: `offset` bytes from the base of page 0.
    ///
    /// Never fails: an access that no row of the register table allows reads as zero and is counted.
    pub fn mmio_read(&mut self, host_mem: &mut H, offset: u32, size: AccessSize) -> u64 {
        if let Some(value) = self.mmio_read_plain(offset, size) {
            return value;
        }
        self.budget = self.smmu.full_budget;
        self.drain_events(host_mem);
        self.end_trap();
        self.vsmmu.load_eventq(size)
    }

    /// As [`HostedSmmu::mmio_read`], for every register except EVENTQ_PROD, whose value depends on the host's memory: for that one it
    /// returns `None` and changes no state of the host.
    #[inline(always)]
    pub fn mmio_read_plain(&mut self, offset: u32, size: AccessSize) -> Option<u64> {
        // After a CPU resumes, the host's first access may be a load, and an SMMU that lost its state bypasses
        // everything until EL2 detects it.
        let _ = self.check_alive();
        self.vsmmu.load(offset, size)
    }

    /// Emulates a store of the host: `offset` bytes from the base of page 0.
    ///
    /// Never fails: an access that no row of the register table allows is ignored and counted. After [`WriteOutcome::Again`] the host must repeat the store.
    pub fn mmio_write(&mut self, host_mem: &mut H, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        self.budget = self.smmu.full_budget;
        // A failed SMMU is still emulated, without hardware access.
        let _ = self.check_alive();
        let outcome = match self.vsmmu.store(offset, size, value) {
            Some(store) => self.handle_store(host_mem, store),
            None => self.handle_stores(host_mem, offset, size, value),
        };
        if outcome == WriteOutcome::Again {
            self.vsmmu.count_budget_exit();
        }
        self.end_trap();
        outcome
    }

    /// A store to two registers, or to none.
    #[cold]
    fn handle_stores(&mut self, host_mem: &mut H, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        // If this ends early, the repeated store executes the rest: a register that is written twice with the same
        // value has its effect once.
        for store in self.vsmmu.stores(offset, size, value).into_iter().flatten() {
            if self.handle_store(host_mem, store) == WriteOutcome::Again {
                return WriteOutcome::Again;
            }
        }
        WriteOutcome::Done
    }
}
