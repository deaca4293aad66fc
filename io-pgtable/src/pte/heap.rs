//! Table memory on the build machine's heap, for tests and benchmarks of this crate and of its users.

// Never part of a hypervisor: an overflow here is a failed test.
#![allow(clippy::arithmetic_side_effects)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::TableMemory;
use crate::Pa;

/// An arena with physical addresses of its own. Clones share it, so that a test can look on while a table owns a clone.
///
/// It counts live tables, can be told to fail allocations, and keeps a second copy of its memory that holds only what was
/// cleaned: what a walker sees that does not snoop.
#[derive(Clone)]
pub struct HeapMemory {
    shared: Arc<Shared>,
}

struct Shared {
    base: u64,
    words: Box<[AtomicU64]>,
    /// What reached the point of coherency.
    poc: Box<[AtomicU64]>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes handed out from the start of the arena so far.
    used: u64,
    free: BTreeMap<usize, Vec<Pa>>,
    live: BTreeMap<u64, usize>,
    fail_after: Option<usize>,
    publishes: u64,
    cleans: u64,
}

const WORD: u64 = 8;

/// Words with a content that no test should find in a table.
fn poisoned(bytes: usize) -> Box<[AtomicU64]> {
    const POISON: u64 = 0xdead_beef_dead_beef;
    let words = std::vec![POISON; bytes / 8].into_boxed_slice();
    // SAFETY: (1) `AtomicU64` has the size, alignment and validity of `u64`; (2) the box is given up for the new one.
    unsafe { Box::from_raw(Box::into_raw(words) as *mut [AtomicU64]) }
}

impl HeapMemory {
    /// An arena of `bytes` bytes whose first byte has the physical address `base`.
    ///
    /// Memory starts with arbitrary content. Blocks are aligned to their size relative to address 0, so `base` should be
    /// a multiple of the largest table (16 granules).
    #[must_use]
    pub fn new(base: Pa, bytes: usize) -> Self {
        let shared = Shared { base: base.0, words: poisoned(bytes), poc: poisoned(bytes), state: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tables that are allocated now.
    #[must_use]
    pub fn live_tables(&self) -> usize {
        self.state().live.len()
    }

    /// Bytes that are allocated now.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.state().live.values().sum()
    }

    /// Lets `n` more allocations succeed and fails every later one; `None` lets all succeed while there is memory.
    pub fn fail_after(&self, n: Option<usize>) {
        self.state().fail_after = n;
    }

    /// Times that [`TableMemory::publish`] was called.
    #[must_use]
    pub fn publishes(&self) -> u64 {
        self.state().publishes
    }

    /// Times that [`TableMemory::clean`] was called.
    #[must_use]
    pub fn cleans(&self) -> u64 {
        self.state().cleans
    }

    /// The word at `pa`, as a snooping walker reads it; `None` outside the arena or unaligned.
    #[must_use]
    pub fn read64(&self, pa: Pa) -> Option<u64> {
        self.index(pa).and_then(|i| self.shared.words.get(i)).map(|word| word.load(Ordering::Acquire))
    }

    /// The word at `pa`, as a walker that does not snoop reads it; `None` outside the arena or unaligned.
    #[must_use]
    pub fn read64_poc(&self, pa: Pa) -> Option<u64> {
        self.index(pa).and_then(|i| self.shared.poc.get(i)).map(|word| word.load(Ordering::Acquire))
    }

    fn index(&self, pa: Pa) -> Option<usize> {
        let offset = pa.0.checked_sub(self.shared.base)?;
        if offset % WORD != 0 {
            return None;
        }
        usize::try_from(offset / WORD).ok()
    }
}

// SAFETY: (1) `alloc` returns ranges inside the arena only, whose words are initialised atomics; (2) the arena is reached
// otherwise through `read64` and `clean` only, which load atomically; (3) the arena never moves.
unsafe impl TableMemory for HeapMemory {
    fn alloc(&self, size: usize) -> Option<Pa> {
        let mut state = self.state();
        match &mut state.fail_after {
            Some(0) => return None,
            Some(n) => *n = n.saturating_sub(1),
            None => {}
        }
        let reused = state.free.get_mut(&size).and_then(Vec::pop);
        let pa = match reused {
            Some(pa) => pa,
            None => {
                let bytes = u64::try_from(size).ok()?;
                let start = self.shared.base.checked_add(state.used)?.checked_next_multiple_of(bytes)?;
                let end = start.checked_add(bytes)?;
                let arena = u64::try_from(self.shared.words.len()).ok()?.checked_mul(WORD)?;
                if end > self.shared.base.checked_add(arena)? {
                    return None;
                }
                state.used = end.checked_sub(self.shared.base)?;
                Pa(start)
            }
        };
        state.live.insert(pa.0, size);
        Some(pa)
    }

    fn free(&self, table: Pa, size: usize) {
        let mut state = self.state();
        let known = state.live.remove(&table.0);
        assert_eq!(known, Some(size), "freed a table that was not allocated: {table}");
        state.free.entry(size).or_default().push(table);
    }

    fn ptr(&self, table: Pa) -> NonNull<u64> {
        let index = self.index(table).unwrap_or(usize::MAX);
        assert!(index < self.shared.words.len(), "no table at {table}");
        // The pointer is derived from the whole slice: a table is more than one word.
        let ptr = self.shared.words.as_ptr().wrapping_add(index).cast_mut().cast::<u64>();
        NonNull::new(ptr).unwrap_or(NonNull::dangling())
    }

    fn clean(&self, ptr: NonNull<u64>, bytes: usize) {
        self.state().cleans += 1;
        let start = self.shared.words.as_ptr().addr();
        let first = (ptr.addr().get() - start) / 8;
        let pairs = self.shared.words.iter().zip(&self.shared.poc).skip(first).take(bytes / 8);
        for (word, poc) in pairs {
            poc.store(word.load(Ordering::Acquire), Ordering::Release);
        }
    }

    fn publish(&self) {
        self.state().publishes += 1;
    }
}
