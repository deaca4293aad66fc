//! Take-over: programs an SMMU so that every transaction is confined by stage 2 at all times.
//!
//! Firmware may have left the SMMU enabled, with tables and queues at any address. So GBPA is set to abort before
//! SMMUEN is cleared: from then on every transaction aborts until SMMUEN is set again with EL2's own table, in which
//! stage 2 confines every stream. The same sequence programs an SMMU again that lost its state.

use core::fmt;

use super::Device;
use super::el2_cmdq::CmdqError;
use super::hw::{Hw, TimedOut};
use crate::command::Command;
use crate::features::{Coherency, Features};
use crate::platform::Platform;
use crate::spec::registers::{self as reg, cr0::Cr0, cr1, cr2::Cr2, gbpa};
use crate::spec::{get32, put32, union32};

/// Why a take-over failed. GBPA.ABORT is set, unless the error is that GBPA was not acknowledged or that nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOverError {
    /// The stage-2 configuration is not valid for this hardware; the SMMU was not written.
    BadStage2(&'static str),
    /// The pool is empty; the SMMU was not written.
    NoMemory,
    /// A register write was not acknowledged: its offset.
    NoAck(u32),
    /// EL2's command queue did not complete the first invalidation.
    Invalidation,
}

impl fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadStage2(what) => write!(f, "stage-2 configuration: {what}"),
            Self::NoMemory => f.write_str("no memory for SMMU tables and queues; give EL2 a larger pool"),
            Self::NoAck(offset) => write!(f, "register {offset:#x} was not acknowledged; the SMMU does not respond"),
            Self::Invalidation => f.write_str("the first invalidation did not complete; the SMMU does not respond"),
        }
    }
}

impl core::error::Error for TakeOverError {}

fn ack(offset: u32) -> impl Fn(TimedOut) -> TakeOverError {
    move |TimedOut| TakeOverError::NoAck(offset)
}

impl<P: Platform> Device<P> {
    /// Programs the SMMU from any state with the current tables.
    pub(super) fn program(&mut self) -> Result<(), TakeOverError> {
        self.set_gbpa_abort()?;
        let hw = &self.hw;
        hw.write_acked(reg::CR0, reg::CR0ACK, 0).map_err(ack(reg::CR0))?;
        hw.write_acked(reg::IRQ_CTRL, reg::IRQ_CTRLACK, 0).map_err(ack(reg::IRQ_CTRL))?;
        hw.write64(reg::GERROR_IRQ_CFG0, 0);
        hw.write64(reg::EVENTQ_IRQ_CFG0, 0);
        if self.features.pri() {
            hw.write64(reg::PRIQ_IRQ_CFG0, 0);
        }
        hw.write32(reg::GERRORN, hw.read32(reg::GERROR));
        hw.write32(reg::CR1, cr1_template(self.features.coherent));
        hw.write32(reg::CR2, Cr2::PTM.union(Cr2::RECINVSID).bits());
        hw.write64(reg::STRTAB_BASE, self.table.base);
        hw.write32(reg::STRTAB_BASE_CFG, self.table.cfg);
        self.cmdq.reset();
        hw.write64(reg::CMDQ_BASE, self.cmdq.base());
        hw.write32(reg::CMDQ_PROD, 0);
        hw.write32(reg::CMDQ_CONS, 0);
        hw.publish_acked(reg::CR0, reg::CR0ACK, cr0_before_smmuen(&self.features, Cr0::CMDQEN).bits())
            .map_err(ack(reg::CR0))?;
        self.invalidate_everything().map_err(|_| TakeOverError::Invalidation)?;
        let hw = &self.hw;
        self.evtq.reset();
        hw.write64(reg::EVENTQ_BASE, self.evtq.base());
        hw.write32(reg::EVENTQ_PROD, 0);
        hw.write32(reg::EVENTQ_CONS, 0);
        // The interrupt is raised when the queue becomes non-empty [S 3.18.2]: enable it before the first record.
        if !self.irq_ctrl.is_empty() {
            // As in `Device::set_irq_ctrl`, only the interrupt depends on the acknowledgement.
            let _ = hw.write_acked(reg::IRQ_CTRL, reg::IRQ_CTRLACK, self.irq_ctrl.bits());
        }
        let queues = cr0_before_smmuen(&self.features, Cr0::CMDQEN.union(Cr0::EVENTQEN));
        hw.publish_acked(reg::CR0, reg::CR0ACK, queues.bits()).map_err(ack(reg::CR0))?;
        hw.publish_acked(reg::CR0, reg::CR0ACK, cr0_live(&self.features).bits()).map_err(ack(reg::CR0))?;
        Ok(())
    }

    /// Makes every transaction abort while SMMUEN is 0 [S 6.3.14]: one write with UPDATE, which is polled before and after.
    pub(super) fn set_gbpa_abort(&self) -> Result<(), TakeOverError> {
        let hw = &self.hw;
        hw.wait(hw.register_us(), || gbpa_is_idle(hw)).map_err(ack(reg::GBPA))?;
        hw.write32(reg::GBPA, GBPA_ABORT_ALL);
        hw.wait(hw.register_us(), || gbpa_is_idle(hw)).map_err(ack(reg::GBPA))?;
        if get32(gbpa::ABORT, hw.read32(reg::GBPA)) == 1 { Ok(()) } else { Err(TakeOverError::NoAck(reg::GBPA)) }
    }

    /// As [`Device::set_gbpa_abort`], without waiting. During an earlier update the register is not written, since
    /// that is not allowed [S 6.3.14].
    pub(super) fn request_gbpa_abort(&self) {
        if gbpa_is_idle(&self.hw) {
            self.hw.write32(reg::GBPA, GBPA_ABORT_ALL);
        }
    }

    /// Invalidates every cached configuration and translation of the non-secure world.
    pub(super) fn invalidate_everything(&mut self) -> Result<(), CmdqError> {
        self.cmdq.push(&self.hw, Command::CfgiAll)?;
        // While streams are active, cached configuration could refill the TLBs [S 4.7.3].
        self.cmdq.queue_sync(&self.hw)?;
        self.cmdq.push(&self.hw, Command::TlbiNsnhAll)?;
        if self.features.hyp() {
            self.cmdq.push(&self.hw, Command::TlbiEl2All)?;
        }
        self.cmdq.sync(&self.hw)
    }
}

/// The value of SMMU_CR0 from take-over to power-off.
pub(super) fn cr0_live(features: &Features) -> Cr0 {
    cr0_before_smmuen(features, Cr0::SMMUEN.union(Cr0::CMDQEN).union(Cr0::EVENTQEN))
}

/// `queues`, and ATSCHK if hardware has ATS.
///
/// CR0's fields are updated independently of each other [S 6.3.9]: set by one write, SMMUEN may take effect first, and
/// Translated transactions would bypass the stream table. So ATSCHK is acknowledged before SMMUEN is written, and
/// before the invalidation of configuration caches, which the change requires.
fn cr0_before_smmuen(features: &Features, queues: Cr0) -> Cr0 {
    if features.ats() { queues.union(Cr0::ATSCHK) } else { queues }
}

/// Whether `gbpa` aborts all transactions while SMMUEN is 0: the new value may be read before the update is complete
/// [S 6.3.14].
pub(super) fn gbpa_aborts(gbpa: u32) -> bool {
    get32(gbpa::ABORT, gbpa) == 1 && get32(gbpa::UPDATE, gbpa) == 0
}

/// The write of SMMU_GBPA that terminates everything while SMMUEN is 0.
const GBPA_ABORT_ALL: u32 = union32([put32(gbpa::UPDATE, 1), put32(gbpa::ABORT, 1)]);

fn gbpa_is_idle<P: Platform>(hw: &Hw<P>) -> bool {
    get32(gbpa::UPDATE, hw.read32(reg::GBPA)) == 0
}

/// Attributes of the SMMU's own accesses: write-back and inner shareable, or non-cacheable if it does not snoop.
fn cr1_template(coherent: Coherency) -> u32 {
    let (cache, share) = match coherent {
        Coherency::Coherent => (cr1::WB, cr1::ISH),
        Coherency::NonCoherent => (cr1::NC, cr1::OSH),
    };
    union32([
        put32(cr1::TABLE_SH, share),
        put32(cr1::TABLE_OC, cache),
        put32(cr1::TABLE_IC, cache),
        put32(cr1::QUEUE_SH, share),
        put32(cr1::QUEUE_OC, cache),
        put32(cr1::QUEUE_IC, cache),
    ])
}
