//! An SMMU after take-over: the device, its shadow table, and the virtual SMMU of the host.
//!
//! None of the three uses another. Accesses of the host go to the virtual SMMU, and this module executes what it returns. It also
//! gives the shadow table the device as its `Hardware`, and the device a `Sink` for its records.

mod access;
pub mod budget;
mod device;
pub mod emul;
mod execute;
#[cfg(test)]
mod fake;
mod index;
pub mod shadow;
mod ste;
mod stream;

use core::fmt;

use crate::error::SmmuError;
use crate::fault::FaultRecord;
use crate::features::Features;
use crate::platform::{HostMemory, Platform};
use crate::probe::Probed;
use crate::spec::get32;
use crate::spec::registers::{self as reg, gbpa};
use crate::stage2::{Stage2Cfg, Stage2Words};
use crate::stats::Stats;
use budget::Budget;
use device::{Device, TableRegisters};
use emul::VirtualSmmu;
use emul::ids::HostIds;
use emul::policy::SteRules;
use shadow::audit::StrtabFinding;
use shadow::{ShadowTable, Shared};

pub use device::{Stale, TakeOverError};
pub use index::HOST_CMDQS;
pub use ste::{Fixed, Ste};

/// An SMMU under EL2's control. See the crate documentation for the life cycle.
pub struct Smmu<P: Platform, H: HostMemory> {
    device: Device<P>,
    shadow: ShadowTable<P::Buffer>,
    vsmmu: VirtualSmmu<H::Claim>,
    /// Remaining budget of the current trap.
    budget: Budget,
    /// The sum of the counters, from the last call of [`Smmu::stats`].
    stats: Stats,
}

/// Copies the driver's state, not the hardware. For tests that restore an earlier state of a modelled machine; not possible with
/// real buffers and claims, which cannot be cloned.
impl<P: Platform + Clone, H: HostMemory> Clone for Smmu<P, H>
where
    P::Buffer: Clone,
    H::Claim: Clone,
{
    fn clone(&self) -> Self {
        Self {
            device: self.device.clone(),
            shadow: self.shadow.clone(),
            vsmmu: self.vsmmu.clone(),
            budget: self.budget,
            stats: self.stats,
        }
    }
}

impl<P: Platform> Probed<P> {
    /// Takes the SMMU over: afterwards every stream is confined by `stage2`, and the host's accesses are emulated.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub fn take_over<H: HostMemory>(self, stage2: Stage2Cfg) -> Result<Smmu<P, H>, TakeOverError> {
        let (platform, features, config) = self.into_parts();
        stage2.check(&features).map_err(TakeOverError::BadStage2)?;
        let ids = HostIds::new(&features, config.msi, stage2.ipa_bits()).with_cmdq(config.cmdq_log2);
        let rules = SteRules::new(&features, &ids).with_reads_as(config.reads, &features);
        let found = platform.read32(reg::GBPA);
        let initial = if get32(gbpa::ABORT, found) == 1 { Shared::Abort } else { Shared::Stage2 };
        let shadow = ShadowTable::new(&platform, &features, Stage2Words::new(&stage2), rules.fixed(), initial)
            .map_err(|_| TakeOverError::NoMemory)?;
        let table = TableRegisters { base: shadow.base(), cfg: shadow.cfg() };
        let device = Device::take_over(platform, features, config.quirks.issue, stage2.vmid, table)?;
        Ok(Smmu {
            device,
            shadow,
            vsmmu: VirtualSmmu::new(ids, rules, stage2.vmid, &features, found),
            budget: Budget::for_one_trap(),
            stats: Stats::default(),
        })
    }
}

/// How an emulated store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteOutcome {
    /// Complete: advance the PC.
    Done,
    /// The budget of one trap is used up and progress is saved: return without advancing the PC, so that the host takes pending
    /// interrupts and executes the store again.
    Again,
}

/// The first error of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmmuFinding {
    /// The shadow stream table does not confine a stream.
    Strtab(StrtabFinding),
    /// A queue is enabled but its memory is no longer claimed.
    Unclaimed(&'static str),
}

impl fmt::Display for SmmuFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strtab(finding) => finding.fmt(f),
            Self::Unclaimed(queue) => write!(f, "the host's {queue} is in use and not claimed"),
        }
    }
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// The hardware features.
    pub fn features(&self) -> &Features {
        self.device.features()
    }

    /// The platform given to [`crate::Probed::probe`].
    pub fn platform(&self) -> &P {
        self.device.platform()
    }

    /// Counters since take-over.
    pub fn stats(&mut self) -> &Stats {
        self.stats = *self.vsmmu.stats();
        self.stats.strtab_no_memory = self.shadow.no_memory();
        self.device.count(&mut self.stats);
        &self.stats
    }

    /// The error that marked this SMMU as failed, if any.
    pub fn failed(&self) -> Option<SmmuError> {
        self.device.failed()
    }

    /// Whether [`Smmu::take_fault`] has a record. Cheap enough for every trap.
    pub fn has_fault(&self) -> bool {
        self.device.has_fault()
    }

    /// Takes the oldest fault record kept for the console.
    pub fn take_fault(&mut self) -> Option<FaultRecord> {
        self.device.take_fault()
    }

    /// Invalidates the translations in `stale`, and waits until transactions that used one are complete.
    ///
    /// One call per transition, after the tables changed and before the transition returns.
    ///
    /// # Errors
    /// Stale translations may still be cached: the pages must keep their owner, and the old tables must not be reused. The SMMU is
    /// marked as failed.
    pub fn tlb_invalidate(&mut self, stale: Stale) -> Result<(), SmmuError> {
        self.check_alive()?;
        let result = self.device.tlb_invalidate(stale);
        match result {
            Ok(()) => self.shadow.synchronised(),
            Err(_) => self.report_failure(),
        }
        result
    }

    /// Makes every stream abort permanently: the host's accesses are still emulated, but no longer change any stream.
    ///
    /// # Errors
    /// The invalidation did not complete. SMMUEN was then cleared, which leaves GBPA=ABORT in effect if hardware still responds.
    pub fn quiesce(&mut self) -> Result<(), SmmuError> {
        self.vsmmu.quiesce();
        // Last attempt: this SMMU is not checked again.
        self.device.wait_again();
        let result = self.quiesce_streams();
        if result.is_err() {
            self.device.disable();
            self.report_failure();
        }
        result
    }

    fn quiesce_streams(&mut self) -> Result<(), SmmuError> {
        self.check_alive()?;
        self.shadow.abort_all(&mut self.device)
    }

    /// Detects an SMMU that lost its state, and programs it again before it is used. Every access of the host and every
    /// invalidation does this; call it also at other times at which power may have been off, such as when a CPU wakes.
    ///
    /// # Errors
    /// It could not be programmed again, now or earlier: it is marked as failed, and GBPA.ABORT was written.
    #[inline]
    pub fn check_alive(&mut self) -> Result<(), SmmuError> {
        if self.device.is_alive() { Ok(()) } else { self.recover() }
    }

    #[cold]
    fn recover(&mut self) -> Result<(), SmmuError> {
        let result = self.device.recover();
        match result {
            Ok(()) => self.shadow.after_reprogram(),
            Err(_) => self.report_failure(),
        }
        result
    }

    /// Checks that every stream is confined, and that the memory of the enabled queues is still the host's.
    ///
    /// # Errors
    /// The first finding: a defect of EL2. Nothing is changed.
    pub fn audit(&self, host_mem: &H) -> Result<(), SmmuFinding> {
        self.shadow.audit().map_err(SmmuFinding::Strtab)?;
        self.vsmmu.audit(host_mem).map_err(SmmuFinding::Unclaimed)
    }
}
