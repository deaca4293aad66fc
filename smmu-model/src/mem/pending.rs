//! Stores of a CPU that no barrier has ordered yet: an observer may see any subset of them.
//!
//! A store may be visible when it is executed and must be visible after the next barrier. Between the two every
//! observer may read the old or the new value, independently for each word. A non-snooping observer may also see a
//! store early, since a line can be written back at any time; it must see it only after a clean of the line and a
//! barrier. Stores to one word are seen in their order.
//!
//! So a word has several values at a time. [`Memory::versions`] returns all of them, each with the time during which it
//! could be read, and code that combines words tries all combinations: the search over the legal subsets is exhaustive.

use super::page::{BarrierEffect, index_of};
use super::{Inner, Memory, PAGE, Region, Snoop};
use std::ops::Range;

/// Minimum number of bytes that a clean covers.
const LINE: u64 = 64;

impl Memory {
    /// A CPU stores the aligned word at `pa`, without a barrier; ignored outside RAM.
    pub fn store_unordered(&self, pa: u64, value: u64) {
        self.lock().store_unordered(pa & !7, value);
    }

    /// The same for each aligned word of `range`, in their order.
    pub fn fill_unordered(&self, range: Range<u64>, value: u64) {
        let mut m = self.lock();
        let mut word = range.start & !7;
        while word < range.end {
            if value == 0 && word.is_multiple_of(PAGE) && m.cpu_view().get(word).is_none() {
                // A page that was never written is zero.
                word += PAGE;
                continue;
            }
            m.store_unordered(word, value);
            word += 8;
        }
    }

    /// The word at `pa` as read by the CPU that made the unordered stores.
    #[must_use]
    pub fn read_own64(&self, pa: u64) -> u64 {
        self.lock().newest(pa & !7)
    }

    /// The same for all words of the 4096 bytes at `page`.
    #[must_use]
    pub fn read_own_page(&self, page: u64) -> [u64; 512] {
        let m = self.lock();
        let mut words = m.cpu_view().get(page).map_or([0; 512], |page| *page.words());
        for &word in m.pending.iter().filter(|word| **word / PAGE == page / PAGE) {
            if let Some(at) = words.get_mut(index_of(word)) {
                *at = m.newest(word);
            }
        }
        words
    }

    /// A CPU cleans `range` to the point of coherency: the clean is complete at the next barrier.
    pub fn clean_unordered(&self, range: Range<u64>) {
        let mut guard = self.lock();
        let m = &mut *guard;
        if m.snoop == Snoop::Coherent {
            return;
        }
        let lines = range.start & !(LINE - 1)..range.end.next_multiple_of(LINE);
        for &word in m.pending.iter().filter(|word| lines.contains(*word)) {
            if let Some(page) = m.poc.get_mut(word) {
                page.clean(index_of(word));
            }
        }
    }

    /// A barrier: earlier stores (for non-snooping observers: cleaned stores) are visible to all from here on.
    pub fn order(&self) {
        let mut m = self.lock();
        if m.pending.is_empty() {
            return;
        }
        m.now += 1;
        let ends = if m.snoop == Snoop::Coherent { BarrierEffect::All } else { BarrierEffect::Cleaned };
        m.apply_barrier(ends, |_| true);
    }

    /// Drops pending stores to `range`. For memory that is freed or reused: the model does not check the order of its
    /// last stores.
    pub fn discard_unordered(&self, range: &Range<u64>) {
        let mut m = self.lock();
        m.now += 1;
        m.apply_barrier(BarrierEffect::Discarded, |word| range.contains(&word));
    }
}

impl Inner {
    fn store_unordered(&mut self, word: u64, value: u64) {
        let index = index_of(word);
        // Only RAM has pages.
        let page = self.poc.get(word);
        if page.is_none() && self.region(word) != Some(Region::Ram) {
            return;
        }
        let pending = page.filter(|_| !self.pending.is_empty()).and_then(|page| page.pending(index));
        let newest = match pending {
            Some(value) => value,
            None if self.snoop == Snoop::Coherent => page.map_or(0, |page| page.word(index)),
            None => self.cpu_get(word),
        };
        if newest == value {
            return;
        }
        if pending.is_none() {
            self.pending.push(word);
        }
        self.now += 1;
        self.stamp += 1;
        if let Some(page) = self.poc.change(word, self.stamp) {
            page.store(index, value, self.now);
        }
        if self.snoop == Snoop::NonCoherent {
            self.cpu_store(word, value);
        }
    }

    /// The value of the last store to `word`, visible to other observers or not.
    fn newest(&self, word: u64) -> u64 {
        let page = self.poc.get(word).filter(|_| !self.pending.is_empty());
        page.and_then(|page| page.pending(index_of(word))).unwrap_or_else(|| self.cpu_get(word))
    }

    /// Orders or drops the pending stores to some words.
    fn apply_barrier(&mut self, ends: BarrierEffect, which: impl Fn(u64) -> bool) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|word| {
            if !which(*word) {
                return true;
            }
            self.stamp += 1;
            let page = self.poc.change(*word, self.stamp);
            page.is_some_and(|page| page.apply_barrier(index_of(*word), ends, self.now))
        });
        self.pending = pending;
    }

    /// Asserts that `word` has no pending store, because a device writes to it or an ordered store changes it: the
    /// pending store would overwrite the new value later.
    pub(super) fn assert_no_pending_store(&self, word: u64) {
        let pending = !self.pending.is_empty() && self.pending.contains(&word);
        assert!(!pending, "a device writes to {word:#x}, which a CPU has stored to without a clean or a barrier since");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::*;

    fn ram(snoop: Snoop) -> Memory {
        let mem = Memory::new(snoop);
        mem.add(0, 0x1000, Region::Ram);
        mem
    }

    /// The values that can be read at `pa` now.
    fn values(mem: &Memory, pa: u64) -> Vec<u64> {
        let Ok(all) = mem.versions(pa, 0) else { panic!("RAM") };
        all.iter().filter(|version| version.end.is_none()).map(|version| version.value).collect()
    }

    #[test]
    fn a_store_may_be_visible_immediately_and_must_be_after_a_barrier() {
        let mem = ram(Snoop::Coherent);
        mem.store_unordered(8, 1);
        mem.store_unordered(8, 2);
        assert_eq!((values(&mem, 8), mem.read_own64(8), mem.dev_read64(8)), (vec![0, 1, 2], 2, Ok(0)));
        mem.order();
        assert_eq!((values(&mem, 8), mem.dev_read64(8)), (vec![2], Ok(2)));
    }

    #[test]
    fn values_read_out_of_order_stay_cached() {
        let mem = ram(Snoop::Coherent);
        mem.store_unordered(8, 1);
        mem.store_unordered(16, 1);
        mem.order();
        let overlap =
            |a: &Version, b: &Version| a.end.is_none_or(|end| b.start < end) && b.end.is_none_or(|end| a.start < end);
        let (Ok(first), Ok(second)) = (mem.versions(8, 0), mem.versions(16, 0)) else { panic!("RAM") };
        for (a, b) in [(0, 1), (1, 0), (1, 1), (0, 0)] {
            let at_once = first.iter().any(|x| x.value == a && second.iter().any(|y| y.value == b && overlap(x, y)));
            assert!(at_once, "{a} with {b}");
        }
        let who = mem.attach();
        mem.drop_history(who, mem.now());
        assert_eq!(mem.versions(8, 0).map(|all| all.len()), Ok(1));
    }

    #[test]
    fn without_snooping_a_clean_is_needed_before_the_barrier() {
        let mem = ram(Snoop::NonCoherent);
        mem.store_unordered(8, 1);
        mem.order();
        assert_eq!(values(&mem, 8), [0, 1], "the line may be written back or not");
        mem.clean_unordered(0..8);
        mem.store_unordered(8, 2);
        assert_eq!(values(&mem, 8), [0, 1, 2]);
        mem.order();
        assert_eq!((values(&mem, 8), mem.read_own64(8)), (vec![1, 2], 2));
        mem.clean_unordered(8..16);
        mem.order();
        assert_eq!(values(&mem, 8), [2]);
    }

    #[test]
    fn discarded_stores_do_not_become_visible() {
        let mem = ram(Snoop::Coherent);
        mem.store_unordered(8, 1);
        mem.store_unordered(0x48, 1);
        mem.discard_unordered(&(0..0x40));
        mem.order();
        assert_eq!((values(&mem, 8), values(&mem, 0x48)), (vec![0], vec![1]));
    }

    #[test]
    #[should_panic(expected = "without a clean or a barrier")]
    fn a_device_does_not_write_where_a_line_can_be_written_back() {
        let mem = ram(Snoop::NonCoherent);
        mem.store_unordered(8, 1);
        mem.order();
        let _ = mem.dev_write(8, &[1]);
    }
}
