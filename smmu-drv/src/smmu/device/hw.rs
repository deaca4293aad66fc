//! Register access with bounded waits: the only place that polls hardware.

use io_pgtable::Pa;

use crate::limits::Timeouts;
use crate::platform::Platform;
use crate::spec::registers::queue_base;
use crate::spec::{mask64, put64, union64};

/// The SMMU did not reach the expected state within its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimedOut;

/// One SMMU's registers, memory and clock.
#[derive(Clone)]
pub(super) struct Hw<P> {
    platform: P,
    timeouts: Timeouts,
}

impl<P: Platform> Hw<P> {
    pub(super) fn new(platform: P, timeouts: Timeouts) -> Self {
        Self { platform, timeouts }
    }

    /// Longest wait for the acknowledgement of a register, in microseconds.
    pub(super) fn register_us(&self) -> u64 {
        u64::from(self.timeouts.register_us)
    }

    /// Longest wait for a CMD_SYNC, in microseconds.
    pub(super) fn sync_us(&self) -> u64 {
        u64::from(self.timeouts.sync_us)
    }

    pub(super) fn platform(&self) -> &P {
        &self.platform
    }

    pub(super) fn read32(&self, offset: u32) -> u32 {
        self.platform.read32(offset)
    }

    pub(super) fn write32(&self, offset: u32, value: u32) {
        self.platform.write32(offset, value);
    }

    pub(super) fn write64(&self, offset: u32, value: u64) {
        self.platform.write64(offset, value);
    }

    /// Orders all earlier accesses before all later ones: stores to a table before the store of a pointer to it, a
    /// read of PROD before reads of the records.
    pub(super) fn dsb(&self) {
        self.platform.dsb();
    }

    /// Writes a register that makes the SMMU access memory, or returns queue slots to it; the only function that does.
    pub(super) fn publish32(&self, offset: u32, value: u32) {
        // Orders accesses to tables, queues and records before the register write.
        self.platform.dsb();
        self.platform.write32(offset, value);
    }

    /// As [`Hw::publish32`], and waits until `ack` reads as `value`.
    pub(super) fn publish_acked(&self, offset: u32, ack: u32, value: u32) -> Result<(), TimedOut> {
        self.publish32(offset, value);
        self.wait(self.register_us(), || self.read32(ack) == value)
    }

    pub(super) fn now_us(&self) -> u64 {
        self.platform.now_us()
    }

    /// Waits until `done` is true; at most `bound_us` microseconds.
    pub(super) fn wait(&self, bound_us: u64, mut done: impl FnMut() -> bool) -> Result<(), TimedOut> {
        let start = self.platform.now_us();
        loop {
            if done() {
                return Ok(());
            }
            if self.platform.now_us().wrapping_sub(start) > bound_us {
                return Err(TimedOut);
            }
            self.platform.relax();
        }
    }

    /// Writes `value` to `offset` and waits until `ack` reads as `value`.
    pub(super) fn write_acked(&self, offset: u32, ack: u32, value: u32) -> Result<(), TimedOut> {
        self.write32(offset, value);
        self.wait(self.register_us(), || self.read32(ack) == value)
    }
}

/// SMMU_CMDQ_BASE or SMMU_EVENTQ_BASE for a queue of 2^`log2` entries at `ring`.
pub(super) fn queue_base(ring: Pa, log2: u32) -> u64 {
    union64([
        ring.0 & mask64(queue_base::ADDR),
        put64(queue_base::LOG2SIZE, u64::from(log2)),
        put64(queue_base::ALLOC, 1),
    ])
}

#[cfg(test)]
mod tests;
