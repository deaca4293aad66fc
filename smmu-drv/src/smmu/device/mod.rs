//! The device: registers, command queue and event queue of the SMMU itself. It has no state of the host.
//!
//! Its interface: `take_over`, `is_alive`, `recover` and `resume`; commands by `push`, `queue_sync`, `submit`, `sync`,
//! and their `costs`; `tlb_submit`; `set_irq_ctrl`; records by `drain` to a [`Sink`], with `mark_records` and
//! `is_past_mark`; `wait_again` and `disable` before power-off; counters.
//!
//! Each wait, for a CMD_SYNC or for a register, has a timeout ([`Timeouts`]), and each function a fixed number of
//! waits. A device that times out is failed permanently: every function that needs it returns the same error
//! immediately.

mod drain;
mod el2_cmdq;
mod el2_eventq;
mod hw;
mod invalidate;
mod program;

use crate::command::Command;
use crate::errata::Issue;
use crate::error::SmmuError;
use crate::features::Features;
use crate::limits::Timeouts;
use crate::platform::Platform;
use crate::smmu::budget::Costs;
use crate::spec::registers::{self as reg, cr0::Cr0, irq_ctrl::IrqCtrl};
use crate::stats::{Stats, bump};
pub(super) use drain::{Remaining, Sink};
use el2_cmdq::{Cmdq, CmdqError};
use el2_eventq::Evtq;
use hw::Hw;
pub use invalidate::Stale;
pub use program::TakeOverError;

/// Bytes of the command queue and of the event queue, in the order in which they are allocated; each is aligned to its
/// size.
pub(super) const QUEUES: [usize; 2] = [el2_cmdq::RING_SIZE, el2_eventq::RING_SIZE];

/// Whether to wait for GBPA when a failed SMMU is set to abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AbortWait {
    /// Wait up to the timeout of each register.
    Bounded,
    /// Do not wait: an earlier wait timed out, and each access of the host would wait again.
    None,
}

/// Values of the stream table registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableRegisters {
    /// SMMU_STRTAB_BASE.
    pub(super) base: u64,
    /// SMMU_STRTAB_BASE_CFG.
    pub(super) cfg: u32,
}

/// Counters of the device; fields as in [`Stats`].
#[derive(Clone, Copy, Default)]
struct Counters {
    faults: u64,
    event_overflows: u64,
    reprograms: u64,
    s2_invalidations: u64,
}

/// An SMMU under EL2's control.
pub(super) struct Device<P: Platform> {
    hw: Hw<P>,
    features: Features,
    table: TableRegisters,
    /// CR0ACK as programmed; for a failed SMMU, a value above all 32-bit values.
    expected_cr0ack: u64,
    cmdq: Cmdq<P::Buffer>,
    evtq: Evtq<P::Buffer>,
    failed: Option<SmmuError>,
    abort_wait: AbortWait,
    /// Enabled interrupts; also in SMMU_IRQ_CTRL after it is programmed.
    irq_ctrl: IrqCtrl,
    counters: Counters,
}

impl<P: Platform + Clone> Clone for Device<P>
where
    P::Buffer: Clone,
{
    fn clone(&self) -> Self {
        Self {
            hw: self.hw.clone(),
            features: self.features,
            table: self.table,
            expected_cr0ack: self.expected_cr0ack,
            cmdq: self.cmdq.clone(),
            evtq: self.evtq.clone(),
            failed: self.failed,
            abort_wait: self.abort_wait,
            irq_ctrl: self.irq_ctrl,
            counters: self.counters,
        }
    }
}

impl<P: Platform> Device<P> {
    /// Allocates the queues and takes the SMMU over, with the stream table at `table`. `issue`: number of times that a
    /// batch of commands is issued; `timeouts`: maximum waits for hardware.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub(super) fn take_over(
        platform: P,
        features: Features,
        (issue, timeouts): (Issue, Timeouts),
        table: TableRegisters,
    ) -> Result<Self, TakeOverError> {
        let [commands, events] = QUEUES;
        let commands = platform.alloc(commands).ok_or(TakeOverError::NoMemory)?;
        let events = platform.alloc(events).ok_or(TakeOverError::NoMemory)?;
        let mut device = Self {
            hw: Hw::new(platform, timeouts),
            features,
            table,
            expected_cr0ack: u64::from(program::cr0_live(&features).bits()),
            cmdq: Cmdq::new(commands, features.cmdq_log2, features.coherent, issue),
            evtq: Evtq::new(events, features.evtq_log2, features.coherent),
            failed: None,
            abort_wait: AbortWait::Bounded,
            irq_ctrl: IrqCtrl::empty(),
            counters: Counters::default(),
        };
        device.program()?;
        Ok(device)
    }

    /// The hardware features.
    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    /// The platform.
    #[inline]
    pub(super) fn platform(&self) -> &P {
        self.hw.platform()
    }

    /// Adds the counters of the device to `stats`.
    pub(super) fn count(&self, stats: &mut Stats) {
        self.cmdq.count(stats);
        stats.faults = self.counters.faults;
        stats.event_overflows = self.counters.event_overflows;
        stats.reprograms = self.counters.reprograms;
        stats.s2_invalidations = self.counters.s2_invalidations;
    }

    /// The error that marked this SMMU as failed, if any.
    #[inline]
    pub(super) fn failed(&self) -> Option<SmmuError> {
        self.failed
    }

    fn usable(&self) -> Result<(), SmmuError> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Marks the SMMU as failed.
    #[cold]
    fn fail(&mut self, error: SmmuError) -> SmmuError {
        self.failed = self.failed.or(Some(error));
        self.expected_cr0ack = u64::MAX;
        error
    }

    /// Whether the SMMU is programmed and not failed: one load. If not, call [`Device::recover`].
    #[inline]
    pub(super) fn is_alive(&self) -> bool {
        u64::from(self.hw.read32(reg::CR0ACK)) == self.expected_cr0ack
    }

    /// Programs an SMMU again that lost its state; a failed one stays set to abort.
    ///
    /// Everything is invalidated afterwards.
    ///
    /// # Errors
    /// The SMMU could not be programmed again, now or earlier: it is failed, and GBPA.ABORT was written.
    #[cold]
    pub(super) fn recover(&mut self) -> Result<(), SmmuError> {
        if let Some(error) = self.failed {
            self.keep_aborting();
            return Err(error);
        }
        self.reprogram()
    }

    /// Programs the SMMU again, regardless of its registers; a failed one is kept at abort.
    ///
    /// # Errors
    /// As [`Device::recover`].
    #[cold]
    pub(super) fn resume(&mut self) -> Result<(), SmmuError> {
        if let Some(error) = self.failed {
            self.wait_again();
            self.keep_aborting();
            return Err(error);
        }
        self.reprogram()
    }

    /// As at take-over. If it fails, every transaction aborts, unless hardware did not accept GBPA.ABORT.
    fn reprogram(&mut self) -> Result<(), SmmuError> {
        bump(&mut self.counters.reprograms);
        self.program().map_err(|_| {
            // SMMUEN is cleared only after GBPA.ABORT is in effect: before that, every transaction would bypass.
            if program::gbpa_aborts(self.hw.read32(reg::GBPA)) {
                self.disable();
            }
            self.fail(SmmuError::Reset)
        })
    }

    /// A failed SMMU is not programmed again; but after a loss of power it may bypass everything, so it is set to
    /// abort.
    ///
    /// Hardware that does not respond cannot be set to abort; the failure is reported anyway. The first access waits
    /// for GBPA; later accesses write it again, without waiting, if it does not abort and no update is pending.
    #[cold]
    fn keep_aborting(&mut self) {
        let on = Cr0::from_bits_truncate(self.hw.read32(reg::CR0ACK)).contains(Cr0::SMMUEN);
        if on || program::gbpa_aborts(self.hw.read32(reg::GBPA)) {
            return;
        }
        match self.abort_wait {
            AbortWait::Bounded if self.set_gbpa_abort().is_err() => self.abort_wait = AbortWait::None,
            AbortWait::Bounded => {}
            AbortWait::None => self.request_gbpa_abort(),
        }
    }

    /// The next access waits for GBPA again: it is the last one to this SMMU, before power-off.
    pub(super) fn wait_again(&mut self) {
        self.abort_wait = AbortWait::Bounded;
    }

    /// Clears SMMUEN, if hardware responds: GBPA.ABORT, set at take-over, is then in effect.
    pub(super) fn disable(&mut self) {
        let cr0 = Cr0::from_bits_truncate(self.hw.read32(reg::CR0ACK)).difference(Cr0::SMMUEN);
        let _ = self.hw.write_acked(reg::CR0, reg::CR0ACK, cr0.bits());
    }

    /// Queues a command; waits if the queue is full.
    ///
    /// # Errors
    /// The SMMU is failed.
    #[inline]
    pub(super) fn push(&mut self, command: Command) -> Result<(), SmmuError> {
        self.usable()?;
        self.cmdq.push(&self.hw, command).map_err(|error| self.fail(error.into()))
    }

    /// Queues a CMD_SYNC, so that later commands start after all earlier ones are complete, and does not wait for it.
    ///
    /// # Errors
    /// The SMMU is failed.
    #[inline]
    pub(super) fn queue_sync(&mut self) -> Result<(), SmmuError> {
        self.usable()?;
        self.cmdq.queue_sync(&self.hw).map_err(|error| self.fail(error.into()))
    }

    /// Makes all queued commands visible to hardware.
    #[inline]
    pub(super) fn submit(&mut self) {
        self.cmdq.submit(&self.hw);
    }

    /// Waits until all queued commands are complete.
    ///
    /// A command that hardware rejected was not executed; everything is invalidated instead, once.
    ///
    /// # Errors
    /// The SMMU is failed.
    #[inline]
    pub(super) fn sync(&mut self) -> Result<(), SmmuError> {
        self.usable()?;
        match self.cmdq.sync(&self.hw) {
            Ok(()) => Ok(()),
            Err(error) => self.sync_again(error),
        }
    }

    #[cold]
    fn sync_again(&mut self, error: CmdqError) -> Result<(), SmmuError> {
        let result = match error {
            CmdqError::Rejected => self.invalidate_everything(),
            CmdqError::Failed(_) => Err(error),
        };
        result.map_err(|error| self.fail(error.into()))
    }

    /// Current charges of commands.
    #[inline]
    pub(super) fn costs(&self) -> Costs {
        self.cmdq.costs()
    }

    /// Enables exactly the interrupts of `wanted`; none, once the SMMU is failed. Returns those that were disabled
    /// before.
    ///
    /// If the change is not acknowledged, there is no interrupt and the host must poll; nothing else depends on the
    /// acknowledgement.
    pub(super) fn set_irq_ctrl(&mut self, wanted: IrqCtrl) -> IrqCtrl {
        let wanted = if self.failed.is_some() { IrqCtrl::empty() } else { wanted };
        let before = core::mem::replace(&mut self.irq_ctrl, wanted);
        if wanted != before {
            let _ = self.hw.write_acked(reg::IRQ_CTRL, reg::IRQ_CTRLACK, wanted.bits());
        }
        wanted.difference(before)
    }

    /// Counts the records in hardware's event queue now, for [`Device::is_past_mark`].
    pub(super) fn mark_records(&mut self) {
        if self.failed.is_none() {
            self.evtq.mark(&self.hw);
        }
    }

    /// Whether all records that [`Device::mark_records`] found were taken.
    pub(super) fn is_past_mark(&self) -> bool {
        self.evtq.is_past_mark()
    }
}

#[cfg(test)]
mod tests;
