//! EL2's own command queue of an ITS: bounded waits, and recovery when hardware stalls at a command.
//!
//! A stalled command was not executed. It is replaced by SYNC, and the batch counts as [`Completion::Lost`].

use host_access::memory::DmaBuffer;
use io_pgtable::Pa;

use crate::command::{Command, Target};
use crate::error::ItsError;
use crate::platform::{Frame, Platform};
use crate::spec::commands::CMD_SIZE;
use crate::spec::gits::{self as reg, queue};
use crate::spec::{get64, low32, mask64, put64, union64};
use crate::stats::bump;

/// Bytes of the queue: the smallest size that the architecture has.
pub(super) const RING_SIZE: usize = 4096;
/// Bytes allocated for it: a block is aligned to its size. With bits \[15:12\] of GITS_CBASER.Physical_Address not
/// zero, hardware may read commands from another address [G 12.19].
pub(super) const RING_BLOCK: usize = 0x1_0000;
/// The index of the last slot.
const SLOT_MASK: u32 = 127;
/// Longest wait for commands to be consumed, in microseconds. Linux also waits up to a second.
const TIMEOUT_US: u64 = 1_000_000;
/// Stalls in one wait that EL2 recovers from; after more, the ITS is failed.
const MAX_STALLS: u32 = 4;

/// The result of a batch of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// Every command was executed.
    All,
    /// Hardware refused a command of the batch.
    Lost,
}

/// The ring, and its indices in commands.
pub(crate) struct Ring<B> {
    buffer: B,
    /// The next slot.
    write: u32,
    /// GITS_CWRITER as last written.
    submitted: u32,
    /// GITS_CREADR as last read.
    read: u32,
    lost: bool,
    /// Commands given to hardware.
    pub(crate) commands: u64,
    /// Commands that stalled.
    pub(crate) stalls: u64,
}

fn next(slot: u32) -> u32 {
    slot.wrapping_add(1) & SLOT_MASK
}

fn offset(slot: u32) -> u64 {
    u64::from(slot & SLOT_MASK).saturating_mul(u64::from(CMD_SIZE))
}

impl<B: DmaBuffer> Ring<B> {
    pub(super) fn new(buffer: B) -> Self {
        Self { buffer, write: 0, submitted: 0, read: 0, lost: false, commands: 0, stalls: 0 }
    }

    /// Starts again at the first slot. All queued commands were consumed.
    pub(super) fn restart(&mut self) {
        self.write = 0;
        self.submitted = 0;
        self.read = 0;
    }

    /// The address of the queue.
    pub(crate) fn pa(&self) -> Pa {
        self.buffer.pa()
    }

    fn store(&mut self, slot: u32, command: Command) {
        let start = usize::try_from(offset(slot)).unwrap_or(0);
        for (word, at) in command.encode().0.into_iter().zip([0_usize, 8, 16, 24]) {
            self.buffer.write64(start.saturating_add(at), word);
        }
        self.buffer.clean(start, RING_SIZE / 128);
    }

    /// Queues a command. A command that stalls meanwhile is replaced by SYNC of `any`.
    pub(super) fn push<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        frame: Frame,
        any: Target,
        command: Command,
    ) -> Result<(), ItsError> {
        if next(self.write) == self.read {
            self.submit(platform, frame);
            self.wait(platform, frame, any, |ring| next(ring.write) != ring.read)?;
        }
        self.store(self.write, command);
        self.write = next(self.write);
        bump(&mut self.commands);
        Ok(())
    }

    fn submit<P: Platform<Buffer = B>>(&mut self, platform: &P, frame: Frame) {
        if self.submitted != self.write {
            // Orders stores to slots, tables and configuration bytes before the register write that makes hardware read
            // them.
            platform.dsb();
            platform.write64(frame, reg::CWRITER, offset(self.write));
            self.submitted = self.write;
        }
    }

    /// Whether a queued command may not be consumed yet.
    pub(super) fn is_busy(&self) -> bool {
        self.read != self.write
    }

    /// Waits until all queued commands are consumed.
    pub(super) fn complete<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        frame: Frame,
        any: Target,
    ) -> Result<Completion, ItsError> {
        self.submit(platform, frame);
        self.wait(platform, frame, any, |ring| ring.write == ring.read)?;
        Ok(if core::mem::take(&mut self.lost) { Completion::Lost } else { Completion::All })
    }

    fn wait<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        frame: Frame,
        any: Target,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), ItsError> {
        let mut stalls = 0_u32;
        let start = platform.now_us();
        loop {
            let creadr = platform.read64(frame, reg::CREADR);
            self.read =
                low32((creadr & mask64(queue::OFFSET)).checked_div(u64::from(CMD_SIZE)).unwrap_or(0)) & SLOT_MASK;
            if done(self) {
                return Ok(());
            }
            if get64(queue::STALLED, creadr) == 1 {
                stalls = stalls.saturating_add(1);
                if stalls > MAX_STALLS {
                    return Err(ItsError::Stalls);
                }
                self.recover(platform, frame, any);
            } else if platform.now_us().wrapping_sub(start) > TIMEOUT_US {
                return Err(ItsError::Timeout);
            }
            platform.relax();
        }
    }

    /// Replaces the command that stalled the queue, and makes hardware read the slot again.
    #[cold]
    fn recover<P: Platform<Buffer = B>>(&mut self, platform: &P, frame: Frame, any: Target) {
        self.store(self.read, Command::Sync(any));
        self.lost = true;
        bump(&mut self.stalls);
        // Orders the store to the slot before the register write that makes hardware read it again.
        platform.dsb();
        platform.write64(frame, reg::CWRITER, union64([offset(self.submitted), put64(queue::RETRY, 1)]));
    }
}
