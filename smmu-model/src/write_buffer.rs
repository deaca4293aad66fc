//! Stores of a CPU that no barrier has ordered yet.
//!
//! A store to a queue or a table and a store to a register are two stores to different places: without a barrier between them the SMMU may
//! see the register first. Here it always does, since that is allowed and the worst: what is stored and cleaned stays out of memory until
//! [`WriteBuffer::barrier`].

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::by_address::ByAddress;
use crate::mem::Memory;

/// Buffered accesses to one [`Memory`]. All CPUs of a machine share one: what a CPU has seen of another, its own barrier orders as well.
pub struct WriteBuffer {
    mem: Memory,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// In program order.
    accesses: Vec<Access>,
    /// Newest value of each stored word.
    words: ByAddress<u64>,
    /// Something was loaded since the last barrier.
    loaded: bool,
}

#[derive(Debug)]
enum Access {
    Store(u64, u64),
    Clean(Range<u64>),
}

impl WriteBuffer {
    /// An empty buffer in front of `mem`.
    #[must_use]
    pub fn new(mem: Memory) -> Self {
        Self { mem, pending: Mutex::default() }
    }

    /// The CPU stores an aligned word.
    pub fn write64(&self, pa: u64, value: u64) {
        let mut pending = self.lock();
        pending.accesses.push(Access::Store(pa, value));
        pending.words.insert(pa, value);
    }

    /// The CPU loads an aligned word: its own stores are visible to it at once.
    #[must_use]
    pub fn read64(&self, pa: u64) -> u64 {
        let mut pending = self.lock();
        pending.loaded = true;
        let stored = pending.words.get(&pa).copied();
        stored.unwrap_or_else(|| self.mem.cpu_read64(pa))
    }

    /// The CPU cleans `range` to the point of coherency, after its earlier stores and no sooner than the next barrier.
    pub fn clean(&self, range: Range<u64>) {
        self.lock().accesses.push(Access::Clean(range));
    }

    /// Everything so far reaches memory before anything that follows, as after a DSB.
    pub fn barrier(&self) {
        let mut pending = self.lock();
        pending.words.clear();
        pending.loaded = false;
        for access in pending.accesses.drain(..) {
            match access {
                Access::Store(pa, value) => self.mem.cpu_write64(pa, value),
                Access::Clean(range) => self.mem.clean(range),
            }
        }
    }

    /// Whether a store or a clean waits for a barrier: a register write may then announce what is not there.
    #[must_use]
    pub fn has_stores(&self) -> bool {
        !self.lock().accesses.is_empty()
    }

    /// Whether a load may still be under way: a register write may then give away what is not read yet.
    #[must_use]
    pub fn has_loads(&self) -> bool {
        self.lock().loaded
    }

    /// Forgets what is under way to `range`: the memory gets another owner, who orders that first.
    pub fn discard(&self, range: &Range<u64>) {
        let mut pending = self.lock();
        pending.words.retain(|pa, _| !range.contains(pa));
        pending.accesses.retain(|access| match access {
            Access::Store(pa, _) => !range.contains(pa),
            Access::Clean(cleaned) => !range.contains(&cleaned.start),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{Region, Snoop};

    fn buffer(snoop: Snoop) -> (WriteBuffer, Memory) {
        let mem = Memory::new(snoop);
        mem.add(0, 0x1000, Region::Ram);
        (WriteBuffer::new(mem.clone()), mem)
    }

    #[test]
    fn stores_reach_memory_at_a_barrier_and_their_cpu_at_once() {
        let (buffer, mem) = buffer(Snoop::Coherent);
        buffer.write64(8, 1);
        buffer.write64(8, 2);
        assert_eq!((buffer.read64(8), mem.cpu_read64(8)), (2, 0));
        assert!(buffer.has_stores() && buffer.has_loads());
        buffer.barrier();
        assert!(!buffer.has_stores() && !buffer.has_loads());
        assert_eq!((buffer.read64(8), mem.cpu_read64(8)), (2, 2));
    }

    #[test]
    fn a_clean_keeps_its_place_among_the_stores() {
        let (buffer, mem) = buffer(Snoop::NonCoherent);
        buffer.write64(8, 1);
        buffer.clean(0..64);
        buffer.write64(8, 2);
        buffer.barrier();
        // The device has the store before the clean, the CPU the one after it; dropping the CPU's copy shows the former.
        assert_eq!(mem.cpu_read64(8), 2);
        mem.invalidate(0..64);
        assert_eq!(mem.cpu_read64(8), 1);
    }

    #[test]
    fn what_is_discarded_never_arrives() {
        let (buffer, mem) = buffer(Snoop::Coherent);
        buffer.write64(8, 1);
        buffer.write64(0x48, 1);
        buffer.discard(&(0..0x40));
        buffer.barrier();
        assert_eq!((mem.cpu_read64(8), mem.cpu_read64(0x48)), (0, 1));
    }
}
