//! An SMMU after take-over: the device and its shadow table, and in [`HostedSmmu`] the virtual SMMU of a host.
//!
//! None of the three uses another. Accesses of the host go to the virtual SMMU, and `execute` does what it returns. This module
//! gives the shadow table the device as its `Hardware`, and the device a `Sink` for its records.

mod access;
pub mod budget;
mod device;
pub mod emul;
mod execute;
#[cfg(test)]
mod fake;
mod hosted;
mod index;
pub mod shadow;
mod ste;
mod stream;
mod streams;

use crate::errata::Issue;
use crate::error::SmmuError;
use crate::fault::FaultRecord;
use crate::features::Features;
use crate::platform::Platform;
use crate::probe::Probed;
use crate::stage2::Stage2Words;
use crate::stats::Stats;
use budget::Budget;
use device::{Device, Sink, TableRegisters};
use shadow::audit::StrtabFinding;
use shadow::owners::StreamOwner;
use shadow::{ShadowTable, Shared};

pub use device::{Stale, TakeOverError};
pub use hosted::{HostedSmmu, SmmuFinding, WriteOutcome};
pub use index::HOST_CMDQS;
pub use ste::{Fixed, ReadsAs, Ste};

/// An SMMU under EL2's control, without a host: its streams are assigned to domains, or blocked. See the crate documentation for
/// the life cycle.
pub struct Smmu<P: Platform> {
    device: Device<P>,
    shadow: ShadowTable<P::Buffer>,
    /// All counters, as last asked for.
    stats: Stats,
}

/// Copies the driver's state, not the hardware. For tests that restore an earlier state of a modelled machine; not possible with
/// real buffers, which cannot be cloned.
impl<P: Platform + Clone> Clone for Smmu<P>
where
    P::Buffer: Clone,
{
    fn clone(&self) -> Self {
        Self { device: self.device.clone(), shadow: self.shadow.clone(), stats: self.stats }
    }
}

impl<P: Platform> Probed<P> {
    /// Takes the SMMU over: afterwards every stream aborts until it is assigned.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub fn take_over(self) -> Result<Smmu<P>, TakeOverError> {
        let (platform, features, config) = self.into_parts();
        let fixed = Fixed::new(config.reads, &features);
        Smmu::new(platform, features, config.quirks.issue, Stage2Words::NONE, fixed, Initial::Blocked)
    }
}

/// What every stream does after take-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initial {
    /// It belongs to nobody.
    Blocked,
    /// It belongs to the host.
    Host(Shared),
}

impl<P: Platform> Smmu<P> {
    fn new(
        platform: P,
        features: Features,
        issue: Issue,
        words: Stage2Words,
        fixed: Fixed,
        initial: Initial,
    ) -> Result<Self, TakeOverError> {
        let (owner, shared) = match initial {
            Initial::Blocked => (StreamOwner::Blocked, Shared::Abort),
            Initial::Host(shared) => (StreamOwner::Host, shared),
        };
        let shadow =
            ShadowTable::new(&platform, &features, words, fixed, shared, owner).map_err(|_| TakeOverError::NoMemory)?;
        let table = TableRegisters { base: shadow.base(), cfg: shadow.cfg() };
        let device = Device::take_over(platform, features, issue, table)?;
        Ok(Self { device, shadow, stats: Stats::default() })
    }

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
        let mut stats = Stats::default();
        self.count(&mut stats);
        self.stats = stats;
        &self.stats
    }

    /// Adds to `stats` what an SMMU counts, with or without a host.
    fn count(&self, stats: &mut Stats) {
        stats.strtab_no_memory = self.shadow.no_memory();
        self.device.count(stats);
    }

    /// The error that marked this SMMU as failed, if any.
    pub fn failed(&self) -> Option<SmmuError> {
        self.device.failed()
    }

    /// Whether [`Smmu::take_fault`] has a record. Cheap enough for every trap.
    pub fn has_fault(&self) -> bool {
        self.device.has_fault()
    }

    /// Takes the oldest fault record kept for the console; [`Smmu::owner`] says whose stream it is.
    pub fn take_fault(&mut self) -> Option<FaultRecord> {
        self.device.take_fault()
    }

    /// Takes what hardware's event queue holds into counters and fault records, at most one queue of them.
    pub fn poll_faults(&mut self) {
        let _ = self.check_alive();
        let _ = self.device.drain(&mut Budget::for_one_trap(), &mut Discard);
    }

    /// Invalidates the translations in `stale` of the domain with `vmid`, and waits until transactions that used one are complete.
    ///
    /// One call per transition, after the tables changed and before the transition returns.
    ///
    /// # Errors
    /// Stale translations may still be cached: the pages must keep their owner, and the old tables must not be reused. The SMMU is
    /// marked as failed.
    pub fn tlb_invalidate(&mut self, vmid: u16, stale: Stale) -> Result<(), SmmuError> {
        self.tlb_submit(vmid, stale)?;
        self.tlb_wait()
    }

    /// The first half of [`Smmu::tlb_invalidate`]: hardware begins, nothing is waited for. With several SMMUs each begins before
    /// the first is waited for, so that they work at the same time.
    ///
    /// # Errors
    /// As [`Smmu::tlb_invalidate`].
    pub fn tlb_submit(&mut self, vmid: u16, stale: Stale) -> Result<(), SmmuError> {
        self.check_alive()?;
        self.device.tlb_submit(vmid, stale)
    }

    /// The second half: waits until everything that was submitted is complete.
    ///
    /// # Errors
    /// As [`Smmu::tlb_invalidate`].
    pub fn tlb_wait(&mut self) -> Result<(), SmmuError> {
        self.device.sync()?;
        self.shadow.synchronised();
        Ok(())
    }

    /// Makes every stream abort permanently.
    ///
    /// # Errors
    /// The invalidation did not complete. SMMUEN was then cleared, which leaves GBPA=ABORT in effect if hardware still responds.
    pub fn quiesce(&mut self) -> Result<(), SmmuError> {
        // Last attempt: this SMMU is not checked again.
        self.device.wait_again();
        let result = self.check_alive().and_then(|()| self.shadow.abort_all(&mut self.device));
        if result.is_err() {
            self.device.disable();
        }
        result
    }

    /// Detects an SMMU that lost its state, and programs it again before it is used. Every invalidation and assignment does so;
    /// this is for other times at which power may have been off, such as a CPU that wakes.
    ///
    /// # Errors
    /// It could not be programmed again, now or earlier: it is marked as failed, and GBPA.ABORT was written.
    #[inline]
    pub fn check_alive(&mut self) -> Result<(), SmmuError> {
        if self.device.is_alive() { Ok(()) } else { self.recover() }
    }

    #[cold]
    fn recover(&mut self) -> Result<(), SmmuError> {
        self.device.recover()?;
        self.shadow.after_reprogram();
        Ok(())
    }

    /// Checks that every stream is confined by its owner's stage 2.
    ///
    /// # Errors
    /// The first entry that is wrong: a defect of EL2. Nothing is changed.
    pub fn audit(&self) -> Result<(), StrtabFinding> {
        self.shadow.audit()
    }
}

/// Fault records without a host: counted and logged, nothing else.
struct Discard;

impl Sink for Discard {
    fn record(&mut self, _: &mut Budget, _: &FaultRecord) {}
    fn lost(&mut self) {}
}
