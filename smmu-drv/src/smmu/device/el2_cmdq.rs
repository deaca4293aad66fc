//! EL2's own command queue: bounded waits, and recovery when the hardware rejects a command.
//!
//! The queue is one page: a batch is submitted when the queue is full or before a wait for a CMD_SYNC. A command that
//! hardware rejected was not executed, so its batch is not treated as synchronised, although the queue works again.

use super::hw::{Hw, queue_base};
use crate::command::Command;
use crate::errata::Issue;
use crate::error::SmmuError;
use crate::features::Coherency;
use crate::platform::{DmaBuffer, Platform};
use crate::smmu::budget::{self, Costs};
use crate::smmu::index::{CMD_LOG2, Indices};
use crate::spec::commands::CMD_SIZE;
use crate::spec::registers::{self as reg, gerror::Gerror};
use crate::stats::Stats;

/// log2 of the number of entries: one 4K page.
const LOG2_ENTRIES: u32 = 8;
/// Size of the ring in bytes.
pub(super) const RING_SIZE: usize = 4096;
/// Maximum recoveries within one wait; with one more error the SMMU is failed.
const MAX_RECOVERIES: u32 = 4;

/// Why a batch did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CmdqError {
    /// Hardware rejected a command of the batch and did not execute it; the queue works again.
    Rejected,
    /// The queue does not work.
    Failed(SmmuError),
}

impl From<CmdqError> for SmmuError {
    fn from(error: CmdqError) -> Self {
        match error {
            CmdqError::Rejected => Self::CommandRejected,
            CmdqError::Failed(error) => error,
        }
    }
}

/// The ring and its producer index.
#[derive(Clone)]
pub(super) struct Cmdq<B> {
    ring: B,
    log2: u32,
    indices: Indices,
    /// [`Cmdq::make_room`] is called if at least this number of commands is queued; 0 if batches are issued twice.
    room: u32,
    /// Charges of commands, if the last entry is not a CMD_SYNC.
    costs: Costs,
    prod: u32,
    /// CONS as last read.
    cons: u32,
    /// PROD as last written to the register.
    submitted: u32,
    coherent: Coherency,
    issue: Issue,
    /// Index of the first command that must still be repeated for [`Issue::Twice`].
    batch: u32,
    /// Whether the last queued entry is a CMD_SYNC that has not been waited for.
    ends_in_sync: bool,
    /// Whether recovery has replaced a rejected command since the last completed CMD_SYNC.
    rejected: bool,
    recoveries: u64,
    commands: u64,
    syncs: u64,
}

impl<B: DmaBuffer> Cmdq<B> {
    pub(super) fn new(ring: B, max_log2: u32, coherent: Coherency, issue: Issue) -> Self {
        let log2 = LOG2_ENTRIES.min(max_log2);
        let indices = Indices::new(log2);
        // If batches are issued twice, the charge of each command includes its share of the CMD_SYNCs of a full ring.
        let (room, command, sync) = match issue {
            Issue::Once => (indices.entries(), budget::COMMAND, budget::SYNC),
            Issue::Twice => (0, budget::command_twice(most_twice(indices)), budget::SYNC_TWICE),
        };
        Self {
            ring,
            log2,
            indices,
            room,
            costs: Costs { command, sync, queue_sync: sync },
            prod: 0,
            cons: 0,
            submitted: 0,
            coherent,
            issue,
            batch: 0,
            ends_in_sync: false,
            rejected: false,
            recoveries: 0,
            commands: 0,
            syncs: 0,
        }
    }

    /// SMMU_CMDQ_BASE for this ring.
    pub(super) fn base(&self) -> u64 {
        queue_base(self.ring.pa(), self.log2)
    }

    /// Drops all queued commands: the registers were just set to 0 with the queue disabled.
    pub(super) fn reset(&mut self) {
        self.prod = 0;
        self.cons = 0;
        self.submitted = 0;
        self.batch = 0;
        self.ends_in_sync = false;
        self.rejected = false;
    }

    /// Commands that hardware has not consumed yet.
    fn used(&self) -> u32 {
        self.indices.used(self.prod, self.cons)
    }

    #[inline]
    fn write_slot(&mut self, index: u32, command: Command) {
        self.write_words(index, command.encode().0);
    }

    /// Offsets of the two words of a slot.
    #[inline]
    fn slot(&self, index: u32) -> [usize; 2] {
        let offset = usize::try_from(self.indices.offset(index, CMD_LOG2)).unwrap_or(0);
        [offset, offset.saturating_add(8)]
    }

    #[inline]
    fn write_words(&mut self, index: u32, [low, high]: [u64; 2]) {
        let [first, second] = self.slot(index);
        self.ring.write64(first, low);
        self.ring.write64(second, high);
        if self.coherent == Coherency::NonCoherent {
            self.ring.clean(first, CMD_SIZE);
        }
    }

    /// Queues one command. It is not visible to hardware before [`Cmdq::submit`] or [`Cmdq::sync`].
    pub(super) fn push<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>, command: Command) -> Result<(), CmdqError> {
        if self.used() >= self.room {
            self.make_room(hw)?;
        }
        self.write_slot(self.prod, command);
        self.prod = self.indices.next(self.prod);
        self.ends_in_sync = command == Command::Sync;
        let counter = if command == Command::Sync { &mut self.syncs } else { &mut self.commands };
        *counter = counter.wrapping_add(1);
        Ok(())
    }

    #[cold]
    fn make_room<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        if self.issue == Issue::Twice {
            // Makes room for a batch and its CMD_SYNC, issued twice.
            let most = most_twice(self.indices);
            let queued = self.indices.used(self.prod, self.batch);
            return if queued < most { Ok(()) } else { self.complete_twice(hw) };
        }
        self.submit(hw);
        self.wait(hw, |queue| queue.used() < queue.indices.entries())
    }

    /// Makes all queued commands visible to hardware.
    pub(super) fn submit<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) {
        if self.submitted == self.prod {
            return;
        }
        // Publishes the slots, and the changes of tables to which the commands apply.
        hw.publish32(reg::CMDQ_PROD, self.prod);
        self.submitted = self.prod;
    }

    /// Current charges of commands.
    #[inline]
    pub(super) fn costs(&self) -> Costs {
        Costs { queue_sync: if self.ends_in_sync { 0 } else { self.costs.sync }, ..self.costs }
    }

    /// Adds the counters of this queue to `stats`.
    pub(super) fn count(&self, stats: &mut Stats) {
        stats.cmdq_recoveries = self.recoveries;
        stats.forwarded_commands = self.commands;
        stats.syncs = self.syncs;
    }

    /// Queues a CMD_SYNC, unless nothing was queued since the last one: later commands start after earlier ones are complete [S
    /// 4.7.3]. Does not wait.
    pub(super) fn queue_sync<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        if self.ends_in_sync {
            return Ok(());
        }
        match self.issue {
            Issue::Once => self.push(hw, Command::Sync),
            Issue::Twice => {
                self.complete_twice(hw)?;
                self.ends_in_sync = true;
                Ok(())
            }
        }
    }

    /// Completes the queued commands, issues them again and completes them again. It waits both times, which orders them before later
    /// commands.
    #[cold]
    fn complete_twice<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        let (mut from, end) = (self.batch, self.prod);
        if from == end {
            return Ok(());
        }
        self.complete(hw)?;
        while from != end {
            // Written by EL2 and only read by hardware; a command replaced by recovery is now a CMD_SYNC.
            let words = self.slot(from).map(|offset| self.ring.read64(offset));
            self.put(words);
            self.commands = self.commands.wrapping_add(1);
            from = self.indices.next(from);
        }
        self.complete(hw)?;
        self.batch = self.prod;
        Ok(())
    }

    /// Queues a CMD_SYNC without a check for space, and waits until it is consumed.
    fn complete<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        self.put(Command::Sync.encode().0);
        self.syncs = self.syncs.wrapping_add(1);
        self.submit(hw);
        self.wait(hw, |queue| queue.used() == 0)
    }

    /// Stores a command into the next slot, which is free.
    fn put(&mut self, words: [u64; 2]) {
        self.write_words(self.prod, words);
        self.prod = self.indices.next(self.prod);
    }

    /// Submits the queued commands and a CMD_SYNC, and waits until it is consumed.
    pub(super) fn sync<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        self.queue_sync(hw)?;
        self.ends_in_sync = false;
        self.submit(hw);
        // Usually it is already consumed, and the clock is not read.
        self.read_cons(hw);
        if self.used() != 0 {
            self.wait(hw, |queue| queue.used() == 0)?;
        }
        if core::mem::take(&mut self.rejected) { Err(CmdqError::Rejected) } else { Ok(()) }
    }

    /// Hardware's consumer index.
    fn read_cons<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) {
        self.cons = self.indices.of(hw.read32(reg::CMDQ_CONS));
    }

    /// Polls CONS until `done`; recovers from queue errors during the wait.
    #[cold]
    fn wait<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>, done: impl Fn(&Self) -> bool) -> Result<(), CmdqError> {
        let mut recoveries = 0_u32;
        let start = hw.now_us();
        loop {
            self.read_cons(hw);
            if done(self) {
                return Ok(());
            }
            let gerror = hw.read32(reg::GERROR);
            let gerrorn = hw.read32(reg::GERRORN);
            let active = Gerror::from_bits_truncate(gerror ^ gerrorn);
            if active.contains(Gerror::SFM_ERR) {
                return Err(CmdqError::Failed(SmmuError::ServiceFailure));
            }
            if active.contains(Gerror::CMDQ_ERR) {
                recoveries = recoveries.saturating_add(1);
                if recoveries > MAX_RECOVERIES {
                    return Err(CmdqError::Failed(SmmuError::CommandRejected));
                }
                self.recover(hw, gerrorn);
            } else if hw.now_us().wrapping_sub(start) > hw.sync_us() {
                return Err(CmdqError::Failed(SmmuError::SyncTimeout));
            }
            hw.platform().relax();
        }
    }

    /// Replaces the command that stopped the queue with a CMD_SYNC and acknowledges the error [S 7.1].
    fn recover<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>, gerrorn: u32) {
        let stopped = self.indices.of(hw.read32(reg::CMDQ_CONS));
        self.write_slot(stopped, Command::Sync);
        self.rejected = true;
        self.recoveries = self.recoveries.wrapping_add(1);
        // The acknowledgement makes hardware fetch the slot again.
        hw.publish32(reg::GERRORN, gerrorn ^ Gerror::CMDQ_ERR.bits());
    }
}

/// Maximum number of commands of a batch that fits twice in a ring with `indices`, with their CMD_SYNCs.
fn most_twice(indices: Indices) -> u32 {
    (indices.entries() / 2).saturating_sub(1)
}
