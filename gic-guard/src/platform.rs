//! The guard's environment: it accesses hardware and EL2's memory only through these traits.

use host_access::memory::DmaBuffer;

/// A frame of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The control frame of an ITS and the frames after it, by number.
    Its(usize),
    /// The frames of a redistributor, by number: RD, SGI, and VLPI if there is one.
    Rd(usize),
}

/// The platform of a GIC: registers, memory for tables and queues, clock.
pub trait Platform {
    /// Memory of EL2 that the GIC reads or writes; freed when dropped.
    type Buffer: DmaBuffer;

    /// Reads the 32-bit register at `offset` bytes in `frame`.
    fn read32(&self, frame: Frame, offset: u32) -> u32;
    /// Writes the 32-bit register at `offset`. Earlier buffer writes are ordered only by [`Platform::dsb`].
    fn write32(&self, frame: Frame, offset: u32, value: u32);
    /// Reads the 64-bit register at `offset`.
    fn read64(&self, frame: Frame, offset: u32) -> u64;
    /// Writes the 64-bit register at `offset`.
    fn write64(&self, frame: Frame, offset: u32, value: u64);
    /// Whether a GIC that accepts shareable, cacheable accesses to its tables snoops: false where it is known not to.
    fn snoops(&self) -> bool {
        true
    }
    /// Allocates `size` bytes (a power of two, at least 4096), zeroed, also at the point of coherency, and aligned to
    /// `size`; `None` when the pool is empty.
    fn alloc(&self, size: usize) -> Option<Self::Buffer>;
    /// Makes all earlier memory accesses of this CPU visible to the GIC before any later register access.
    fn dsb(&self);
    /// Monotonic time in microseconds.
    fn now_us(&self) -> u64;
    /// Called in a bounded wait, so that other CPUs and the device make progress.
    fn relax(&self);
}
