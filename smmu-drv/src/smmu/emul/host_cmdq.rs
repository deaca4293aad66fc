//! Consumption of the host's command queue.
//!
//! Each entry is fetched once and checked; forwarded commands are queued for hardware. For a CMD_SYNC of the host one is queued for
//! hardware, so that commands before and after it keep their order; EL2 waits only for the last one of a batch. Then
//! all completions are signalled and CONS is updated, both under the SMMU's lock. A read of CONS takes the same lock,
//! so a slot is never reused before its completion is written.

use super::VirtualSmmu;
use super::command::{Decision, Scope, decide};
use super::queue::HostQueue;
use crate::command::{Command, Depth};
use crate::platform::HostMemory;
use crate::smmu::budget::{Budget, Costs, Unfinished};
use crate::smmu::index::{CMD_LOG2, Indices};
use crate::smmu::ste::CheckedEntry;
use crate::smmu::stream::{Cursor, SPLIT, next_block};
use crate::spec::commands::RawCmd;
use crate::spec::registers::{Cerror, cr0::Cr0, gerror::Gerror};
use crate::stats::bump;

/// Work of the last command that is not done yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// Update the shadow entry of one stream.
    Entry { sid: u32, depth: Depth },
    /// Refresh the blocks from `cursor` to before `end`, then queue `command`, which invalidates them.
    Blocks { cursor: Cursor, end: u64, command: Command },
}

/// Why consumption stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All commands are consumed.
    Empty,
    /// Budget used up.
    Budget,
    /// A command error of the host.
    Error(Cerror),
    /// Hardware failed: the command at CONS never completes.
    Failed,
}

impl From<Unfinished> for Stop {
    fn from(reason: Unfinished) -> Self {
        match reason {
            Unfinished::Budget => Self::Budget,
            Unfinished::Failed(_) => Self::Failed,
        }
    }
}

/// The step of the device or the shadow table that the next command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandStep {
    /// Queue this command for hardware.
    Forward(Command),
    /// Update the shadow entry of this stream, and invalidate it to this depth.
    Enter(u32, Depth, CheckedEntry),
    /// Queue a CMD_SYNC, without waiting. [`VirtualSmmu::complete`] signals its completion to the host.
    QueueSync,
    /// Refresh the streams from the cursor to before this StreamID, the end of a block; [`VirtualSmmu::save_refresh`]
    /// is then called with the progress.
    Refresh(Cursor, u64),
    /// Wait until all queued commands are complete, and call [`VirtualSmmu::complete`]: the list of completions is
    /// full.
    Complete,
    /// The same, at the end of the batch.
    Stop(Stop),
}

impl<C> VirtualSmmu<C> {
    /// Begins a batch. Returns whether commands are consumed.
    #[inline]
    pub(crate) fn begin_commands(&mut self) -> bool {
        if !self.regs.cr0ack.contains(Cr0::CMDQEN) || self.active_gerror().contains(Gerror::CMDQ_ERR) {
            return false;
        }
        // Completions of a failed batch are never signalled.
        self.signals.clear();
        self.head = self.indices().of(self.regs.cmdq_cons);
        true
    }

    /// Fetches and checks the next command. `costs`: current charges of commands.
    #[inline(always)]
    pub(crate) fn next_command<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        costs: Costs,
    ) -> CommandStep {
        match self.next(host_mem, budget, costs) {
            Ok(step) => step,
            Err(stop) => CommandStep::Stop(stop),
        }
    }

    #[inline(always)]
    fn next<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        costs: Costs,
    ) -> Result<CommandStep, Stop> {
        loop {
            // The work of a command must be complete before the next command is consumed.
            if let Some(pending) = self.pending {
                return Ok(self.pending_step(host_mem, budget, pending)?);
            }
            if self.head == self.indices().of(self.regs.cmdq_prod) {
                if self.start_cfgi_all() {
                    continue;
                }
                return Err(Stop::Empty);
            }
            budget.charge(costs.command)?;
            let raw = self.fetch_command(host_mem, budget)?.ok_or(Stop::Error(Cerror::Abt))?;
            let step = match decide(raw, &self.view) {
                Decision::Forward(command) => CommandStep::Forward(command),
                Decision::Sync(signal) => {
                    // The entry is fetched and checked again after the walk.
                    if self.cfgi_all_pending && self.start_cfgi_all() {
                        continue;
                    }
                    if self.signals.is_full() {
                        return Ok(CommandStep::Complete);
                    }
                    budget.charge(costs.queue_sync.saturating_add(self.store_cost(signal)))?;
                    // The list has room for it.
                    let _ = self.signals.try_push(signal);
                    CommandStep::QueueSync
                }
                Decision::Reshadow(Scope::One { sid, depth }) => self.entry_step(host_mem, budget, sid, depth)?,
                Decision::Reshadow(Scope::Range { first, log2 }) => {
                    self.start_range(first, log2);
                    self.advance();
                    continue;
                }
                // Several CFGI_ALL before a CMD_SYNC cause one walk.
                Decision::Reshadow(Scope::All) => {
                    self.cfgi_all_pending = true;
                    self.advance();
                    continue;
                }
                Decision::Drop => {
                    bump(&mut self.stats.dropped_commands);
                    self.advance();
                    continue;
                }
                Decision::Illegal => {
                    bump(&mut self.stats.illegal_commands);
                    return Err(Stop::Error(Cerror::Ill));
                }
            };
            self.advance();
            return Ok(step);
        }
    }

    /// The next step of the last command's work.
    #[cold]
    fn pending_step<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        pending: Pending,
    ) -> Result<CommandStep, Unfinished> {
        match pending {
            // The host's table is not in use: only the command is queued.
            Pending::Blocks { end, .. } if !self.uses_table() => Ok(CommandStep::Refresh(Cursor::at(end), end)),
            Pending::Blocks { cursor, end, .. } => Ok(CommandStep::Refresh(cursor, end)),
            Pending::Entry { sid, depth } if !self.uses_table() => {
                self.refresh_block_of(sid, depth);
                let end = next_block(sid >> SPLIT);
                Ok(CommandStep::Refresh(Cursor::at(end), end))
            }
            Pending::Entry { sid, depth } => {
                let step = self.entry_step(host_mem, budget, sid, depth)?;
                self.pending = None;
                Ok(step)
            }
        }
    }

    /// The indices of the queue.
    #[inline]
    fn indices(&self) -> Indices {
        self.regs.cmdq_indices
    }

    #[inline]
    fn advance(&mut self) {
        bump(&mut self.stats.host_commands);
        self.head = self.indices().next(self.head);
    }

    /// Starts the walk of a CFGI_ALL, if one is pending.
    fn start_cfgi_all(&mut self) -> bool {
        if !core::mem::take(&mut self.cfgi_all_pending) {
            return false;
        }
        let end = 1_u64.checked_shl(self.view.sid_bits).unwrap_or(0);
        self.pending = Some(Pending::Blocks { cursor: Cursor::at(0), end, command: Command::CfgiAll });
        true
    }

    /// Whole blocks are refreshed, from their first group on: at its end a block without entries loses its table.
    #[cold]
    fn start_range(&mut self, first: u32, log2: u32) {
        let count = 1_u64.checked_shl(log2).unwrap_or(u64::MAX);
        let last = u64::from(first).saturating_add(count).saturating_sub(1);
        let end = (last >> SPLIT).saturating_add(1) << SPLIT;
        let command = Command::CfgiSteRange { sid: first, range: log2.saturating_sub(1) };
        let cursor = Cursor::at(u64::from(first >> SPLIT << SPLIT));
        self.pending = Some(Pending::Blocks { cursor, end, command });
    }

    /// Refreshes the block of a stream whose shadow entry cannot be updated alone.
    #[cold]
    pub(crate) fn refresh_block_of(&mut self, sid: u32, depth: Depth) {
        let block = sid >> SPLIT;
        self.pending = Some(Pending::Blocks {
            cursor: Cursor::at(u64::from(block << SPLIT)),
            end: next_block(block),
            command: Command::CfgiSte { sid, depth },
        });
    }

    /// Records that the budget was not sufficient to update the entry of a stream: the next trap fetches the host's
    /// entry again.
    #[cold]
    pub(crate) fn retry_entry(&mut self, sid: u32, depth: Depth) {
        self.pending = Some(Pending::Entry { sid, depth });
    }

    /// Whether the host's stream table is in use.
    #[inline]
    fn uses_table(&self) -> bool {
        self.table.is_some() && !self.quiesced
    }

    /// Saves the progress of the walk of [`CommandStep::Refresh`].
    pub(crate) fn save_refresh(&mut self, to: Cursor) {
        if let Some(Pending::Blocks { cursor, .. }) = &mut self.pending {
            *cursor = to;
        }
    }

    /// Ends the walk. Returns the command that invalidates the refreshed entries.
    pub(crate) fn end_refresh(&mut self) -> Option<Command> {
        match self.pending.take() {
            Some(Pending::Blocks { command, .. }) => Some(command),
            Some(Pending::Entry { .. }) | None => None,
        }
    }

    /// The host's entry for `sid`, fetched and checked. While translation is off its table is not used; it is read when SMMUEN is
    /// set.
    #[inline]
    fn entry_step<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        sid: u32,
        depth: Depth,
    ) -> Result<CommandStep, Unfinished> {
        if !self.uses_table() {
            return Ok(CommandStep::Forward(Command::CfgiSte { sid, depth }));
        }
        Ok(CommandStep::Enter(sid, depth, self.checked_entry(host_mem, budget, sid)?))
    }

    /// Reads one command, each word once. If the queue is not claimed, the claim is first tried again: the host may
    /// own the pages now.
    #[inline]
    fn fetch_command<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
    ) -> Result<Option<RawCmd>, Unfinished> {
        if let HostQueue::Unreachable(geometry) = self.cmdq {
            budget.charge(geometry.cost())?;
            let (queue, result) = HostQueue::enable(host_mem, geometry, self.queue_sharing());
            self.cmdq = queue;
            self.count_claim(result);
        }
        let HostQueue::On(_, claim) = &self.cmdq else {
            return Ok(None);
        };
        let offset = u64::from(self.indices().offset(self.head, CMD_LOG2));
        Ok(host_mem.read_pair(claim, offset).map(RawCmd))
    }
}
