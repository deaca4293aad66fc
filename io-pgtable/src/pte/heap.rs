//! Table memory on the build machine's heap, for tests and benchmarks of this crate and of its users.

// For tests only: an arithmetic overflow here panics and fails the test.
#![allow(clippy::arithmetic_side_effects)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::TableMemory;
use crate::addr::Pa;

/// An arena with its own physical addresses. Clones share the arena, so that a test can inspect the memory while a
/// table owns a clone.
///
/// It counts live tables, can fail allocations, and has a second copy of its memory with only the cleaned
/// data, as a non-snooping walker sees it.
#[derive(Clone)]
pub struct HeapMemory {
    shared: Arc<Shared>,
}

struct Shared {
    base: u64,
    words: Words,
    /// The values at the point of coherency.
    poc: Words,
    /// By page: whether its pointer was requested since [`HeapMemory::clear_touched`].
    touched: Vec<AtomicBool>,
    state: Mutex<State>,
}

/// A boxed slice that is only ever borrowed word by word: under Miri, borrowing all of it for each access takes
/// minutes.
struct Words {
    first: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: (1) the words are atomics, which any thread may access; (2) they are freed by the one owner, when it is
// dropped.
unsafe impl Send for Words {}
// SAFETY: (1) as above.
unsafe impl Sync for Words {}

// Zero under Miri, so that `vec!` needs no fill loop.
const POISON: u64 = if cfg!(miri) { 0 } else { 0xdead_beef_dead_beef };

impl Words {
    /// Words with a poison value that no test should find in a table.
    fn poisoned(bytes: usize) -> Self {
        let len = bytes / 8;
        let words = std::vec![POISON; len].into_boxed_slice();
        Self { first: NonNull::from(Box::leak(words)).cast(), len }
    }

    fn get(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: (1) the index is inside the slice that was leaked; (2) `AtomicU64` has the layout of `u64`; (3) other
        // accesses are atomic, or made through `TableMemory::ptr` under its contract.
        (index < self.len).then(|| unsafe { &*self.first.as_ptr().add(index) })
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let words = core::ptr::slice_from_raw_parts_mut(self.first.as_ptr().cast::<u64>(), self.len);
        // SAFETY: (1) this is the slice that `poisoned` leaked, with its length and element type; (2) it is freed once.
        drop(unsafe { Box::from_raw(words) });
    }
}

#[derive(Default)]
struct State {
    /// Bytes allocated from the start of the arena so far.
    used: u64,
    free: BTreeMap<usize, Vec<Pa>>,
    live: BTreeMap<u64, usize>,
    fail_after: Option<usize>,
    publishes: u64,
    cleans: u64,
}

const WORD: u64 = 8;
const PAGE: usize = 4096;

impl HeapMemory {
    /// An arena of `bytes` bytes whose first byte has the physical address `base`.
    ///
    /// Memory starts with arbitrary content. Blocks are aligned to their size relative to address 0, so `base` should
    /// be a multiple of the largest table (16 granules).
    #[must_use]
    pub fn new(base: Pa, bytes: usize) -> Self {
        let shared = Shared {
            base: base.0,
            words: Words::poisoned(bytes),
            poc: Words::poisoned(bytes),
            touched: (0..bytes.div_ceil(PAGE)).map(|_| AtomicBool::new(false)).collect(),
            state: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Resets it: no table is allocated and all memory is poisoned. Returns `false` without a reset while clones
    /// exist, since a table may own one.
    #[must_use]
    pub fn reset(&mut self) -> bool {
        let Some(shared) = Arc::get_mut(&mut self.shared) else { return false };
        let state = shared.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let used = usize::try_from(state.used / WORD).unwrap_or(usize::MAX).min(shared.words.len);
        for index in 0..used {
            for word in [shared.words.get(index), shared.poc.get(index)].into_iter().flatten() {
                word.store(POISON, Ordering::Relaxed);
            }
        }
        for touched in &mut shared.touched {
            *touched.get_mut() = false;
        }
        *state = State::default();
        true
    }

    /// Number of bytes from the start that were ever allocated.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Clears the record of touched pages. Call it while no table changes.
    pub fn clear_touched(&self) {
        for touched in &self.shared.touched {
            touched.store(false, Ordering::Relaxed);
        }
    }

    /// The pages of 4096 bytes, by address, that may have been stored to since [`HeapMemory::clear_touched`]: those of
    /// every table whose pointer was requested, and of tables larger than a page.
    #[must_use]
    pub fn touched(&self) -> Vec<Pa> {
        let mut pages = self.shared.touched.iter().zip((self.shared.base..).step_by(PAGE));
        let mut out: Vec<Pa> =
            pages.by_ref().filter(|(page, _)| page.load(Ordering::Relaxed)).map(|(_, pa)| Pa(pa)).collect();
        let large =
            |(pa, size): (&u64, &usize)| (*size > PAGE).then(|| (*pa..).step_by(PAGE).take(size.div_ceil(PAGE)));
        out.extend(self.state().live.iter().filter_map(large).flatten().map(Pa));
        out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of allocated tables.
    #[must_use]
    pub fn live_tables(&self) -> usize {
        self.state().live.len()
    }

    /// Number of allocated bytes.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.state().live.values().sum()
    }

    /// Lets `n` more allocations succeed and fails every later one; with `None` all succeed while there is memory.
    pub fn fail_after(&self, n: Option<usize>) {
        self.state().fail_after = n;
    }

    /// Number of calls of [`TableMemory::publish`].
    #[must_use]
    pub fn publishes(&self) -> u64 {
        self.state().publishes
    }

    /// Number of calls of [`TableMemory::clean`].
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

// SAFETY: (1) `alloc` returns ranges inside the arena only, whose words are initialised atomics; (2) all other
// accesses to the arena are through `read64` and `clean`, which load atomically; (3) the arena never moves.
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
                let arena = u64::try_from(self.shared.words.len).ok()?.checked_mul(WORD)?;
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
        assert!(index < self.shared.words.len, "no table at {table}");
        if let Some(touched) = self.shared.touched.get(index * 8 / PAGE) {
            touched.store(true, Ordering::Relaxed);
        }
        // SAFETY: (1) the index is inside the slice. The pointer is valid for the whole slice, since a table has more
        // than one word.
        unsafe { self.shared.words.first.add(index) }.cast()
    }

    fn clean(&self, ptr: NonNull<u64>, bytes: usize) {
        self.state().cleans += 1;
        let first = (ptr.addr().get() - self.shared.words.first.addr().get()) / 8;
        for index in first..first + bytes / 8 {
            if let (Some(word), Some(poc)) = (self.shared.words.get(index), self.shared.poc.get(index)) {
                poc.store(word.load(Ordering::Acquire), Ordering::Release);
            }
        }
    }

    fn publish(&self) {
        self.state().publishes += 1;
        // A walk that begins later, on another thread after its own fence, sees every earlier store.
        fence(Ordering::SeqCst);
        #[cfg(test)]
        super::observer::notify(super::observer::Event::Published);
    }
}
