//! The joint: carries out what the virtual SMMU returns.

use super::{Smmu, WriteOutcome};
use crate::error::SmmuError;
use crate::platform::{HostMemory, Platform};
use crate::smmu::budget::{self, Budget, Unfinished};
use crate::smmu::device::{Device, Overflow};
use crate::smmu::emul::table::Register;
use crate::smmu::emul::{Costs, Effect, Mode, Source, Step, Stop, Told};
use crate::smmu::shadow::{Entered, Entries, Shared};
use crate::smmu::ste::Group;

impl<H: HostMemory> Entries for Source<'_, H> {
    fn group(&mut self, budget: &mut Budget, sid: u32, count: usize) -> Result<Group, Unfinished> {
        Source::group(self, budget, sid, count)
    }
}

/// What a drain of hardware's queue left for the host to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// Nothing.
    Quiet,
    /// The host's queue was empty and got a record.
    HostMustLook,
    /// Records are left in hardware's queue, which raises no interrupt for them: the host must read its queue again.
    LeftBehind,
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// A store of the host to one register, and all that follows from it.
    #[inline]
    pub(super) fn write_register(&mut self, host: &mut H, register: Register, value: u64) -> WriteOutcome {
        loop {
            let done = match self.host.write_register(host, &mut self.budget, register, value) {
                Ok(Effect::Done) => return WriteOutcome::Done,
                Ok(Effect::Commands) => return self.consume_commands(host),
                Ok(effect) => self.carry_out(host, effect),
                Err(unfinished) => Err(unfinished),
            };
            match done {
                Ok(WriteOutcome::Again) => {}
                Ok(WriteOutcome::Done) => return WriteOutcome::Done,
                Err(Unfinished::Budget) => return WriteOutcome::Again,
                Err(Unfinished::Failed(_)) => {
                    self.host.give_up_change();
                    return WriteOutcome::Done;
                }
            }
        }
    }

    /// Everything but commands. [`WriteOutcome::Again`]: the store is to be asked again.
    #[cold]
    fn carry_out(&mut self, host: &mut H, effect: Effect) -> Result<WriteOutcome, Unfinished> {
        match effect {
            Effect::Done | Effect::Commands => return Ok(WriteOutcome::Done),
            Effect::Events => {
                self.drain_events(host);
                return Ok(WriteOutcome::Done);
            }
            Effect::DrainBeforeEdge => self.drain_before_edge(host)?,
            Effect::Interrupts => {
                if !self.device.set_irq_ctrl(self.host.wanted_irqs()).is_empty() {
                    self.events_can_interrupt(host);
                }
            }
            Effect::ChangeMode => self.change_mode(host)?,
            Effect::ContinueChange => {
                let _ = self.change_mode(host);
                return Ok(WriteOutcome::Done);
            }
        }
        Ok(WriteOutcome::Again)
    }

    /// At the end of a trap: what the host is to notice.
    #[inline]
    pub(super) fn end_trap(&mut self) {
        if self.device.failed().is_some() || self.host.has_interrupts() {
            self.report_failure();
        }
    }

    /// Shows the host a failure, and raises the interrupts that are due.
    #[cold]
    pub(super) fn report_failure(&mut self) {
        if self.device.failed().is_some() {
            self.host.fail();
        }
        for irq in self.host.take_interrupts() {
            self.device.platform().raise(irq);
        }
    }

    /// Consumes the host's commands, limited by the budget of one trap.
    #[inline]
    fn consume_commands(&mut self, host: &mut H) -> WriteOutcome {
        // A failed SMMU completes none of them, and its entries change no more: nothing could be invalidated after a store.
        if self.device.failed().is_some() || !self.host.begin_commands() {
            return WriteOutcome::Done;
        }
        let mut stop = loop {
            let costs = Costs { command: self.device.command_cost(), separate: self.device.separate_cost() };
            let done = match self.host.next_command(host, &mut self.budget, costs) {
                Step::Forward(command) => self.device.push(command).map_err(|error| self.refused(error)),
                Step::Separate => self.device.separate().map_err(|error| self.refused(error)),
                Step::Enter(sid, depth, entry) => {
                    match self.shadow.enter(&mut self.device, &mut self.budget, sid, depth, entry) {
                        Ok(Entered::Done) => Ok(()),
                        Ok(Entered::NeedsBlock) => {
                            self.host.refresh_block_of(sid, depth);
                            Ok(())
                        }
                        Err(unfinished) => {
                            self.host.retry_entry(sid, depth);
                            Err(unfinished)
                        }
                    }
                }
                Step::Refresh => self.refresh(host),
                Step::Complete => self.complete(host).map_err(Unfinished::Failed),
                Step::Stop(stop) => break stop,
            };
            if let Err(unfinished) = done {
                break Stop::from(unfinished);
            }
        };
        if self.complete(host).is_err() {
            stop = Stop::Failed;
        }
        match stop {
            Stop::Empty | Stop::Failed => WriteOutcome::Done,
            Stop::Budget => WriteOutcome::Again,
            Stop::Error(error) => {
                self.host.raise_cerror(error);
                WriteOutcome::Done
            }
        }
    }

    #[cold]
    fn refused(&mut self, error: SmmuError) -> Unfinished {
        self.host.step_back();
        Unfinished::Failed(error)
    }

    /// Lets hardware complete the batch; then the host's completions are signalled and its CONS is updated.
    ///
    /// On error nothing is signalled and CONS stays: the host sees a CMD_SYNC that does not complete.
    #[inline]
    fn complete(&mut self, host: &mut H) -> Result<(), SmmuError> {
        if self.host.has_signals() {
            self.device.sync()?;
            self.shadow.synchronised();
        } else {
            self.device.submit();
        }
        self.host.complete(host);
        Ok(())
    }

    /// Continues translating the host's entries; done when it returns `Ok`.
    #[inline(never)]
    fn refresh(&mut self, host: &mut H) -> Result<(), Unfinished> {
        if let Some(refresh) = self.host.refreshing() {
            let mut cursor = refresh.cursor;
            let mut source = Source::new(host, &mut self.host);
            let done = self.shadow.refresh(&mut self.device, &mut self.budget, &mut source, &mut cursor, refresh.end);
            source.end();
            self.host.save_refresh(cursor);
            done?;
        }
        if let Some(command) = self.host.end_refresh() {
            self.shadow.invalidate(&mut self.device, command)?;
        }
        Ok(())
    }

    /// Continues a change of the mode of all streams; complete and synchronised when it returns `Ok`.
    fn change_mode(&mut self, host: &mut H) -> Result<(), Unfinished> {
        let Some(change) = self.host.change() else { return Ok(()) };
        if let Some(error) = self.device.failed() {
            return Err(Unfinished::Failed(error));
        }
        let mut cursor = change.cursor;
        let (shadow, device, budget) = (&mut self.shadow, &mut self.device, &mut self.budget);
        let done = match change.mode {
            Mode::Table => {
                let mut source = Source::new(host, &mut self.host);
                let done = shadow.refresh(device, budget, &mut source, &mut cursor, u64::MAX);
                source.end();
                done
            }
            Mode::Bypass => shadow.share(device, budget, &mut cursor, Shared::Stage2),
            Mode::Abort => shadow.share(device, budget, &mut cursor, Shared::Abort),
        };
        self.host.save_change(cursor);
        done?;
        self.budget.charge(self.device.sync_cost())?;
        self.shadow.invalidate_all(&mut self.device)?;
        self.device.sync()?;
        self.shadow.synchronised();
        self.host.streams_changed();
        Ok(())
    }

    /// Empties EL2's event queue into fault records, counters and the host's queue.
    ///
    /// At most one budget of records per call. When the host's queue became non-empty its interrupt is raised: hardware's own
    /// may have been taken for a queue that was already drained.
    pub fn poll_events(&mut self, host: &mut H) {
        let _ = self.check_alive();
        self.budget = Budget::for_one_trap();
        if self.drain(host) != Drained::Quiet {
            self.host.interrupt_for_events();
        }
        self.end_trap();
    }

    /// As [`Smmu::poll_events`] from an access of the host to its own queue, which it reads anyway.
    pub(super) fn drain_events(&mut self, host: &mut H) {
        if self.drain(host) == Drained::LeftBehind {
            self.host.interrupt_for_events();
        }
    }

    /// Takes what hardware recorded before a change of EVENTQEN or SMMUEN, or before an abort is acknowledged, to be converted with
    /// what holds up to there: committed records are visible before an update completes, and those of a queue that was not writable
    /// never are [S 6.3.9.4, 7.2.1].
    ///
    /// Records that arrive after the first of these calls may count for either side, so that continuous events cannot delay the
    /// change: it ends after one full queue.
    fn drain_before_edge(&mut self, host: &mut H) -> Result<(), Unfinished> {
        if !self.host.begin_draining() {
            self.device.mark_records();
        }
        if self.drain(host) == Drained::LeftBehind {
            self.host.interrupt_for_events();
            if !self.device.is_past_mark() {
                return Err(Unfinished::Budget);
            }
        }
        self.host.end_draining();
        Ok(())
    }

    /// Hardware's interrupt was just enabled. It is raised when a queue becomes non-empty [S 3.18.2]: if hardware's queue has
    /// records now it would never be raised, so it is drained, and the host is interrupted if records were found.
    fn events_can_interrupt(&mut self, host: &mut H) {
        let left = self.drain(host) == Drained::LeftBehind;
        if left || !self.host.host_queue_is_empty() {
            self.host.interrupt_for_events();
        }
    }

    fn drain(&mut self, host: &mut H) -> Drained {
        if self.device.failed().is_some() {
            return Drained::Quiet;
        }
        // One for all records: those of one device mean the same page of the host's table.
        let mut source = Source::new(host, &mut self.host);
        let outcome = drain_records(&mut self.device, &mut self.budget, &mut source);
        source.end();
        outcome
    }
}

/// Takes hardware's records one by one, as far as the budget goes.
fn drain_records<P: Platform, H: HostMemory>(
    device: &mut Device<P>,
    budget: &mut Budget,
    host: &mut Source<'_, H>,
) -> Drained {
    let mut outcome = Drained::Quiet;
    let mut left = budget::MOST_EVENTS;
    loop {
        let records = device.records();
        if records.lost == Overflow::Happened {
            host.events_were_lost();
        }
        let mut took = false;
        // Charged before a record is taken: it may need both levels of the host's table, and the host's queue.
        while left > 0 && device.has_record(&records) && budget.covers(budget::RECORD) {
            let charged = budget.charge(budget::EVENT);
            let Some(record) = device.take_record(&records).filter(|_| charged.is_ok()) else { break };
            left = left.saturating_sub(1);
            took = true;
            if host.record(budget, &record) == Told::First {
                outcome = Drained::HostMustLook;
            }
        }
        let remain = device.has_record(&records);
        if !took && !remain && !device.has_overflowed(&records) {
            return outcome;
        }
        if device.free_records(&records) == Overflow::Happened {
            host.events_were_lost();
        }
        if remain || left == 0 {
            return Drained::LeftBehind;
        }
    }
}
