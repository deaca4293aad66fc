//! A live SMMU: what the hypervisor calls.

use crate::budget::Budget;
use crate::cmdq::{Cmdq, CmdqError};
use crate::command::Command;
use crate::emul::HostRegs;
use crate::error::SmmuError;
use crate::evtq::Evtq;
use crate::fault::{FaultLog, FaultRecord};
use crate::features::Features;
use crate::hw::Hw;
use crate::platform::{HostMemory, Platform};
use crate::spec::get32;
use crate::spec::registers::{self as reg, cr0::Cr0, gbpa, gerror::Gerror};
use crate::stats::{Stats, bump};
use crate::strtab::{Shared, Strtab};
use crate::takeover::Stage2Cfg;

/// Width of a register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessSize {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl AccessSize {
    /// In bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// From a count of bytes; `None` unless 1, 2, 4 or 8.
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Half),
            4 => Some(Self::Word),
            8 => Some(Self::Double),
            _ => None,
        }
    }
}

/// How an emulated store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteOutcome {
    /// It is complete: advance the program counter.
    Done,
    /// The budget of one trap is used up and progress is published: return without advancing the program counter, so that
    /// pending interrupts are taken and the same store continues the work.
    Again,
}

/// Whether closing a failed SMMU is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Up to the timeout of each register.
    Whole,
    /// It was in vain once: every access of the host would cost as much again.
    Spent,
}

/// An SMMU under EL2's control. See the crate's front page for the life cycle.
pub struct Smmu<P: Platform, H: HostMemory> {
    pub(crate) hw: Hw<P>,
    pub(crate) features: Features,
    pub(crate) stage2: Stage2Cfg,
    pub(crate) cmdq: Cmdq<P::Buffer>,
    pub(crate) evtq: Evtq<P::Buffer>,
    pub(crate) strtab: Strtab<P::Buffer>,
    pub(crate) regs: HostRegs<H::Claim>,
    pub(crate) stats: Stats,
    pub(crate) faults: FaultLog,
    pub(crate) failed: Option<SmmuError>,
    pub(crate) patience: Patience,
    pub(crate) quiesced: bool,
    /// Configuration invalidations are queued that no CMD_SYNC covers yet.
    pub(crate) cfgi_pending: bool,
    /// What the trap under way may still do.
    pub(crate) budget: Budget,
    /// SMMU_IRQ_CTRL as last written to hardware.
    pub(crate) irq_hw: u32,
}

/// The same records once more; there is still one piece of hardware. For tests, which go back to an earlier state of a modelled
/// machine: buffers and claims that stand for something real have no copies, and then there are none of this.
impl<P: Platform + Clone, H: HostMemory> Clone for Smmu<P, H>
where
    P::Buffer: Clone,
    H::Claim: Clone,
{
    fn clone(&self) -> Self {
        Self {
            hw: self.hw.clone(),
            features: self.features,
            stage2: self.stage2,
            cmdq: self.cmdq.clone(),
            evtq: self.evtq.clone(),
            strtab: self.strtab.clone(),
            regs: self.regs.clone(),
            stats: self.stats,
            faults: self.faults.clone(),
            failed: self.failed,
            patience: self.patience,
            quiesced: self.quiesced,
            cfgi_pending: self.cfgi_pending,
            budget: self.budget,
            irq_hw: self.irq_hw,
        }
    }
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// What the hardware can do.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The platform given to [`crate::Probed::probe`].
    pub fn platform(&self) -> &P {
        self.hw.platform()
    }

    /// Counters since take-over.
    pub fn stats(&mut self) -> &Stats {
        self.stats.cmdq_recoveries = self.cmdq.recoveries;
        self.stats.forwarded_commands = self.cmdq.commands;
        self.stats.syncs = self.cmdq.syncs;
        &self.stats
    }

    /// The error that marked this SMMU failed, if one did.
    pub fn failed(&self) -> Option<SmmuError> {
        self.failed
    }

    /// Whether [`Smmu::take_fault`] has a record. Cheap enough for every trap.
    pub fn has_fault(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Takes the oldest fault record kept for the console.
    pub fn take_fault(&mut self) -> Option<FaultRecord> {
        self.faults.take()
    }

    /// Makes every stream abort, for good: the host's accesses are emulated on, but change no stream any more.
    ///
    /// # Errors
    /// The invalidation did not complete. SMMUEN was then taken down, which leaves GBPA=ABORT in force where hardware still
    /// listens at all.
    pub fn quiesce(&mut self) -> Result<(), SmmuError> {
        self.quiesced = true;
        self.regs.transition = None;
        // The last chance: nothing looks at this SMMU again.
        self.patience = Patience::Whole;
        let result = self.quiesce_streams();
        if result.is_err() {
            let cr0 = Cr0::from_bits_truncate(self.hw.read32(reg::CR0ACK)).difference(Cr0::SMMUEN);
            let _ = self.hw.write_acked(reg::CR0, reg::CR0ACK, cr0.bits());
        }
        result
    }

    fn quiesce_streams(&mut self) -> Result<(), SmmuError> {
        self.check_alive()?;
        if self.strtab.is_two_level() {
            for block in 0..self.strtab.blocks() {
                self.strtab.set_shared(block, Shared::Abort);
            }
        } else {
            let abort = self.strtab.shared_ste(Shared::Abort);
            for sid in 0..self.strtab.streams() {
                let Ok(sid) = u32::try_from(sid) else { break };
                self.strtab.store(sid, crate::strtab::update::Step::Dw0(abort.dw0));
            }
        }
        self.push(Command::CfgiAll)?;
        self.strtab.cover(None);
        self.sync()
    }

    /// Queues a command; a full queue is waited for.
    pub(crate) fn push(&mut self, command: Command) -> Result<(), SmmuError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.cmdq.push(&self.hw, command) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(cmdq_error(error))),
        }
    }

    /// Lets what is queued from here on begin when everything before is complete, without waiting for it.
    pub(crate) fn separate(&mut self) -> Result<(), SmmuError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.cmdq.separate(&self.hw) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(cmdq_error(error))),
        }
    }

    /// Waits until everything queued is complete.
    ///
    /// A command that hardware refused was not executed; everything is invalidated instead, once.
    pub(crate) fn sync(&mut self) -> Result<(), SmmuError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = match self.cmdq.sync(&self.hw) {
            Err(CmdqError::Lost) => self.invalidate_everything(),
            other => other,
        };
        match result {
            Ok(()) => {
                self.cfgi_pending = false;
                self.strtab.reap();
                Ok(())
            }
            Err(error) => Err(self.fail(cmdq_error(error))),
        }
    }

    /// Detects an SMMU that lost its programming, and programs it again before anything relies on it. Every access of the host and every
    /// invalidation looks by itself; this is for other times at which power may have been off, such as a CPU that wakes.
    ///
    /// # Errors
    /// It could not be programmed again, now or before: it is marked failed, and was asked to abort everything if it listens.
    #[inline]
    pub fn check_alive(&mut self) -> Result<(), SmmuError> {
        if let Some(error) = self.failed {
            self.keep_closed();
            return Err(error);
        }
        if self.hw.read32(reg::CR0ACK) == self.cr0_live().bits() {
            return Ok(());
        }
        self.revive()
    }

    #[cold]
    fn revive(&mut self) -> Result<(), SmmuError> {
        bump(&mut self.stats.reprograms);
        if self.program().is_err() {
            return Err(self.fail(SmmuError::Reset));
        }
        Ok(())
    }

    /// A failed SMMU is not programmed again; but where it lost its power, it may have come back letting everything through.
    ///
    /// Hardware that does not listen cannot be closed; the error that is reported anyway says that it failed. It is waited for
    /// once. After that each access looks, and asks again where hardware has room for it.
    #[cold]
    fn keep_closed(&mut self) {
        let on = Cr0::from_bits_truncate(self.hw.read32(reg::CR0ACK)).contains(Cr0::SMMUEN);
        if on || is_closed(self.hw.read32(reg::GBPA)) {
            return;
        }
        match self.patience {
            Patience::Whole if self.close().is_err() => self.patience = Patience::Spent,
            Patience::Whole => {}
            Patience::Spent => self.ask_to_close(),
        }
    }

    /// Marks the SMMU failed, and lets the host see what it would see: service failure.
    #[cold]
    pub(crate) fn fail(&mut self, error: SmmuError) -> SmmuError {
        if self.failed.is_none() {
            self.failed = Some(error);
            self.raise_gerror(Gerror::SFM_ERR);
        }
        error
    }
}

fn cmdq_error(error: CmdqError) -> SmmuError {
    match error {
        CmdqError::Timeout => SmmuError::SyncTimeout,
        CmdqError::Lost | CmdqError::Broken => SmmuError::CommandRejected,
        CmdqError::ServiceFailure => SmmuError::ServiceFailure,
    }
}

/// Whether GBPA ends all transactions already: a value can be read back before its update is complete [S 6.3.14].
fn is_closed(gbpa: u32) -> bool {
    get32(gbpa::ABORT, gbpa) == 1 && get32(gbpa::UPDATE, gbpa) == 0
}
