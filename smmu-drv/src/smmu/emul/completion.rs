//! Completion of the host's CMD_SYNCs: by a store of EL2 in place of hardware's MSI, by the wired interrupt, and by CMDQ_CONS.

use arrayvec::ArrayVec;
use io_pgtable::Ipa;

use super::VirtualSmmu;
use super::command::Signal;
use super::queue::HostQueue;
use crate::platform::{HostMemory, Sharing, WiredIrq};
use crate::smmu::budget;
use crate::spec::registers::{gerror::Gerror, queue_index};
use crate::spec::{mask32, replace32};
use crate::stats::bump;

/// Maximum number of CMD_SYNCs of the host that complete together.
const MAX_SIGNALS: usize = 16;

/// CMD_SYNCs of the current batch whose completion is not signalled yet.
pub(super) type Signals = ArrayVec<Signal, MAX_SIGNALS>;

impl<C> VirtualSmmu<C> {
    /// Charge of the store of a completion: a page, unless the address is in the queue, which is already claimed.
    #[inline]
    pub(super) fn store_cost(&self, signal: Signal) -> u32 {
        match signal {
            Signal::None | Signal::Wired => 0,
            Signal::Msi { address, .. } => {
                let inside = self.cmdq.geometry().and_then(|geometry| geometry.offset_of(address & self.oas_mask));
                if inside.is_some() { 0 } else { budget::PAGE }
            }
        }
    }

    /// Whether completions must be signalled, for which hardware must first complete a CMD_SYNC.
    #[inline]
    pub(crate) fn has_signals(&self) -> bool {
        !self.signals.is_empty()
    }

    /// Signals the completions, and updates CONS.
    #[inline]
    pub(crate) fn complete<H: HostMemory<Claim = C>>(&mut self, host_mem: &mut H) {
        let mut n = 0_usize;
        while let Some(signal) = self.signals.get(n).copied() {
            if signal != Signal::None {
                self.interrupts.add(WiredIrq::CmdqSync);
            }
            self.signal(host_mem, signal);
            n = n.wrapping_add(1);
        }
        self.signals.clear();
        self.regs.cmdq_cons = replace32(self.regs.cmdq_cons, mask32(queue_index::INDEX), self.head);
    }

    fn signal<H: HostMemory<Claim = C>>(&mut self, host_mem: &mut H, signal: Signal) {
        match signal {
            Signal::None | Signal::Wired => {}
            Signal::Msi { address, data } => {
                // Truncated to OAS [S 3.4.3]. The store is to claimed host memory, or is not done.
                if self.msi_write(host_mem, address & self.oas_mask, data).is_some() {
                    bump(&mut self.stats.msi_writes);
                } else {
                    bump(&mut self.stats.msi_denied);
                    self.raise_gerror(Gerror::MSI_CMDQ_ABT_ERR);
                }
            }
        }
    }

    fn msi_write<H: HostMemory<Claim = C>>(&mut self, host_mem: &mut H, address: u64, data: u32) -> Option<()> {
        // The usual target is the queue itself, which is already claimed.
        if let HostQueue::On(geometry, claim) = &self.cmdq
            && let Some(offset) = geometry.offset_of(address)
        {
            return host_mem.write32(claim, offset, data);
        }
        // Cleaned, so that it is visible to cacheable and to non-cacheable reads.
        let claim = host_mem.claim(Ipa(address), 4, Sharing::Memory).ok()?;
        let written = host_mem.write32(&claim, 0, data);
        host_mem.release(claim);
        written
    }
}
