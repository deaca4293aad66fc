//! SMMU_CR0 and SMMU_GBPA of the host: edges of the enables, none of which ever reaches hardware's own.
//!
//! Turning translation on or off changes what every stream does. That is a walk over the shadow table, done in steps so
//! that a trap stays bounded: CR0ACK, or GBPA.UPDATE, follows when the walk is complete.

use super::GBPA_ALLOWED;
use super::queue::HostQueue;
use crate::budget::Unfinished;
use crate::platform::{ClaimError, HostMemory, Platform};
use crate::smmu::{Smmu, WriteOutcome};
use crate::spec::registers::{cr0::Cr0, gbpa, irq_ctrl::IrqCtrl};
use crate::spec::{get32, registers as reg};
use crate::stats::bump;
use crate::strtab::host::HostTable;
use crate::strtab::transition::{HostMode, Transition};

/// Log2 of the bytes of a command.
pub(super) const CMD_LOG2: u32 = 4;
/// Log2 of the bytes of an event record.
pub(super) const EVENT_LOG2: u32 = 5;

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    pub(super) fn write_cr0(&mut self, host: &mut H, wanted: Cr0) -> WriteOutcome {
        if core::mem::replace(&mut self.regs.cr0, wanted) != wanted {
            // An edge that nobody waits for any more.
            self.regs.edge_waits = false;
        }
        if self.switch_cmdq(host, wanted).is_err() || self.switch_eventq(host, wanted).is_err() {
            return WriteOutcome::Again;
        }
        if wanted.contains(Cr0::SMMUEN) != self.heading_for_smmuen() {
            // What was recorded up to here is of the old value of SMMUEN, and judged by it.
            if self.drain_before_edge(host).is_err() {
                return WriteOutcome::Again;
            }
            let mode = if wanted.contains(Cr0::SMMUEN) {
                let table = HostTable::new(
                    self.regs.strtab_base,
                    self.regs.strtab_base_cfg,
                    self.table_sharing(),
                    &self.regs.ids,
                );
                self.regs.table = Some(table);
                self.regs.event_table = Some(table);
                HostMode::Table
            } else {
                self.regs.table = None;
                self.regs.reshadow = None;
                self.mode_when_disabled()
            };
            self.regs.transition = Some(Transition::new(mode));
            self.regs.gbpa_update = false;
        }
        if self.run_transition(host) == WriteOutcome::Again {
            return WriteOutcome::Again;
        }
        // Commands may have been waiting for CMDQEN.
        self.consume_commands(host)
    }

    pub(super) fn write_gbpa(&mut self, host: &mut H, word: u32) -> WriteOutcome {
        // Without UPDATE the write is ignored [S 6.3.14.1].
        if get32(gbpa::UPDATE, word) == 0 {
            return WriteOutcome::Done;
        }
        let value = word & GBPA_ALLOWED;
        if self.regs.gbpa_update {
            // So is any other while an update is under way; the same store goes on with it.
            let outcome = self.run_transition(host);
            return if value == self.regs.gbpa { outcome } else { WriteOutcome::Done };
        }
        let before = self.mode_when_disabled();
        self.regs.gbpa = value;
        let after = self.mode_when_disabled();
        if before == after || self.heading_for_smmuen() {
            return WriteOutcome::Done;
        }
        // Also while SMMUEN is on its way down: this is what holds when it is.
        self.regs.transition = Some(Transition::new(after));
        self.regs.edge_waits = false;
        self.regs.gbpa_update = true;
        self.run_transition(host)
    }

    /// SMMUEN as it will be once what is under way is complete.
    fn heading_for_smmuen(&self) -> bool {
        match &self.regs.transition {
            Some(transition) => transition.mode() == HostMode::Table,
            None => self.regs.cr0ack.contains(Cr0::SMMUEN),
        }
    }

    fn mode_when_disabled(&self) -> HostMode {
        if self.regs.gbpa_aborts() { HostMode::Abort } else { HostMode::Bypass }
    }

    /// Continues a change of what all streams do; acknowledges SMMUEN when it is complete.
    fn run_transition(&mut self, host: &mut H) -> WriteOutcome {
        let Some(mut transition) = self.regs.transition.take() else {
            return WriteOutcome::Done;
        };
        if self.quiesced {
            self.regs.gbpa_update = false;
            return WriteOutcome::Done;
        }
        match self.finish_transition(host, &mut transition) {
            Ok(()) => {
                let on = transition.mode() == HostMode::Table;
                self.regs.event_table = self.regs.table;
                self.regs.gbpa_update = false;
                self.regs.cr0ack.set(Cr0::SMMUEN, on);
                WriteOutcome::Done
            }
            Err(Unfinished::Budget) => {
                self.regs.transition = Some(transition);
                WriteOutcome::Again
            }
            // The SMMU is failed: the enable is never acknowledged, as on hardware that hangs.
            Err(Unfinished::Failed(_)) => WriteOutcome::Done,
        }
    }

    fn finish_transition(&mut self, host: &mut H, transition: &mut Transition) -> Result<(), Unfinished> {
        self.step_transition(host, transition)?;
        if transition.mode() != HostMode::Table && self.regs.cr0ack.contains(Cr0::SMMUEN) {
            // Faults of streams that had not followed yet: the CMD_SYNC at the end made their records visible.
            self.drain_before_edge(host)?;
        }
        Ok(())
    }

    fn switch_cmdq(&mut self, host: &mut H, wanted: Cr0) -> Result<(), Unfinished> {
        let on = self.regs.cr0ack.contains(Cr0::CMDQEN);
        if wanted.contains(Cr0::CMDQEN) == on {
            return Ok(());
        }
        // The base is guarded by the enable, so that it is the same when the claim ends.
        self.budget.charge(self.regs.cmdq_geometry().cost())?;
        if on {
            self.regs.cmdq.disable(host);
        } else {
            let geometry = self.regs.cmdq_geometry();
            let (queue, result) = HostQueue::enable(host, geometry, self.queue_sharing());
            self.regs.cmdq = queue;
            self.regs.cmdq_cons &= geometry.mask();
            self.note_claim(result);
        }
        self.regs.cr0ack.toggle(Cr0::CMDQEN);
        Ok(())
    }

    fn switch_eventq(&mut self, host: &mut H, wanted: Cr0) -> Result<(), Unfinished> {
        let on = self.regs.cr0ack.contains(Cr0::EVENTQEN);
        if wanted.contains(Cr0::EVENTQEN) == on {
            return Ok(());
        }
        self.budget.charge(self.regs.eventq_geometry().cost())?;
        // Events of transactions that ended before the queue goes off are visible in it [S 6.3.9.4]; events from before it goes on were
        // never the host's.
        self.drain_before_edge(host)?;
        if on {
            self.regs.eventq.disable(host);
        } else {
            let geometry = self.regs.eventq_geometry();
            let (queue, result) = HostQueue::enable(host, geometry, self.queue_sharing());
            self.regs.eventq = queue;
            self.note_claim(result);
        }
        self.regs.cr0ack.toggle(Cr0::EVENTQEN);
        self.follow_irq_ctrl(host);
        Ok(())
    }

    /// Counts a refusal of the host's memory.
    pub(super) fn note_claim(&mut self, answer: Result<(), ClaimError>) {
        if answer.is_err() {
            bump(&mut self.stats.claims_refused);
        }
    }

    /// As [`Smmu::update_irq_ctrl`], then looks for records that came before the interrupt was on.
    pub(super) fn follow_irq_ctrl(&mut self, host: &mut H) {
        let before = self.irq_hw;
        self.update_irq_ctrl();
        if self.irq_hw != 0 && before == 0 {
            self.events_can_interrupt(host);
        }
    }

    /// Lets hardware interrupt the host for events exactly while the host has asked for it and would see them. The interrupt of
    /// global errors stays off: hardware's errors are EL2's, and the host's are raised by hand.
    pub(crate) fn update_irq_ctrl(&mut self) {
        let enabled = self.regs.irq_ctrl.contains(IrqCtrl::EVENTQ_IRQEN)
            && self.regs.cr0ack.contains(Cr0::EVENTQEN)
            && self.failed.is_none();
        let wanted = if enabled { IrqCtrl::EVENTQ_IRQEN.bits() } else { 0 };
        if wanted != self.irq_hw {
            self.irq_hw = wanted;
            // Not acknowledged: the host polls instead of being interrupted; nothing else depends on it.
            let _ = self.hw.write_acked(reg::IRQ_CTRL, reg::IRQ_CTRLACK, wanted);
        }
    }
}
