//! SMMU_GERROR and SMMU_GERRORN of the host: errors of the emulated SMMU, and their wired interrupt.

use crate::platform::{HostMemory, Platform, WiredIrq};
use crate::smmu::{Smmu, WriteOutcome};
use crate::spec::registers::{Cerror, gerror::Gerror, irq_ctrl::IrqCtrl, queue_index};
use crate::spec::{mask32, put32, replace32};

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Errors that the host has not acknowledged.
    pub(super) fn active_gerror(&self) -> Gerror {
        self.regs.gerror ^ self.regs.gerrorn
    }

    /// Activates an error. One that is active already stays so; there is no second interrupt [S 6.3.19].
    pub(crate) fn raise_gerror(&mut self, error: Gerror) {
        if self.active_gerror().contains(error) {
            return;
        }
        self.regs.gerror.toggle(error);
        if self.regs.irq_ctrl.contains(IrqCtrl::GERROR_IRQEN) {
            self.hw.platform().raise(WiredIrq::Gerror);
        }
    }

    /// Stops command consumption at the entry that CONS names [S 7.1].
    pub(super) fn raise_cerror(&mut self, error: Cerror) {
        let code = match error {
            Cerror::Ill => 1,
            Cerror::Abt => 2,
        };
        self.regs.cmdq_cons = replace32(self.regs.cmdq_cons, mask32(queue_index::ERR), put32(queue_index::ERR, code));
        self.raise_gerror(Gerror::CMDQ_ERR);
    }

    /// A write of GERRORN.
    pub(super) fn write_gerrorn(&mut self, host: &mut H, written: Gerror) -> WriteOutcome {
        let active = self.active_gerror();
        let stays = active & (written ^ self.regs.gerror);
        let abort = active.difference(stays).contains(Gerror::EVENTQ_ABT_ERR);
        // The queue was not writable up to here.
        if abort && self.drain_before_edge(host).is_err() {
            return WriteOutcome::Again;
        }
        self.acknowledge_gerror(written);
        self.consume_commands(host)
    }

    /// Acknowledges active errors. Toggling an inactive one is CONSTRAINED UNPREDICTABLE; it is ignored.
    fn acknowledge_gerror(&mut self, written: Gerror) {
        let active = self.active_gerror();
        self.regs.gerrorn = self.regs.gerrorn.difference(active).union(written & active);
        if active.contains(Gerror::CMDQ_ERR) && !self.active_gerror().contains(Gerror::CMDQ_ERR) {
            // UNKNOWN from here on [S 6.3.28]; zero misleads nobody.
            self.regs.cmdq_cons &= mask32(queue_index::INDEX);
        }
    }
}
