//! SMMU_CR0 and SMMU_GBPA of the host: changes of the enable bits, which are never written to the hardware register.
//!
//! A change of SMMUEN changes the mode of every stream: a walk over the shadow table, in steps, so that each trap is bounded. CR0ACK,
//! or GBPA.UPDATE, is updated when the walk is complete.

use super::queue::HostQueue;
use super::registers::GBPA_ALLOWED;
use super::strtab::HostStrtab;
use super::{Effect, VirtualSmmu};
use crate::platform::HostMemory;
use crate::smmu::budget::{Budget, Unfinished};
use crate::smmu::stream::Cursor;
use crate::spec::get32;
use crate::spec::registers::{cr0::Cr0, gbpa};

/// The mode of all streams, from the host's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// SMMUEN == 0, GBPA.ABORT == 0.
    Bypass,
    /// SMMUEN == 0, GBPA.ABORT == 1.
    Abort,
    /// SMMUEN == 1.
    Table,
}

/// A change of the mode of all streams, in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// The new mode.
    mode: Mode,
    /// Progress over the streams.
    cursor: Cursor,
    /// Whether all streams have it and the invalidation is synchronised.
    complete: bool,
}

/// Progress of taking the records from before a change of an enable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainState {
    /// Not begun.
    None,
    /// Begun.
    Draining,
    /// All were taken: the change can now be made.
    Drained,
}

impl<C> VirtualSmmu<C> {
    pub(super) fn write_cr0<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        wanted: Cr0,
    ) -> Result<Effect, Unfinished> {
        if core::mem::replace(&mut self.regs.cr0, wanted) != wanted {
            // The earlier change, if one was in progress, is replaced.
            self.drain_state = DrainState::None;
        }
        self.switch_cmdq(host_mem, budget, wanted)?;
        if wanted.contains(Cr0::EVENTQEN) != self.regs.cr0ack.contains(Cr0::EVENTQEN) {
            if self.drain_state != DrainState::Drained {
                budget.charge(self.regs.eventq_geometry().cost())?;
            }
            // Events of transactions that ended before the queue is disabled are visible in it [S 6.3.9.4]; events from before it
            // is enabled are not shown to the host.
            if !self.take_drained() {
                return Ok(Effect::DrainBeforeChange);
            }
            self.switch_eventq(host_mem);
        }
        if let Some(effect) = self.follow_irq_ctrl() {
            return Ok(effect);
        }
        if wanted.contains(Cr0::SMMUEN) != self.pending_smmuen() {
            // Records up to this point belong to the old value of SMMUEN and are converted with it.
            if !self.take_drained() {
                return Ok(Effect::DrainBeforeChange);
            }
            self.begin_smmuen(wanted);
        }
        // Commands may have been waiting for CMDQEN.
        Ok(self.continue_change().unwrap_or(Effect::Commands))
    }

    fn begin_smmuen(&mut self, wanted: Cr0) {
        let mode = if wanted.contains(Cr0::SMMUEN) {
            let table =
                HostStrtab::new(self.regs.strtab_base, self.regs.strtab_base_cfg, self.table_sharing(), &self.ids);
            self.table = Some(table);
            self.event_table = Some(table);
            Mode::Table
        } else {
            self.table = None;
            self.pending = None;
            self.mode_when_disabled()
        };
        self.begin_change(mode);
        self.regs.gbpa_update = false;
    }

    pub(super) fn write_gbpa(&mut self, word: u32) -> Effect {
        // Without UPDATE the write is ignored [S 6.3.14.1].
        if get32(gbpa::UPDATE, word) == 0 {
            return Effect::Done;
        }
        let value = word & GBPA_ALLOWED;
        if self.regs.gbpa_update {
            // During an update, other writes are also ignored; the same store continues it.
            return match self.continue_change() {
                Some(Effect::ChangeMode) if value != self.regs.gbpa => Effect::ContinueChange,
                Some(_) if value != self.regs.gbpa => Effect::Done,
                effect => effect.unwrap_or(Effect::Done),
            };
        }
        let before = self.mode_when_disabled();
        self.regs.gbpa = value;
        let after = self.mode_when_disabled();
        if before == after || self.pending_smmuen() {
            return Effect::Done;
        }
        // The same while SMMUEN is being cleared: the value applies when it is clear.
        self.begin_change(after);
        self.drain_state = DrainState::None;
        self.regs.gbpa_update = true;
        self.continue_change().unwrap_or(Effect::Done)
    }

    fn begin_change(&mut self, mode: Mode) {
        self.change = Some(Change { mode, cursor: Cursor::at(0), complete: false });
    }

    /// SMMUEN after the change in progress.
    fn pending_smmuen(&self) -> bool {
        match &self.change {
            Some(change) => change.mode == Mode::Table,
            None => self.regs.cr0ack.contains(Cr0::SMMUEN),
        }
    }

    /// The mode of all streams of the host, or the one that they are changing to.
    pub(crate) fn mode(&self) -> Mode {
        match &self.change {
            Some(change) => change.mode,
            None if self.regs.cr0ack.contains(Cr0::SMMUEN) => Mode::Table,
            None => self.mode_when_disabled(),
        }
    }

    fn mode_when_disabled(&self) -> Mode {
        if self.regs.gbpa_aborts() { Mode::Abort } else { Mode::Bypass }
    }

    /// The next effect of a change of the mode of all streams; `None` if there is none, and then the change is acknowledged.
    fn continue_change(&mut self) -> Option<Effect> {
        let change = self.change?;
        if self.quiesced {
            self.change = None;
            self.regs.gbpa_update = false;
            return None;
        }
        if !change.complete {
            return Some(Effect::ChangeMode);
        }
        // The CMD_SYNC at the end of the change made the records of faults under the old mode visible.
        if change.mode != Mode::Table && self.regs.cr0ack.contains(Cr0::SMMUEN) && !self.take_drained() {
            return Some(Effect::DrainBeforeChange);
        }
        self.change = None;
        self.event_table = self.table;
        self.regs.gbpa_update = false;
        self.regs.cr0ack.set(Cr0::SMMUEN, change.mode == Mode::Table);
        None
    }

    /// The new mode of the streams, and the position to continue at; `None` if all streams have it.
    pub(crate) fn change(&self) -> Option<(Mode, Cursor)> {
        self.change.filter(|change| !change.complete).map(|change| (change.mode, change.cursor))
    }

    /// Saves the progress of the change.
    pub(crate) fn save_change(&mut self, cursor: Cursor) {
        if let Some(change) = &mut self.change {
            change.cursor = cursor;
        }
    }

    /// Records that all streams have the new mode and the invalidation is synchronised.
    pub(crate) fn streams_changed(&mut self) {
        if let Some(change) = &mut self.change {
            change.complete = true;
        }
    }

    /// For a failed SMMU: the change is never acknowledged, as on hardware that does not respond.
    #[cold]
    pub(crate) fn cancel_change(&mut self) {
        self.change = None;
    }

    /// Begins to take the records from before a change. Returns whether this had already begun.
    pub(crate) fn begin_draining(&mut self) -> bool {
        core::mem::replace(&mut self.drain_state, DrainState::Draining) == DrainState::Draining
    }

    /// Records that the records from before a change were taken.
    pub(crate) fn end_draining(&mut self) {
        self.drain_state = DrainState::Drained;
    }

    /// Whether the records from before this change were taken. Returns `true` only once: the next change takes records
    /// again.
    pub(super) fn take_drained(&mut self) -> bool {
        let drained = self.drain_state == DrainState::Drained;
        if drained {
            self.drain_state = DrainState::None;
        }
        drained
    }

    fn switch_cmdq<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        wanted: Cr0,
    ) -> Result<(), Unfinished> {
        let on = self.regs.cr0ack.contains(Cr0::CMDQEN);
        if wanted.contains(Cr0::CMDQEN) == on {
            return Ok(());
        }
        // The base cannot change while the queue is enabled, so it is the same when the claim ends.
        let geometry = self.regs.cmdq_geometry();
        budget.charge(geometry.cost())?;
        if on {
            self.cmdq.disable(host_mem);
        } else {
            let (queue, result) = HostQueue::enable(host_mem, geometry, self.queue_sharing());
            self.cmdq = queue;
            self.regs.cmdq_cons = geometry.indices().of(self.regs.cmdq_cons);
            self.count_claim(result);
        }
        self.regs.cr0ack.toggle(Cr0::CMDQEN);
        Ok(())
    }

    fn switch_eventq<H: HostMemory<Claim = C>>(&mut self, host_mem: &mut H) {
        if self.regs.cr0ack.contains(Cr0::EVENTQEN) {
            self.eventq.disable(host_mem);
        } else {
            let (queue, result) = HostQueue::enable(host_mem, self.regs.eventq_geometry(), self.queue_sharing());
            self.eventq = queue;
            self.count_claim(result);
        }
        self.regs.cr0ack.toggle(Cr0::EVENTQEN);
    }
}
