//! Fault injection: memory, power, hardware.

use smmu_drv::AccessSize;
use smmu_model::Injection;
use smmu_model::arch::regs as r;

use super::Execution;
use super::action::Fault;

impl Execution {
    pub(super) fn fault(&mut self, n: usize, what: Fault, arg: u8) {
        self.last_check = None;
        match what {
            Fault::NoMemory => self.cached.m.pool.exhaust(),
            Fault::MemoryRestored => self.cached.m.pool.refill(),
            Fault::NoTables => self.cached.m.owner().dma_mut().fail_tables_after(Some((arg % 8).into())),
            Fault::TablesRestored => self.cached.m.owner().dma_mut().fail_tables_after(None),
            Fault::PowerLoss => {
                self.cached.bypass_check.power_lost();
                self.cached.m.models[n].borrow_mut().lose_power();
                // EL2 detects the loss at the next trap. Until then nothing is guaranteed.
                let _ = self.cached.m.write_once(n, r::IDR0, AccessSize::Word, 0);
            }
            Fault::CommandError => self.inject(n, Injection::CommandError((arg % 3).into())),
            Fault::EventAbort => self.inject(n, Injection::EventqAbort),
            Fault::SyncNever => {
                self.drivers[n].may_fail = true;
                self.inject(n, Injection::SyncNever);
            }
            Fault::Failure => {
                self.drivers[n].may_fail = true;
                self.cached.m.models[n].borrow_mut().fail();
            }
            Fault::Quiesce => {
                self.drivers[n].quiesced = true;
                // Refused only if hardware has failed; SMMUEN is then cleared with GBPA set to abort.
                let _ = self.cached.m.driver(n, |smmu, _| smmu.quiesce());
            }
        }
    }

    fn inject(&mut self, n: usize, injection: Injection) {
        self.injected = true;
        // After more consecutive errors than EL2 recovers from, it marks the SMMU as failed.
        self.drivers[n].may_fail |= matches!(injection, Injection::CommandError(_));
        self.cached.m.models[n].borrow_mut().inject(injection);
    }
}
