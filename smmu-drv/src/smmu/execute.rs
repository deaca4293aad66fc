//! Executes the results of the virtual SMMU on the shadow table and the device.

use super::Records;
use super::budget::{Budget, Costs, Unfinished};
use super::device::{Device, Remaining};
use super::emul::{CommandStep, Effect, Mode, Notify, Source, Stop, Store};
use super::hosted::{HostedSmmu, WriteOutcome};
use super::shadow::owners::StreamOwner;
use super::shadow::{Entered, Entries, Hardware, Shared};
use super::ste::Group;
use super::stream::Cursor;
use crate::command::Command;
use crate::error::SmmuError;
use crate::fault::FaultRecord;
use crate::platform::{HostMemory, Platform};

impl<P: Platform> Hardware<P::Buffer> for Device<P> {
    type Platform = P;

    #[inline]
    fn platform(&self) -> &P {
        Self::platform(self)
    }
    #[inline]
    fn costs(&self) -> Costs {
        Self::costs(self)
    }
    #[inline]
    fn push(&mut self, command: Command) -> Result<(), SmmuError> {
        Self::push(self, command)
    }
    #[inline]
    fn sync(&mut self) -> Result<(), SmmuError> {
        Self::sync(self)
    }
}

/// Converts records of the host's streams for the host; records of other streams stay in EL2's log.
impl<H: HostMemory> Records for Source<'_, H> {
    fn record(&mut self, budget: &mut Budget, owner: StreamOwner, record: &FaultRecord) {
        if owner == StreamOwner::Host {
            Source::record(self, budget, record);
        }
    }
    fn lost(&mut self) {
        self.events_were_lost();
    }
}

impl<H: HostMemory> Entries for Source<'_, H> {
    fn group(&mut self, budget: &mut Budget, sid: u32, count: usize) -> Result<Group, Unfinished> {
        Source::group(self, budget, sid, count)
    }
}

/// Result of a drain of hardware's queue, for the host's interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// No interrupt is needed.
    Nothing,
    /// The host's queue was empty and got a record.
    HostQueueWasEmpty,
    /// Records remain in hardware's queue, which raises no interrupt for them, so the host must read its queue again.
    RecordsRemain,
}

impl<P: Platform, H: HostMemory> HostedSmmu<P, H> {
    /// Handles a store of the host to one register, with all its effects.
    #[inline]
    pub(super) fn handle_store(&mut self, host_mem: &mut H, store: Store) -> WriteOutcome {
        loop {
            let done = match self.vsmmu.write_register(host_mem, &mut self.budget, store) {
                Ok(Effect::Done) => return WriteOutcome::Done,
                Ok(Effect::Commands) => return self.consume_commands(host_mem),
                Ok(effect) => self.execute(host_mem, effect),
                Err(unfinished) => Err(unfinished),
            };
            match done {
                Ok(WriteOutcome::Again) => {}
                Ok(WriteOutcome::Done) => return WriteOutcome::Done,
                Err(Unfinished::Budget) => return WriteOutcome::Again,
                Err(Unfinished::Failed(_)) => {
                    self.vsmmu.cancel_change();
                    return WriteOutcome::Done;
                }
            }
        }
    }

    /// Executes every effect except commands. [`WriteOutcome::Again`]: call `write_register` again with the same store.
    #[cold]
    fn execute(&mut self, host_mem: &mut H, effect: Effect) -> Result<WriteOutcome, Unfinished> {
        match effect {
            Effect::Done | Effect::Commands => return Ok(WriteOutcome::Done),
            Effect::Events => {
                self.drain_events(host_mem);
                return Ok(WriteOutcome::Done);
            }
            Effect::DrainBeforeChange => self.drain_before_change(host_mem)?,
            Effect::Interrupts => {
                if !self.smmu.device.set_irq_ctrl(self.vsmmu.wanted_irqs()).is_empty() {
                    self.events_can_interrupt(host_mem);
                }
            }
            Effect::ChangeMode => self.change_mode(host_mem)?,
            Effect::ContinueChange => {
                let _ = self.change_mode(host_mem);
                return Ok(WriteOutcome::Done);
            }
        }
        Ok(WriteOutcome::Again)
    }

    /// At the end of a trap: reports a failure to the host and raises the host's interrupts.
    #[inline]
    pub(super) fn end_trap(&mut self) {
        if self.smmu.device.failed().is_some() || self.vsmmu.has_interrupts() {
            self.report_failure();
        }
    }

    /// Reports a failure to the host, and raises the pending interrupts.
    #[cold]
    pub(super) fn report_failure(&mut self) {
        if self.smmu.device.failed().is_some() {
            self.vsmmu.fail();
        }
        for irq in self.vsmmu.take_interrupts() {
            self.smmu.device.platform().raise(irq);
        }
    }

    /// Consumes the host's commands, limited by the budget of one trap. Only the store to CMDQ_PROD traps: earlier
    /// writes of the host to its queue and its stream table do not.
    ///
    /// For a CMD_CFGI_STE: (1) `next_command` fetches and checks the command once; (2) it fetches the host's entry
    /// once and checks it, and an illegal entry becomes one with V = 0; (3) the shadow table stores the different
    /// dwords, one dword between two invalidations that are complete; (4) the invalidation is queued for hardware. (5)
    /// At a CMD_SYNC of the host, or the end of the batch, `complete` waits for hardware if there was a CMD_SYNC, and
    /// then signals it and updates CONS.
    #[inline]
    fn consume_commands(&mut self, host_mem: &mut H) -> WriteOutcome {
        // A failed SMMU completes none of them, and its entries are not changed any more: an invalidation after a
        // store would not complete.
        if self.smmu.device.failed().is_some() || !self.vsmmu.begin_commands() {
            return WriteOutcome::Done;
        }
        let mut stop = loop {
            let costs = self.smmu.device.costs();
            let done = match self.vsmmu.next_command(host_mem, &mut self.budget, costs) {
                CommandStep::Forward(command) => self.forward(command).map_err(Unfinished::Failed),
                CommandStep::QueueSync => self.smmu.device.queue_sync().map_err(Unfinished::Failed),
                CommandStep::Enter(sid, depth, entry) => {
                    match self.smmu.storage.shadow.enter(&mut self.smmu.device, &mut self.budget, sid, depth, entry) {
                        Ok(Entered::Done) => Ok(()),
                        Ok(Entered::NeedsBlock) => {
                            self.vsmmu.refresh_block_of(sid, depth);
                            Ok(())
                        }
                        Err(unfinished) => {
                            self.vsmmu.retry_entry(sid, depth);
                            Err(unfinished)
                        }
                    }
                }
                CommandStep::Refresh(cursor, end) => self.refresh(host_mem, cursor, end),
                CommandStep::Stop(stop) => break stop,
                CommandStep::Complete => self.complete(host_mem).map_err(Unfinished::Failed),
            };
            if let Err(unfinished) = done {
                break Stop::from(unfinished);
            }
        };
        if self.complete(host_mem).is_err() {
            stop = Stop::Failed;
        }
        match stop {
            Stop::Empty | Stop::Failed => WriteOutcome::Done,
            Stop::Budget => WriteOutcome::Again,
            Stop::Error(error) => {
                self.vsmmu.raise_cerror(error);
                WriteOutcome::Done
            }
        }
    }

    /// Queues a command of the host; one for a stream of another owner has no effect.
    #[inline]
    fn forward(&mut self, command: Command) -> Result<(), SmmuError> {
        match command.stream() {
            Some(sid) if !self.smmu.storage.shadow.is_hosts(sid) => Ok(()),
            Some(_) | None => self.smmu.device.push(command),
        }
    }

    /// Waits until hardware has completed the batch; then signals the host's completions and updates its CONS.
    ///
    /// On error no completion is signalled and CONS is not updated: the host's CMD_SYNC does not complete.
    #[inline]
    fn complete(&mut self, host_mem: &mut H) -> Result<(), SmmuError> {
        if self.vsmmu.has_signals() {
            self.smmu.device.sync()?;
            self.smmu.storage.shadow.synchronised();
        } else {
            self.smmu.device.submit();
        }
        self.vsmmu.complete(host_mem);
        Ok(())
    }

    /// Refreshes the shadow entries from `cursor` to before `end`; done when it returns `Ok`.
    #[inline(never)]
    fn refresh(&mut self, host_mem: &mut H, mut cursor: Cursor, end: u64) -> Result<(), Unfinished> {
        let mut source = Source::new(host_mem, &mut self.vsmmu);
        let done =
            self.smmu.storage.shadow.refresh(&mut self.smmu.device, &mut self.budget, &mut source, &mut cursor, end);
        source.end();
        self.vsmmu.save_refresh(cursor);
        done?;
        if let Some(command) = self.vsmmu.end_refresh() {
            self.smmu.storage.shadow.invalidate(&mut self.smmu.device, command)?;
        }
        Ok(())
    }

    /// Continues a change of the mode of all streams; complete and synchronised when it returns `Ok`.
    fn change_mode(&mut self, host_mem: &mut H) -> Result<(), Unfinished> {
        let Some((mode, mut cursor)) = self.vsmmu.change() else { return Ok(()) };
        if let Some(error) = self.smmu.device.failed() {
            return Err(Unfinished::Failed(error));
        }
        let done = self.set_streams(host_mem, mode, &mut cursor, u64::MAX);
        self.vsmmu.save_change(cursor);
        done?;
        self.smmu.storage.shadow.finish(&mut self.smmu.device, &mut self.budget)?;
        self.vsmmu.streams_changed();
        Ok(())
    }

    /// Sets the host's streams from `cursor` to before `end`, which ends a block, to `mode`. [`finish`](super::shadow::ShadowTable::finish)
    /// completes the change.
    pub(super) fn set_streams(
        &mut self,
        host_mem: &mut H,
        mode: Mode,
        cursor: &mut Cursor,
        end: u64,
    ) -> Result<(), Unfinished> {
        let (shadow, device, budget) = (&mut self.smmu.storage.shadow, &mut self.smmu.device, &mut self.budget);
        match mode {
            Mode::Table => {
                let mut source = Source::new(host_mem, &mut self.vsmmu);
                let done = shadow.refresh(device, budget, &mut source, cursor, end);
                source.end();
                done
            }
            Mode::Bypass => shadow.share(device, budget, cursor, end, Shared::Stage2),
            Mode::Abort => shadow.share(device, budget, cursor, end, Shared::Abort),
        }
    }

    /// Takes records from hardware's event queue to the fault log, the counters and the host's queue.
    ///
    /// At most one budget of records per call. If the host's queue was empty and got a record, its interrupt is raised: hardware's
    /// interrupt may have been taken before, for a queue that was already drained.
    pub fn poll_events(&mut self, host_mem: &mut H) {
        let _ = self.check_alive();
        self.budget = self.smmu.full_budget;
        if self.drain(host_mem) != Drained::Nothing {
            self.vsmmu.interrupt_for_events();
        }
        self.end_trap();
    }

    /// As [`HostedSmmu::poll_events`], from an access of the host to its event queue: no interrupt is raised for
    /// records that it reads in this access.
    pub(super) fn drain_events(&mut self, host_mem: &mut H) {
        if self.drain(host_mem) == Drained::RecordsRemain {
            self.vsmmu.interrupt_for_events();
        }
    }

    /// Takes the records that hardware wrote before a change of EVENTQEN or SMMUEN, or before EVENTQ_ABT_ERR is acknowledged, and
    /// converts them with the old values: committed records are visible before an update completes, and records of a
    /// queue that was not writable never are [S 6.3.9.4, 7.2.1].
    ///
    /// Records that arrive after the first of these calls may be converted with either value. So continuous events cannot delay the
    /// change: it takes one full queue of records at most.
    fn drain_before_change(&mut self, host_mem: &mut H) -> Result<(), Unfinished> {
        if !self.vsmmu.begin_draining() {
            self.smmu.device.mark_records();
        }
        if self.drain(host_mem) == Drained::RecordsRemain {
            self.vsmmu.interrupt_for_events();
            if !self.smmu.device.is_past_mark() {
                return Err(Unfinished::Budget);
            }
        }
        self.vsmmu.end_draining();
        Ok(())
    }

    /// Called after hardware's interrupt was enabled. It is raised when the queue becomes non-empty [S 3.18.2], so
    /// records that are in the queue at that time raise none: the queue is drained, and the host is interrupted if it
    /// has records.
    fn events_can_interrupt(&mut self, host_mem: &mut H) {
        let left = self.drain(host_mem) == Drained::RecordsRemain;
        if left || !self.vsmmu.host_queue_is_empty() {
            self.vsmmu.interrupt_for_events();
        }
    }

    fn drain(&mut self, host_mem: &mut H) -> Drained {
        // One walk for all records: those of one device need the same page of the host's table.
        let mut source = Source::new(host_mem, &mut self.vsmmu);
        let left = self.smmu.drain(&mut self.budget, &mut source);
        match (left, source.end()) {
            (Remaining::Records, Notify::Nothing | Notify::First) => Drained::RecordsRemain,
            (Remaining::Nothing, Notify::First) => Drained::HostQueueWasEmpty,
            (Remaining::Nothing, Notify::Nothing) => Drained::Nothing,
        }
    }
}
