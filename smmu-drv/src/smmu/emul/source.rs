//! A walk over the host's table, for callers outside the virtual SMMU: to get checked entries, or to convert records.

use super::VirtualSmmu;
use super::host_eventq::Notify;
use super::strtab::Walk;
use crate::fault::FaultRecord;
use crate::platform::HostMemory;
use crate::smmu::budget::{Budget, Unfinished};
use crate::smmu::ste::Group;

/// Entries of the host's table, with the pages that one walk has claimed.
pub(crate) struct Source<'a, H: HostMemory> {
    host_mem: &'a mut H,
    smmu: &'a mut VirtualSmmu<H::Claim>,
    walk: Walk<H::Claim>,
    notify: Notify,
}

impl<'a, H: HostMemory> Source<'a, H> {
    /// Begins a walk.
    pub(crate) fn new(host_mem: &'a mut H, smmu: &'a mut VirtualSmmu<H::Claim>) -> Self {
        Self { host_mem, smmu, walk: Walk::new(), notify: Notify::Nothing }
    }

    /// Fetches and checks `count` entries from `sid` on; they must be in one group.
    ///
    /// # Errors
    /// The budget is not sufficient.
    pub(crate) fn group(&mut self, budget: &mut Budget, sid: u32, count: usize) -> Result<Group, Unfinished> {
        self.smmu.checked_group(self.host_mem, &mut self.walk, budget, sid, count)
    }

    /// Converts a record of hardware, and writes the result to the host's queue.
    pub(crate) fn record(&mut self, budget: &mut Budget, record: &FaultRecord) {
        if self.smmu.record(self.host_mem, &mut self.walk, budget, record) == Notify::First {
            self.notify = Notify::First;
        }
    }

    /// Counts records that hardware dropped as an overflow of the host's queue.
    pub(crate) fn events_were_lost(&mut self) {
        self.smmu.events_were_lost();
    }

    /// Ends the walk and its claims. Returns whether the host must be notified of the records.
    pub(crate) fn end(self) -> Notify {
        self.smmu.end_walk(self.host_mem, self.walk);
        self.notify
    }
}
