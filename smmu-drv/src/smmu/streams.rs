//! Streams change their owner, on an SMMU with a host and on one without.
//!
//! First they are taken: they abort, and nothing of their old owner is in progress. Then the records that hardware wrote about them
//! up to there are taken, so that none is shown to the new owner. Then they are given.

use super::budget::{self, Budget, Unfinished};
use super::shadow::assign::{AssignError, NewOwner, RetireError};
use super::shadow::owners::{StreamOwner, StreamRange};
use super::stream::{Cursor, SPLIT, next_block};
use super::{HostedSmmu, Smmu};
use crate::error::SmmuError;
use crate::platform::{HostMemory, Platform};
use crate::stage2::{Stage2Cfg, Stage2Words};

/// Drains that suffice for the records of one queue, each with a full budget.
const MAX_DRAINS: u32 = budget::MOST_EVENTS;

impl<P: Platform> Smmu<P> {
    /// The owner of a stream.
    pub fn owner(&self, sid: u32) -> StreamOwner {
        self.shadow.owner(sid)
    }

    /// Assigns streams to the domain with the VMID and the stage 2 of `domain`. When this returns no transaction of their old owner
    /// is in progress, and theirs reach what `domain` maps.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn assign(&mut self, streams: StreamRange, domain: &Stage2Cfg) -> Result<(), AssignError> {
        let next = self.domain(domain)?;
        self.take_streams(streams, Some(next))?;
        self.shadow.give(&mut self.device, streams, next)
    }

    /// Takes streams from their owner and gives them to nobody: they abort when this returns, and no transaction of their old owner
    /// is in progress.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn block(&mut self, streams: StreamRange) -> Result<(), AssignError> {
        self.take_streams(streams, None)?;
        Ok(self.shadow.share_blocked(&mut self.device, streams)?)
    }

    /// Invalidates everything of a domain without streams. When every SMMU has done so its VMID can have another stage 2.
    ///
    /// # Errors
    /// See [`RetireError`].
    pub fn retire(&mut self, vmid: u16) -> Result<(), RetireError> {
        self.check_alive()?;
        self.shadow.retire(&mut self.device, vmid)
    }

    pub(super) fn domain(&self, domain: &Stage2Cfg) -> Result<NewOwner, AssignError> {
        domain.check(self.device.features()).map_err(AssignError::BadStage2)?;
        Ok(NewOwner::Domain(domain.vmid, Stage2Words::new(domain)))
    }

    fn take(&mut self, streams: StreamRange, next: Option<NewOwner>) -> Result<(), AssignError> {
        self.check_alive()?;
        self.shadow.take(&mut self.device, streams, next)
    }

    fn take_streams(&mut self, streams: StreamRange, next: Option<NewOwner>) -> Result<(), AssignError> {
        self.take(streams, next)?;
        self.device.mark_records();
        for _ in 0..MAX_DRAINS {
            self.poll_faults();
            if self.device.is_past_mark() {
                break;
            }
        }
        Ok(())
    }
}

impl<P: Platform, H: HostMemory> HostedSmmu<P, H> {
    /// The owner of a stream.
    pub fn owner(&self, sid: u32) -> StreamOwner {
        self.smmu.owner(sid)
    }

    /// See [`Smmu::assign`]. The host's entry for the streams has no effect from now on, and neither have its commands.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn assign(&mut self, host_mem: &mut H, streams: StreamRange, domain: &Stage2Cfg) -> Result<(), AssignError> {
        if domain.vmid == self.vmid() {
            return Err(AssignError::VmidInUse);
        }
        let next = self.smmu.domain(domain)?;
        self.take_streams(host_mem, streams, Some(next))?;
        let given = self.smmu.shadow.give(&mut self.smmu.device, streams, next);
        self.reported(given)
    }

    /// See [`Smmu::block`].
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn block(&mut self, host_mem: &mut H, streams: StreamRange) -> Result<(), AssignError> {
        self.take_streams(host_mem, streams, None)?;
        let shared = self.smmu.shadow.share_blocked(&mut self.smmu.device, streams);
        Ok(self.reported(shared)?)
    }

    /// Gives streams to the host: its entries for them, or what it has set for all streams, are in force when this returns.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn release(&mut self, host_mem: &mut H, streams: StreamRange) -> Result<(), AssignError> {
        self.take_streams(host_mem, streams, Some(NewOwner::Host))?;
        self.smmu.shadow.give(&mut self.smmu.device, streams, NewOwner::Host)?;
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

    /// Records of before are the host's if the streams are. Those that hardware writes while the streams are taken are nobody's.
    fn take_streams(
        &mut self,
        host_mem: &mut H,
        streams: StreamRange,
        next: Option<NewOwner>,
    ) -> Result<(), AssignError> {
        self.poll_events(host_mem);
        let taken = self.smmu.take(streams, next);
        self.reported(taken)?;
        self.smmu.device.mark_records();
        for _ in 0..MAX_DRAINS {
            self.poll_events(host_mem);
            if self.smmu.device.is_past_mark() {
                break;
            }
        }
        Ok(())
    }

    /// Enters what the host has for the blocks of `streams`.
    fn enter_streams(&mut self, host_mem: &mut H, streams: StreamRange) -> Result<(), SmmuError> {
        let mode = self.vsmmu.mode();
        let mut cursor = Cursor::at(u64::from(streams.first() >> SPLIT << SPLIT));
        let end = next_block(streams.last() >> SPLIT);
        // Each round begins with a full budget, which any step fits in: it ends.
        loop {
            self.budget = Budget::for_one_trap();
            let done = self.set_streams(host_mem, mode, &mut cursor, end);
            match done.and_then(|()| self.smmu.shadow.finish(&mut self.smmu.device, &mut self.budget)) {
                Ok(()) => return Ok(()),
                Err(Unfinished::Budget) => {}
                Err(Unfinished::Failed(error)) => return Err(error),
            }
        }
    }
}
