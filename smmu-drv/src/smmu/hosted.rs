//! An SMMU whose streams belong to a host that programs a virtual SMMU.
//!
//! The virtual SMMU handles accesses of the host; its results are executed on the SMMU. A failure of the SMMU is
//! reported to the host.

use core::fmt;

use super::budget::Budget;
use super::device::Stale;
use super::emul::VirtualSmmu;
use super::emul::ids::HostIds;
use super::emul::policy::SteRules;
use super::probe::{Probed, Unassigned};
use super::shadow::Shared;
use super::shadow::audit::StrtabFinding;
use super::{Fault, Initial, Smmu, StorageOf, TakeOverError};
use crate::error::SmmuError;
use crate::features::Features;
use crate::platform::{HostMemory, Platform};
use crate::spec::get32;
use crate::spec::registers::{self as reg, gbpa};
use crate::stage2::{Stage2Cfg, Stage2Words};
use crate::stats::Stats;

/// An SMMU under EL2's control, and the virtual SMMU of a host. See the crate documentation for the life cycle.
pub struct HostedSmmu<P: Platform, H: HostMemory> {
    pub(super) smmu: Smmu<P>,
    pub(super) vsmmu: VirtualSmmu<H::Claim>,
    /// The VMID of the host's streams.
    vmid: u16,
    /// Remaining budget of the current trap.
    pub(super) budget: Budget,
}

/// Copies the driver's state, not the hardware. For tests that restore an earlier state of a modelled machine; not possible with
/// real buffers and claims, which cannot be cloned.
impl<P: Platform + Clone, H: HostMemory> Clone for HostedSmmu<P, H>
where
    P::Buffer: Clone,
    StorageOf<P>: Clone,
    H::Claim: Clone,
{
    fn clone(&self) -> Self {
        Self { smmu: self.smmu.clone(), vsmmu: self.vsmmu.clone(), vmid: self.vmid, budget: self.budget }
    }
}

impl<P: Platform> Probed<P> {
    /// Takes over the SMMU for a host: afterwards every stream of it is confined by `stage2`, and its accesses are
    /// emulated.
    /// [`crate::ProbeConfig::unassigned`] determines whether the host owns unassigned streams. The driver keeps its
    /// lists in `storage`.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub fn take_over_with_host<H: HostMemory>(
        self,
        stage2: Stage2Cfg,
        storage: StorageOf<P>,
    ) -> Result<HostedSmmu<P, H>, TakeOverError> {
        let (platform, features, config) = self.into_parts();
        stage2.check(&features).map_err(TakeOverError::BadStage2)?;
        let ids = HostIds::new(&features, config.msi, stage2.ipa_bits()).with_cmdq(config.cmdq_log2);
        let rules = SteRules::new(&features, &ids).with_reads_as(config.reads, &features);
        let found = platform.read32(reg::GBPA);
        let shared = if get32(gbpa::ABORT, found) == 1 { Shared::Abort } else { Shared::Stage2 };
        let initial = match config.unassigned {
            Unassigned::Host => Initial::Host(shared),
            Unassigned::Blocked => Initial::Blocked,
        };
        let entries = (Stage2Words::new(&stage2), rules.fixed());
        let smmu = Smmu::new(platform, features, &config, entries, initial, storage)?;
        Ok(HostedSmmu {
            smmu,
            vsmmu: VirtualSmmu::new(ids, rules, stage2.vmid, &features, found),
            vmid: stage2.vmid,
            budget: Budget::new(config.trap_budget),
        })
    }
}

/// Result of an emulated store.
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

impl<P: Platform, H: HostMemory> HostedSmmu<P, H> {
    /// The hardware features.
    pub fn features(&self) -> &Features {
        self.smmu.features()
    }

    /// The platform given to [`crate::Probed::probe`].
    pub fn platform(&self) -> &P {
        self.smmu.platform()
    }

    /// The VMID of the host's streams.
    pub fn vmid(&self) -> u16 {
        self.vmid
    }

    /// Counters since take-over.
    pub fn stats(&self) -> Stats {
        let mut stats = *self.vsmmu.stats();
        self.smmu.count(&mut stats);
        stats
    }

    /// The error that marked this SMMU as failed, if any.
    pub fn failed(&self) -> Option<SmmuError> {
        self.smmu.failed()
    }

    /// See [`Smmu::has_fault`].
    pub fn has_fault(&self) -> bool {
        self.smmu.has_fault()
    }

    /// See [`Smmu::take_fault`].
    pub fn take_fault(&mut self) -> Option<Fault> {
        self.smmu.take_fault()
    }

    /// [`Smmu::tlb_invalidate`] for the host's streams.
    ///
    /// # Errors
    /// As there; the failure is reported to the host.
    pub fn tlb_invalidate_host(&mut self, stale: Stale) -> Result<(), SmmuError> {
        self.tlb_submit(self.vmid, stale)?;
        self.tlb_wait()
    }

    /// See [`Smmu::tlb_submit`].
    ///
    /// # Errors
    /// As there; the failure is reported to the host.
    pub fn tlb_submit(&mut self, vmid: u16, stale: Stale) -> Result<(), SmmuError> {
        let result = self.smmu.tlb_submit(vmid, stale);
        self.reported(result)
    }

    /// See [`Smmu::tlb_wait`].
    ///
    /// # Errors
    /// As there; the failure is reported to the host.
    pub fn tlb_wait(&mut self) -> Result<(), SmmuError> {
        let result = self.smmu.tlb_wait();
        self.reported(result)
    }

    /// Makes every stream abort permanently: the host's accesses are still emulated, but no longer change any stream.
    ///
    /// # Errors
    /// See [`Smmu::quiesce`].
    pub fn quiesce(&mut self) -> Result<(), SmmuError> {
        self.vsmmu.quiesce();
        let result = self.smmu.quiesce();
        self.reported(result)
    }

    /// Detects an SMMU that lost its state, see [`Smmu::check_alive`]. Every access of the host also does this check.
    ///
    /// # Errors
    /// As there; the failure is reported to the host.
    #[inline]
    pub fn check_alive(&mut self) -> Result<(), SmmuError> {
        if self.smmu.device.is_alive() { Ok(()) } else { self.recover() }
    }

    /// Programs the SMMU again after its power was off, see [`Smmu::resume`]. It is not visible to the host.
    ///
    /// # Errors
    /// As there; the host sees the failure.
    #[cold]
    pub fn resume(&mut self) -> Result<(), SmmuError> {
        let result = self.smmu.resume();
        self.reported(result)
    }

    #[cold]
    fn recover(&mut self) -> Result<(), SmmuError> {
        let result = self.smmu.recover();
        self.reported(result)
    }

    /// Reports a failure to the host.
    pub(super) fn reported<T, E>(&mut self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.report_failure();
        }
        result
    }

    /// Checks that every stream is confined, and that the memory of the enabled queues is still the host's.
    ///
    /// # Errors
    /// The first error, which is a defect of EL2. Nothing is changed.
    pub fn audit(&self, host_mem: &H) -> Result<(), SmmuFinding> {
        self.smmu.audit().map_err(SmmuFinding::Strtab)?;
        self.vsmmu.audit(host_mem).map_err(SmmuFinding::Unclaimed)
    }
}
