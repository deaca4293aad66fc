//! EL2's own command queue: bounded waits, and recovery when the hardware rejects a command.
//!
//! The queue is small (one page): a batch is submitted when it is full or synchronised. A command that hardware refused was
//! not executed, so a batch that lost one never counts as synchronised, even though the queue runs on.

use crate::budget;
use crate::command::Command;
use crate::errata::Issue;
use crate::features::Coherency;
use crate::hw::Hw;
use crate::platform::{DmaBuffer, Platform};
use crate::spec::commands::CMD_SIZE;
use crate::spec::registers::{self as reg, gerror::Gerror, queue_base, queue_index};
use crate::spec::{get32, mask64, put64, union64};

/// Log2 of the entries: one 4K page.
const LOG2_ENTRIES: u32 = 8;
/// Bytes of the ring.
pub(crate) const RING_SIZE: usize = 4096;
/// Longest wait for a CMD_SYNC, in microseconds.
const SYNC_TIMEOUT_US: u64 = 1_000_000;
/// Errors recovered from within one wait before the queue counts as broken.
const MAX_RECOVERIES: u32 = 4;

/// Why a batch did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CmdqError {
    /// CONS did not reach the CMD_SYNC within the bound.
    Timeout,
    /// A command of the batch was refused and dropped; the queue works again.
    Lost,
    /// The queue keeps failing.
    Broken,
    /// GERROR.SFM_ERR is active.
    ServiceFailure,
}

/// The ring and its producer index.
#[derive(Clone)]
pub(crate) struct Cmdq<B> {
    ring: B,
    log2: u32,
    /// Bits of an index and its wrap bit.
    mask: u32,
    prod: u32,
    /// CONS as last seen.
    cons: u32,
    /// PROD as last written to the register.
    submitted: u32,
    coherent: Coherency,
    issue: Issue,
    /// Where the commands begin that [`Issue::Twice`] has still to repeat.
    batch: u32,
    /// The last entry queued is a CMD_SYNC that was not waited for yet.
    ends_in_sync: bool,
    /// A command was dropped by recovery since the last completed sync.
    lost: bool,
    pub(crate) recoveries: u64,
    pub(crate) commands: u64,
    pub(crate) syncs: u64,
}

impl<B: DmaBuffer> Cmdq<B> {
    pub(crate) fn new(ring: B, max_log2: u32, coherent: Coherency, issue: Issue) -> Self {
        let log2 = LOG2_ENTRIES.min(max_log2);
        Self {
            ring,
            log2,
            mask: u32::MAX >> 31_u32.saturating_sub(log2),
            prod: 0,
            cons: 0,
            submitted: 0,
            coherent,
            issue,
            batch: 0,
            ends_in_sync: false,
            lost: false,
            recoveries: 0,
            commands: 0,
            syncs: 0,
        }
    }

    /// SMMU_CMDQ_BASE for this ring.
    pub(crate) fn base(&self) -> u64 {
        union64([
            self.ring.pa().0 & mask64(queue_base::ADDR),
            put64(queue_base::LOG2SIZE, u64::from(self.log2)),
            put64(queue_base::ALLOC, 1),
        ])
    }

    /// Forgets everything queued: the registers were just set to 0 with the queue disabled.
    pub(crate) fn reset(&mut self) {
        self.prod = 0;
        self.cons = 0;
        self.submitted = 0;
        self.batch = 0;
        self.ends_in_sync = false;
        self.lost = false;
    }

    /// The wrap bit is as large as the queue.
    fn entries(&self) -> u32 {
        (self.mask >> 1).wrapping_add(1)
    }

    fn used(&self) -> u32 {
        self.prod.wrapping_sub(self.cons) & self.mask
    }

    #[inline]
    fn write_slot(&mut self, index: u32, command: Command) {
        self.write_words(index, command.encode().0);
    }

    /// Offsets of the two words of a slot.
    #[inline]
    fn slot(&self, index: u32) -> [usize; 2] {
        let slot = index & (self.mask >> 1);
        let offset = usize::try_from(slot).unwrap_or(0).saturating_mul(CMD_SIZE);
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
    pub(crate) fn push<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>, command: Command) -> Result<(), CmdqError> {
        if self.used() >= self.room() {
            self.make_room(hw)?;
        }
        self.write_slot(self.prod, command);
        self.prod = self.prod.wrapping_add(1) & self.mask;
        self.ends_in_sync = command == Command::Sync;
        let counter = if command == Command::Sync { &mut self.syncs } else { &mut self.commands };
        *counter = counter.wrapping_add(1);
        Ok(())
    }

    /// Commands beyond which [`Cmdq::make_room`] is asked: always, where batches are repeated.
    #[inline]
    fn room(&self) -> u32 {
        match self.issue {
            Issue::Once => self.entries(),
            Issue::Twice => 0,
        }
    }

    #[cold]
    fn make_room<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        if self.issue == Issue::Twice {
            // A batch, its CMD_SYNC, and both again.
            let most = self.batch_twice();
            let queued = self.prod.wrapping_sub(self.batch) & self.mask;
            return if queued < most { Ok(()) } else { self.complete_twice(hw) };
        }
        self.submit(hw);
        self.wait(hw, |queue| queue.used() < queue.entries())
    }

    /// Makes everything queued so far visible to hardware.
    pub(crate) fn submit<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) {
        if self.submitted == self.prod {
            return;
        }
        // Publishes the slots, and the changes of tables that the commands are about.
        hw.publish32(reg::CMDQ_PROD, self.prod);
        self.submitted = self.prod;
    }

    /// Commands of one batch that [`Issue::Twice`] has room for.
    fn batch_twice(&self) -> u32 {
        (self.entries() / 2).saturating_sub(1)
    }

    /// What a command costs a trap: where batches are repeated, its part of those that a full ring completes too.
    #[inline]
    pub(crate) fn command_cost(&self) -> u32 {
        match self.issue {
            Issue::Once => budget::COMMAND,
            Issue::Twice => budget::command_twice(self.batch_twice()),
        }
    }

    /// What a CMD_SYNC costs a trap.
    pub(crate) fn sync_cost(&self) -> u32 {
        match self.issue {
            Issue::Once => budget::SYNC,
            Issue::Twice => budget::SYNC_TWICE,
        }
    }

    /// Whether [`Cmdq::separate`] has nothing to do.
    pub(crate) fn ends_in_sync(&self) -> bool {
        self.ends_in_sync
    }

    /// Queues a CMD_SYNC, unless nothing was queued since the last one: what comes after begins when what came before is
    /// complete [S 4.7.3]. Nothing is waited for.
    pub(crate) fn separate<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
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

    /// Completes what is queued, issues it again and completes that. The order of what comes after is kept by the waits.
    #[cold]
    fn complete_twice<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        let (mut from, end) = (self.batch, self.prod);
        if from == end {
            return Ok(());
        }
        self.complete(hw)?;
        while from != end {
            // EL2's own words, which hardware only reads; a command that recovery replaced is a CMD_SYNC now.
            let words = self.slot(from).map(|offset| self.ring.read64(offset));
            self.put(words);
            self.commands = self.commands.wrapping_add(1);
            from = from.wrapping_add(1) & self.mask;
        }
        self.complete(hw)?;
        self.batch = self.prod;
        Ok(())
    }

    /// Queues a CMD_SYNC whatever the room, and waits until it is consumed.
    fn complete<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        self.put(Command::Sync.encode().0);
        self.syncs = self.syncs.wrapping_add(1);
        self.submit(hw);
        self.wait(hw, |queue| queue.used() == 0)
    }

    /// Stores a command into the next slot, which is free.
    fn put(&mut self, words: [u64; 2]) {
        self.write_words(self.prod, words);
        self.prod = self.prod.wrapping_add(1) & self.mask;
    }

    /// Submits, with a CMD_SYNC at the end, and waits until that is consumed.
    pub(crate) fn sync<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) -> Result<(), CmdqError> {
        self.separate(hw)?;
        self.ends_in_sync = false;
        self.submit(hw);
        // Mostly done already: then the clock is not even read.
        self.read_cons(hw);
        if self.used() != 0 {
            self.wait(hw, |queue| queue.used() == 0)?;
        }
        if core::mem::take(&mut self.lost) { Err(CmdqError::Lost) } else { Ok(()) }
    }

    /// How far hardware has come.
    fn read_cons<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) {
        self.cons = get32(queue_index::INDEX, hw.read32(reg::CMDQ_CONS)) & self.mask;
    }

    /// Polls CONS until `done`, recovering from queue errors on the way.
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
                return Err(CmdqError::ServiceFailure);
            }
            if active.contains(Gerror::CMDQ_ERR) {
                recoveries = recoveries.saturating_add(1);
                if recoveries > MAX_RECOVERIES {
                    return Err(CmdqError::Broken);
                }
                self.recover(hw, gerrorn);
            } else if hw.now_us().wrapping_sub(start) > SYNC_TIMEOUT_US {
                return Err(CmdqError::Timeout);
            }
            hw.platform().relax();
        }
    }

    /// Replaces the command that stopped the queue by a CMD_SYNC and acknowledges the error [S 7.1].
    fn recover<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>, gerrorn: u32) {
        let stopped = get32(queue_index::INDEX, hw.read32(reg::CMDQ_CONS)) & self.mask;
        self.write_slot(stopped, Command::Sync);
        self.lost = true;
        self.recoveries = self.recoveries.wrapping_add(1);
        // The acknowledgement makes hardware fetch the slot again.
        hw.publish32(reg::GERRORN, gerrorn ^ Gerror::CMDQ_ERR.bits());
    }
}
