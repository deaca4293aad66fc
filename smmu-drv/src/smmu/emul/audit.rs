//! The audit of the virtual SMMU: the claims of the host's queues.

use super::VirtualSmmu;
use super::queue::HostQueue;
use crate::platform::HostMemory;

impl<C> VirtualSmmu<C> {
    /// Checks that the memory of the host's enabled queues is still claimed.
    ///
    /// # Errors
    /// The name of the queue that is not claimed.
    pub(crate) fn audit<H: HostMemory<Claim = C>>(&self, host_mem: &H) -> Result<(), &'static str> {
        for (queue, name) in [(&self.cmdq, "command queue"), (&self.eventq, "event queue")] {
            if let HostQueue::On(_, claim) = queue
                && !host_mem.holds(claim)
            {
                return Err(name);
            }
        }
        Ok(())
    }
}
