//! Fault injection: memory, power, hardware.

use smmu_drv::AccessSize;
use smmu_model::Injection;
use smmu_model::arch::regs as r;

use super::Play;
use super::action::Trouble;

impl Play {
    pub(super) fn trouble(&mut self, n: usize, what: Trouble, arg: u8) {
        self.judged = None;
        match what {
            Trouble::NoMemory => self.on.m.pool.exhaust(),
            Trouble::Memory => self.on.m.pool.refill(),
            Trouble::NoTables => self.on.m.owner().dma_mut().fail_tables_after(Some((arg % 8).into())),
            Trouble::Tables => self.on.m.owner().dma_mut().fail_tables_after(None),
            Trouble::PowerLoss => {
                self.on.watch.power_lost();
                self.on.m.models[n].borrow_mut().reset();
                // The loss is noticed at the next trap that writes, whatever it writes. Until then there is no
                // guarantee.
                let _ = self.on.m.write_once(n, r::IDR0, AccessSize::Word, 0);
            }
            Trouble::CommandError => self.inject(n, Injection::CommandError((arg % 3).into())),
            Trouble::EventAbort => self.inject(n, Injection::EventqAbort),
            Trouble::SyncNever => {
                self.drivers[n].doomed = true;
                self.inject(n, Injection::SyncNever);
            }
            Trouble::Failure => {
                self.drivers[n].doomed = true;
                self.on.m.models[n].borrow_mut().fail();
            }
            Trouble::Quiesce => {
                self.drivers[n].quiesced = true;
                // Refused only where hardware fails, and then SMMUEN is cleared with GBPA set to abort.
                let _ = self.on.m.driver(n, |smmu, _| smmu.quiesce());
            }
        }
    }

    fn inject(&mut self, n: usize, injection: Injection) {
        self.injected = true;
        // More errors in a row than EL2 repairs make the queue count as broken.
        self.drivers[n].doomed |= matches!(injection, Injection::CommandError(_));
        self.on.m.models[n].borrow_mut().inject(injection);
    }
}
