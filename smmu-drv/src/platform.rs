//! The driver's environment: all access to hardware, EL2 memory and host memory is made through these traits.
//!
//! The crate has no pointers to hardware or memory. Registers are offsets, memory of EL2 is a [`DmaBuffer`], memory of
//! the host is a claim: pages that the host owns and whose owner cannot change while they are claimed.

use core::ops::DerefMut;

pub use host_access::memory::{ClaimError, DmaBuffer, HostMemory, Sharing};

/// The platform of one SMMU: registers, memory for queues and tables, clock, wired interrupts.
///
/// Registers are device memory (nGnRE or stronger), mapped only for EL2; each access is one load or store of its size.
/// The crate `smmu-conformance` checks the rest of the contract.
pub trait Platform {
    /// Memory of EL2 that the SMMU reads or writes; freed when dropped.
    type Buffer: DmaBuffer + 'static;
    /// The pointer type for the driver's [`Storage`](crate::Storage), which is too large for a stack: `&'static mut T`,
    /// or `Box<T>`.
    type Place<T: 'static>: DerefMut<Target = T>;

    /// Reads the 32-bit register at `offset` (bytes from the base of page 0; page 1 starts at 0x10000).
    fn read32(&self, offset: u32) -> u32;
    /// Writes the 32-bit register at `offset`. Earlier buffer writes are ordered only by [`Platform::dsb`].
    fn write32(&self, offset: u32, value: u32);
    /// Reads the 64-bit register at `offset`.
    fn read64(&self, offset: u32) -> u64;
    /// Writes the 64-bit register at `offset`.
    fn write64(&self, offset: u32, value: u64);
    /// Allocates `size` bytes (a power of two, at least 4096), zeroed and aligned to `size`; `None` when the pool is
    /// empty.
    ///
    /// If the SMMU does not snoop, no line of the memory is dirty in a cache on return: the zeroes are cleaned to the
    /// point of coherency, and that is complete. A dirty line would be written back later, over data that the SMMU
    /// wrote.
    fn alloc(&self, size: usize) -> Option<Self::Buffer>;
    /// Makes all earlier memory accesses of this CPU visible to the SMMU before any later register access, completes
    /// earlier cleans, and orders earlier register reads before later reads of buffers: `DSB SY`.
    fn dsb(&self);
    /// Monotonic time in microseconds. It must advance: every timeout depends on it.
    fn now_us(&self) -> u64;
    /// Called in each round of a bounded wait: other CPUs and the device can make progress.
    fn relax(&self);
    /// Sets the host's wired interrupt for `irq` pending, once.
    fn raise(&self, irq: WiredIrq);
}

/// A wired interrupt of the SMMU, with its name in the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WiredIrq {
    /// `eventq`.
    Eventq,
    /// `gerror`.
    Gerror,
    /// `cmdq-sync`.
    CmdqSync,
}
