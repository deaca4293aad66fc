//! A CPU's write buffer: its stores become visible to others in any order until a barrier.
//!
//! A store to a queue or a table and a store to a register are two stores to different places: without a barrier
//! between them the SMMU may see the register write first, and any or none of the stores. [`Memory`] keeps the pending
//! stores, and every walk of the model considers all legal subsets; a command is fetched with its old content, which is
//! the legal worst case. This module reports whether a store is pending at a register write.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mem::Memory;

/// Accesses to one [`Memory`]. All CPUs of a machine share one: a barrier also orders stores of other CPUs that it has
/// observed.
pub struct WriteBuffer {
    mem: Memory,
    /// Whether a store or a clean was made since the last barrier.
    stored: AtomicBool,
    /// Whether a load was made since the last barrier.
    loaded: AtomicBool,
}

impl WriteBuffer {
    /// An empty buffer in front of `mem`.
    #[must_use]
    pub fn new(mem: Memory) -> Self {
        Self { mem, stored: AtomicBool::new(false), loaded: AtomicBool::new(false) }
    }

    /// The CPU stores an aligned word.
    pub fn write64(&self, pa: u64, value: u64) {
        self.stored.store(true, Ordering::Relaxed);
        self.mem.store_unordered(pa, value);
    }

    /// The CPU stores `value` to each aligned word of `range`.
    pub fn fill(&self, range: Range<u64>, value: u64) {
        self.stored.store(true, Ordering::Relaxed);
        self.mem.fill_unordered(range, value);
    }

    /// The CPU loads all words of the 4096 bytes at `page`.
    #[must_use]
    pub fn read_page(&self, page: u64) -> [u64; 512] {
        self.loaded.store(true, Ordering::Relaxed);
        self.mem.read_own_page(page)
    }

    /// The CPU loads an aligned word: its own stores are visible to it at once.
    #[must_use]
    pub fn read64(&self, pa: u64) -> u64 {
        self.loaded.store(true, Ordering::Relaxed);
        self.mem.read_own64(pa)
    }

    /// The CPU cleans `range` to the point of coherency, ordered after its earlier stores; it is complete at the next
    /// barrier.
    pub fn clean(&self, range: Range<u64>) {
        self.stored.store(true, Ordering::Relaxed);
        self.mem.clean_unordered(range);
    }

    /// All earlier accesses are complete before any later one, as with a DSB.
    pub fn barrier(&self) {
        self.stored.store(false, Ordering::Relaxed);
        self.loaded.store(false, Ordering::Relaxed);
        self.mem.order();
    }

    /// Whether a store or a clean is not ordered by a barrier yet: the SMMU may read an incomplete entry after a
    /// register write.
    #[must_use]
    pub fn has_stores(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }

    /// Whether a load may still be pending: a register write may then free a queue entry before it is read.
    #[must_use]
    pub fn has_loads(&self) -> bool {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Drops pending stores to `range`: the memory is freed or reused, and its new user must order its own stores
    /// first.
    pub fn discard(&self, range: &Range<u64>) {
        self.mem.discard_unordered(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{Region, Snoop};

    #[test]
    fn a_barrier_ends_pending_accesses() {
        let mem = Memory::new(Snoop::Coherent);
        mem.add(0, 0x1000, Region::Ram);
        let buffer = WriteBuffer::new(mem.clone());
        buffer.write64(8, 2);
        assert_eq!((buffer.read64(8), mem.cpu_read64(8)), (2, 0));
        assert!(buffer.has_stores() && buffer.has_loads());
        buffer.barrier();
        assert!(!buffer.has_stores() && !buffer.has_loads());
        assert_eq!((buffer.read64(8), mem.cpu_read64(8)), (2, 2));
    }
}
