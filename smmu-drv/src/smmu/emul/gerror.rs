//! SMMU_GERROR and SMMU_GERRORN of the host, and the interrupts that must be raised.

use super::{Effect, VirtualSmmu};
use crate::platform::WiredIrq;
use crate::spec::registers::{Cerror, gerror::Gerror, irq_ctrl::IrqCtrl, queue_index};
use crate::spec::{mask32, put32, replace32};

/// A set of wired interrupts. They are edge-triggered: each is raised at most once in a trap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interrupts {
    eventq: bool,
    gerror: bool,
    cmdq_sync: bool,
    any: bool,
}

impl Interrupts {
    pub(super) fn add(&mut self, irq: WiredIrq) {
        self.any = true;
        match irq {
            WiredIrq::Eventq => self.eventq = true,
            WiredIrq::Gerror => self.gerror = true,
            WiredIrq::CmdqSync => self.cmdq_sync = true,
        }
    }

    fn take(&mut self) -> impl Iterator<Item = WiredIrq> + use<> {
        let taken = core::mem::take(self);
        let each =
            [(taken.eventq, WiredIrq::Eventq), (taken.gerror, WiredIrq::Gerror), (taken.cmdq_sync, WiredIrq::CmdqSync)];
        each.into_iter().filter(|(wanted, _)| *wanted).map(|(_, irq)| irq)
    }
}

impl<C> VirtualSmmu<C> {
    /// Errors that the host has not acknowledged.
    pub(super) fn active_gerror(&self) -> Gerror {
        self.regs.gerror ^ self.regs.gerrorn
    }

    /// Whether an interrupt must be raised.
    #[inline]
    pub(crate) fn has_interrupts(&self) -> bool {
        self.interrupts.any
    }

    /// The interrupts that must be raised, each once.
    pub(crate) fn take_interrupts(&mut self) -> impl Iterator<Item = WiredIrq> + use<C> {
        self.interrupts.take()
    }

    /// Reports to the host that the device has failed, as service failure mode. The interrupt is raised once.
    #[cold]
    pub(crate) fn fail(&mut self) {
        if !core::mem::replace(&mut self.failed, true) {
            self.raise_gerror(Gerror::SFM_ERR);
        }
    }

    /// Activates an error. If it is already active, nothing changes and there is no second interrupt [S 6.3.19].
    pub(super) fn raise_gerror(&mut self, error: Gerror) {
        if self.active_gerror().contains(error) {
            return;
        }
        self.regs.gerror.toggle(error);
        if self.regs.irq_ctrl.contains(IrqCtrl::GERROR_IRQEN) {
            self.interrupts.add(WiredIrq::Gerror);
        }
    }

    /// Stops command consumption at the entry of CONS [S 7.1].
    pub(crate) fn raise_cerror(&mut self, error: Cerror) {
        let code = match error {
            Cerror::Ill => 1,
            Cerror::Abt => 2,
        };
        self.regs.cmdq_cons = replace32(self.regs.cmdq_cons, mask32(queue_index::ERR), put32(queue_index::ERR, code));
        self.raise_gerror(Gerror::CMDQ_ERR);
    }

    /// A write of GERRORN.
    pub(super) fn write_gerrorn(&mut self, written: Gerror) -> Effect {
        let active = self.active_gerror();
        let stays = active & (written ^ self.regs.gerror);
        // The event queue was not writable before this acknowledgement.
        if active.difference(stays).contains(Gerror::EVENTQ_ABT_ERR) && !self.take_drained() {
            return Effect::DrainBeforeChange;
        }
        self.acknowledge_gerror(written);
        Effect::Commands
    }

    /// Acknowledges active errors. Toggling an inactive one is CONSTRAINED UNPREDICTABLE; it is ignored.
    fn acknowledge_gerror(&mut self, written: Gerror) {
        let active = self.active_gerror();
        self.regs.gerrorn = self.regs.gerrorn.difference(active).union(written & active);
        if active.contains(Gerror::CMDQ_ERR) && !self.active_gerror().contains(Gerror::CMDQ_ERR) {
            // The error code is UNKNOWN from now on [S 6.3.28], and reads as zero.
            self.regs.cmdq_cons &= mask32(queue_index::INDEX);
        }
    }
}
