//! Changes of a stream's owner, on an SMMU with or without a host: first to nobody, then to the new owner.
//!
//! In between the caller stops the device: transactions that have not reached the SMMU yet would be handled as those of
//! the new owner [S 4.7.2.1]. Records about a stream are taken before its owner changes, so that each record gets the
//! owner at its time.

use super::budget::{self, Unfinished};
use super::shadow::assign::{AssignError, RetireError};
use super::shadow::owners::{StreamOwner, StreamRange};
use super::stream::{Cursor, SPLIT, next_block};
use super::{HostedSmmu, Smmu};
use crate::error::SmmuError;
use crate::platform::{HostMemory, Platform};
use crate::stage2::{Stage2Cfg, Stage2Words};

/// Number of drains, each with a full budget, that is sufficient for a full queue.
const MAX_DRAINS: u32 = budget::MOST_EVENTS;

impl<P: Platform> Smmu<P> {
    /// The owner of a stream according to EL2. A failed SMMU may still use an earlier configuration.
    pub fn owner(&self, sid: u32) -> StreamOwner {
        self.storage.shadow.owner(sid)
    }

    /// Takes streams from their owner and gives them to nobody: when this returns they abort, and no earlier
    /// transaction is in progress in the SMMU. Transactions that are still in the device abort too; stop the device
    /// before the streams are assigned.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn block(&mut self, streams: StreamRange) -> Result<(), AssignError> {
        if self.storage.shadow.is_blocked(streams)? {
            return Ok(());
        }
        self.abort_streams(streams)?;
        self.device.mark_records();
        for _ in 0..MAX_DRAINS {
            self.poll_faults();
            if self.device.is_past_mark() {
                break;
            }
        }
        self.take_streams(streams)
    }

    /// Assigns streams that nobody owns to the domain with the VMID and the stage 2 of `domain`: they reach the memory
    /// that it maps when this returns.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn assign(&mut self, streams: StreamRange, domain: &Stage2Cfg) -> Result<(), AssignError> {
        domain.check(self.device.features()).map_err(AssignError::BadStage2)?;
        self.check_alive()?;
        self.storage.shadow.assign(&mut self.device, streams, domain.vmid, Stage2Words::new(domain))?;
        Ok(self.check_alive()?)
    }

    /// Invalidates everything of a domain without streams. After this call on every SMMU, its VMID can be used with
    /// another stage 2. An SMMU on which the domain had no streams is not accessed.
    ///
    /// # Errors
    /// See [`RetireError`].
    pub fn retire(&mut self, vmid: u16) -> Result<(), RetireError> {
        if !self.storage.shadow.has_domain(vmid) {
            return Ok(());
        }
        self.check_alive()?;
        self.storage.shadow.retire(&mut self.device, vmid)
    }

    fn abort_streams(&mut self, streams: StreamRange) -> Result<(), AssignError> {
        self.check_alive()?;
        self.storage.shadow.abort(&mut self.device, streams)
    }

    fn take_streams(&mut self, streams: StreamRange) -> Result<(), AssignError> {
        self.storage.shadow.take(&mut self.device, streams)?;
        Ok(self.storage.shadow.share_blocked(&mut self.device, streams)?)
    }
}

impl<P: Platform, H: HostMemory> HostedSmmu<P, H> {
    /// See [`Smmu::owner`].
    pub fn owner(&self, sid: u32) -> StreamOwner {
        self.smmu.owner(sid)
    }

    /// See [`Smmu::block`]. From now on the host's entries and commands for the streams have no effect. The host gets
    /// all records of the streams up to this call.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn block(&mut self, host_mem: &mut H, streams: StreamRange) -> Result<(), AssignError> {
        if self.smmu.storage.shadow.is_blocked(streams)? {
            return Ok(());
        }
        let aborted = self.smmu.abort_streams(streams);
        self.reported(aborted)?;
        self.smmu.device.mark_records();
        for _ in 0..MAX_DRAINS {
            self.poll_events(host_mem);
            if self.smmu.device.is_past_mark() {
                break;
            }
        }
        let taken = self.smmu.take_streams(streams);
        self.reported(taken)
    }

    /// See [`Smmu::assign`].
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn assign(&mut self, streams: StreamRange, domain: &Stage2Cfg) -> Result<(), AssignError> {
        if domain.vmid == self.vmid() {
            return Err(AssignError::VmidInUse);
        }
        let assigned = self.smmu.assign(streams, domain);
        self.reported(assigned)
    }

    /// Gives streams that nobody owns to the host: when this returns, its entries for them, or its configuration for
    /// all streams, are in effect.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn release(&mut self, host_mem: &mut H, streams: StreamRange) -> Result<(), AssignError> {
        self.check_alive()?;
        let released = self.smmu.storage.shadow.release(&mut self.smmu.device, streams);
        self.reported(released)?;
        let entered = self.enter_streams(host_mem, streams);
        Ok(self.reported(entered)?)
    }

    /// See [`Smmu::retire`].
    ///
    /// # Errors
    /// See [`RetireError`]; the VMID of the host is always in use.
    pub fn retire(&mut self, vmid: u16) -> Result<(), RetireError> {
        if vmid == self.vmid() {
            return Err(RetireError::InUse);
        }
        let retired = self.smmu.retire(vmid);
        self.reported(retired)
    }

    /// Refreshes the shadow entries of the blocks of `streams` from the host's table.
    fn enter_streams(&mut self, host_mem: &mut H, streams: StreamRange) -> Result<(), SmmuError> {
        let mode = self.vsmmu.mode();
        let mut cursor = Cursor::at(u64::from(streams.first() >> SPLIT << SPLIT));
        let end = next_block(streams.last() >> SPLIT);
        // Each iteration has a full budget, which is sufficient for any step, so the loop ends.
        loop {
            self.budget = self.smmu.full_budget;
            let done = self.set_streams(host_mem, mode, &mut cursor, end);
            match done.and_then(|()| self.smmu.storage.shadow.finish(&mut self.smmu.device, &mut self.budget)) {
                Ok(()) => return Ok(()),
                Err(Unfinished::Budget) => {}
                Err(Unfinished::Failed(error)) => return Err(error),
            }
        }
    }
}
