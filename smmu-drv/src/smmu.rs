//! An SMMU, probed and then taken over: the device and its shadow table, and in [`HostedSmmu`] the virtual SMMU of a
//! host.
//!
//! The three do not use each other. The virtual SMMU handles accesses of the host, and `execute` executes its results.
//! This module passes the device to the shadow table as its `Hardware`, and a `Sink` for records to the device.

mod access;
pub mod budget;
mod device;
pub mod emul;
mod execute;
#[cfg(test)]
mod fake;
mod hosted;
mod index;
mod log;
mod memory;
mod probe;
pub mod shadow;
mod ste;
mod storage;
mod stream;
mod streams;

use crate::error::SmmuError;
use crate::fault::FaultRecord;
use crate::features::Features;
use crate::platform::{DmaBuffer, Platform};
use crate::stage2::Stage2Words;
use crate::stats::Stats;
use budget::Budget;
use device::{Device, Remaining, Sink, TableRegisters};
pub use log::Fault;
use log::FaultLog;
use shadow::audit::StrtabFinding;
use shadow::owners::StreamOwner;
use shadow::{ShadowTable, Shared};

pub use device::{Stale, TakeOverError};
pub use hosted::{HostedSmmu, SmmuFinding, WriteOutcome};
pub use index::HOST_CMDQS;
pub use memory::{MemoryNeeded, memory_needed};
pub use probe::{ProbeConfig, ProbeError, Probed, Unassigned};
pub use ste::{Fixed, ReadsAs, Ste};
pub use storage::{Storage, StorageOf};

/// An SMMU under EL2's control, without a host: its streams are assigned to domains, or blocked. See the crate
/// documentation for the life cycle.
pub struct Smmu<P: Platform> {
    device: Device<P>,
    storage: StorageOf<P>,
    /// The budget of one trap.
    full_budget: Budget,
}

/// Copies the driver's state, not the hardware. For tests that restore an earlier state of a modelled machine; not
/// possible with real buffers, which cannot be cloned.
impl<P: Platform + Clone> Clone for Smmu<P>
where
    P::Buffer: Clone,
    StorageOf<P>: Clone,
{
    fn clone(&self) -> Self {
        Self { device: self.device.clone(), storage: self.storage.clone(), full_budget: self.full_budget }
    }
}

impl<P: Platform> Probed<P> {
    /// Takes over the SMMU: afterwards every stream aborts until it is assigned. The driver keeps its lists in
    /// `storage`.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub fn take_over(self, storage: StorageOf<P>) -> Result<Smmu<P>, TakeOverError> {
        let (platform, features, config) = self.into_parts();
        let fixed = Fixed::new(config.reads, &features);
        Smmu::new(platform, features, &config, (Stage2Words::NONE, fixed), Initial::Blocked, storage)
    }
}

/// The owner of every stream after take-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initial {
    /// Nobody: it aborts.
    Blocked,
    /// The host.
    Host(Shared),
}

impl<P: Platform> Smmu<P> {
    fn new(
        platform: P,
        features: Features,
        config: &ProbeConfig,
        (words, fixed): (Stage2Words, Fixed),
        initial: Initial,
        mut storage: StorageOf<P>,
    ) -> Result<Self, TakeOverError> {
        let (owner, shared) = match initial {
            Initial::Blocked => (StreamOwner::Blocked, Shared::Abort),
            Initial::Host(shared) => (StreamOwner::Host, shared),
        };
        storage.clear();
        let shadow = &mut storage.shadow;
        if shadow.init(&platform, &features, words, fixed, shared, owner).is_err() {
            storage.clear();
            return Err(TakeOverError::NoMemory);
        }
        let table = TableRegisters { base: shadow.base(), cfg: shadow.cfg() };
        match Device::take_over(platform, features, (config.quirks.issue, config.timeouts), table) {
            Ok(device) => Ok(Self { device, storage, full_budget: Budget::new(config.trap_budget) }),
            Err(error) => {
                storage.clear();
                Err(error)
            }
        }
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
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.count(&mut stats);
        stats
    }

    /// Adds the counters of an SMMU with or without a host to `stats`.
    fn count(&self, stats: &mut Stats) {
        stats.strtab_no_memory = self.storage.shadow.no_memory();
        stats.faults_not_logged = self.storage.log.not_kept();
        self.device.count(stats);
    }

    /// The error that marked this SMMU as failed, if any.
    pub fn failed(&self) -> Option<SmmuError> {
        self.device.failed()
    }

    /// Whether [`Smmu::take_fault`] has a record. Cheap enough for every trap.
    pub fn has_fault(&self) -> bool {
        !self.storage.log.is_empty()
    }

    /// Takes the oldest fault record kept for the console.
    pub fn take_fault(&mut self) -> Option<Fault> {
        self.storage.log.take()
    }

    /// Drains hardware's event queue into counters and fault records; at most one full queue.
    pub fn poll_faults(&mut self) {
        let _ = self.check_alive();
        let mut budget = self.full_budget;
        let _ = self.drain(&mut budget, &mut Discard);
    }

    /// Takes records one by one while the budget suffices, keeps them in the log, and passes them to `sink`.
    fn drain(&mut self, budget: &mut Budget, sink: &mut impl Records) -> Remaining {
        let Storage { shadow, log } = &mut *self.storage;
        self.device.drain(budget, &mut Logged { log, shadow, sink })
    }

    /// Invalidates the translations in `stale` of the domain with `vmid`, and waits until transactions that used one
    /// are complete.
    ///
    /// One call per transition, after the tables changed and before the transition returns.
    ///
    /// # Errors
    /// Stale translations may still be cached: the pages must keep their owner, and the old tables must not be reused.
    /// The SMMU is marked as failed.
    pub fn tlb_invalidate(&mut self, vmid: u16, stale: Stale) -> Result<(), SmmuError> {
        self.tlb_submit(vmid, stale)?;
        self.tlb_wait()
    }

    /// The first half of [`Smmu::tlb_invalidate`]: submits the commands and does not wait. With several SMMUs, submit
    /// to all of them before waiting for the first one, so that they work at the same time.
    ///
    /// # Errors
    /// As [`Smmu::tlb_invalidate`].
    pub fn tlb_submit(&mut self, vmid: u16, stale: Stale) -> Result<(), SmmuError> {
        self.check_alive()?;
        self.device.tlb_submit(vmid, stale)
    }

    /// The second half: waits until all submitted commands are complete.
    ///
    /// # Errors
    /// As [`Smmu::tlb_invalidate`].
    pub fn tlb_wait(&mut self) -> Result<(), SmmuError> {
        self.device.sync()?;
        self.storage.shadow.synchronised();
        Ok(())
    }

    /// Makes every stream abort permanently.
    ///
    /// # Errors
    /// The invalidation did not complete. SMMUEN was then cleared, which leaves GBPA=ABORT in effect if hardware still
    /// responds.
    pub fn quiesce(&mut self) -> Result<(), SmmuError> {
        // This is the last attempt: this SMMU is not checked again.
        self.device.wait_again();
        let result = self.check_alive().and_then(|()| self.storage.shadow.abort_all(&mut self.device));
        if result.is_err() {
            self.device.disable();
        }
        result
    }

    /// Detects an SMMU that lost its state, and programs it again before it is used. Every invalidation and assignment
    /// does this check; call it also when power may have been off, for example when a CPU wakes. It checks one register
    /// only: if the power was certainly off, use [`Smmu::resume`].
    ///
    /// # Errors
    /// The SMMU could not be programmed again, now or earlier: it is marked as failed, and GBPA.ABORT was written.
    #[inline]
    pub fn check_alive(&mut self) -> Result<(), SmmuError> {
        if self.device.is_alive() { Ok(()) } else { self.recover() }
    }

    /// Programs the SMMU again after its power was off, regardless of its registers: owners and entries are unchanged,
    /// and all caches are invalidated.
    ///
    /// The order is that of a take-over, which first sets GBPA.ABORT. Between the return of power and this call all
    /// transactions bypass. During and after the call each stream reaches only the memory of its owner, or aborts. If
    /// the SMMU was still on, transactions abort during the call. Records written before the call are lost.
    ///
    /// # Errors
    /// It could not be programmed, now or earlier: it is marked as failed, and every stream aborts, unless hardware did
    /// not accept GBPA.ABORT.
    #[cold]
    pub fn resume(&mut self) -> Result<(), SmmuError> {
        self.device.resume()?;
        self.storage.shadow.after_reprogram();
        Ok(())
    }

    #[cold]
    fn recover(&mut self) -> Result<(), SmmuError> {
        self.device.recover()?;
        self.storage.shadow.after_reprogram();
        Ok(())
    }

    /// Checks that every stream is confined by its owner's stage 2.
    ///
    /// # Errors
    /// The first wrong entry, which is a defect of EL2. Nothing is changed.
    pub fn audit(&self) -> Result<(), StrtabFinding> {
        self.storage.shadow.audit()
    }
}

/// Takes records, with the owners of their streams.
trait Records {
    /// Hardware wrote `record` about a stream of `owner`.
    fn record(&mut self, budget: &mut Budget, owner: StreamOwner, record: &FaultRecord);
    /// Hardware dropped records.
    fn lost(&mut self);
}

/// For an SMMU without a host: records are only logged.
struct Discard;

impl Records for Discard {
    fn record(&mut self, _: &mut Budget, _: StreamOwner, _: &FaultRecord) {}
    fn lost(&mut self) {}
}

/// Logs each record and passes it to `sink`.
struct Logged<'a, B, R> {
    log: &'a mut FaultLog,
    shadow: &'a ShadowTable<B>,
    sink: &'a mut R,
}

impl<B: DmaBuffer, R: Records> Sink for Logged<'_, B, R> {
    fn record(&mut self, budget: &mut Budget, record: &FaultRecord) {
        let owner = self.shadow.owner(record.sid);
        self.log.add(owner, record);
        self.sink.record(budget, owner, record);
    }
    fn lost(&mut self) {
        self.sink.lost();
    }
}
