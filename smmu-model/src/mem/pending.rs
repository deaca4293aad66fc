//! Stores of a CPU that no barrier has ordered yet: an observer may see any subset of them.
//!
//! A store may be visible from the moment of its execution and is so for certain after the next barrier; in between every
//! observer may read the word as before or as stored, whatever it reads of other words. An observer that does not snoop
//! may see a store as early, since a line can be written back at any time, but for certain only when the line was cleaned
//! after the store, and a barrier followed. Stores to one word are seen in their order.
//!
//! So a word has several values at a time. [`Memory::versions`] returns all of them, each with the time during which it
//! could be read, and whoever combines words tries all combinations: the search over the legal subsets is exhaustive.

use std::ops::Range;

use super::{Inner, Memory, Region, Snoop, Time, Version};
use crate::by_address::ByAddress;

/// Bytes that a clean covers at least.
const LINE: u64 = 64;

/// What is under way, and what was.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// By word, oldest first.
    stores: ByAddress<Vec<Store>>,
    /// What could be read of words before the barrier that made it certain.
    early: ByAddress<Vec<Version>>,
}

#[derive(Clone, Copy, Debug)]
struct Store {
    value: u64,
    since: Time,
    cleaned: bool,
}

impl Memory {
    /// A CPU stores the aligned word at `pa`, without a barrier; ignored where no RAM is.
    pub fn store_unordered(&self, pa: u64, value: u64) {
        let mut m = self.lock();
        let word = pa & !7;
        if m.region(word) != Some(Region::Ram) || m.newest(word) == value {
            return;
        }
        m.now += 1;
        let since = m.now;
        m.touch(word);
        m.pending.stores.entry(word).or_default().push(Store { value, since, cleaned: false });
        if m.snoop == Snoop::NonCoherent {
            m.cpu_store(word, value);
        }
    }

    /// The word at `pa` as the CPU reads it that made the unordered stores.
    #[must_use]
    pub fn read_own64(&self, pa: u64) -> u64 {
        self.lock().newest(pa & !7)
    }

    /// A CPU cleans `range` to the point of coherency: complete at the next barrier.
    pub fn clean_unordered(&self, range: Range<u64>) {
        let mut m = self.lock();
        for word in words_of_lines(range) {
            for store in m.pending.stores.get_mut(&word).into_iter().flatten() {
                store.cleaned = true;
            }
        }
    }

    /// A barrier: what was stored, and cleaned where observers do not snoop, is what everybody reads from here on.
    pub fn order(&self) {
        let mut m = self.lock();
        if m.pending.stores.is_empty() {
            return;
        }
        m.now += 1;
        let words: Vec<u64> = m.pending.stores.keys().copied().collect();
        for word in words {
            m.settle(word);
        }
    }

    /// Forgets what is under way to `range`: the memory gets another owner, who orders that first.
    pub fn discard_unordered(&self, range: &Range<u64>) {
        let mut m = self.lock();
        m.now += 1;
        let words: Vec<u64> = m.pending.stores.keys().copied().filter(|word| range.contains(word)).collect();
        for word in words {
            let stores = m.pending.stores.remove(&word).unwrap_or_default();
            m.were_readable(word, &stores);
        }
    }
}

impl Inner {
    /// What the last store to `word` left, whether others see it or not.
    fn newest(&self, word: u64) -> u64 {
        let last = self.pending.stores.get(&word).and_then(|stores| stores.last());
        last.map_or_else(|| self.cpu_get(word), |store| store.value)
    }

    /// Makes the stores to `word` certain that a barrier now makes so.
    fn settle(&mut self, word: u64) {
        let Some(mut stores) = self.pending.stores.remove(&word) else { return };
        let certain = match self.snoop {
            Snoop::Coherent => stores.len(),
            Snoop::NonCoherent => stores.iter().rposition(|store| store.cleaned).map_or(0, |last| last + 1),
        };
        let left = stores.split_off(certain);
        if !left.is_empty() {
            self.pending.stores.insert(word, left);
        }
        if let Some(last) = stores.last() {
            self.were_readable(word, &stores);
            self.poc_set_at(word, last.value, self.now);
        }
    }

    /// These stores could be seen until now, out of order.
    fn were_readable(&mut self, word: u64, stores: &[Store]) {
        self.touch(word);
        let end = Some(self.now);
        let seen = stores.iter().map(|store| Version { value: store.value, start: store.since, end });
        self.pending.early.entry(word).or_default().extend(seen);
    }

    /// A device writes to `word`, or an earlier kind of store makes it certain: what is under way there would be written
    /// back over that.
    pub(super) fn assert_settled(&self, word: u64) {
        let pending = self.pending.stores.contains_key(&word);
        assert!(!pending, "a device writes to {word:#x}, which a CPU has stored to without a clean or a barrier since");
    }

    /// The values of `word` beside those that it had for certain, as far as they could be read after `from`.
    pub(super) fn add_unordered(&self, word: u64, from: Time, out: &mut Vec<Version>) {
        if self.pending.stores.is_empty() && self.pending.early.is_empty() {
            return;
        }
        let certain = out.len();
        let early = self.pending.early.get(&word).into_iter().flatten();
        for version in early.filter(|version| version.end.is_none_or(|end| end > from)) {
            // What became certain then and there is one version, from when it could first be read.
            let made_certain = |known: &&mut Version| known.value == version.value && Some(known.start) == version.end;
            match out.iter_mut().take(certain).find(made_certain) {
                Some(known) => known.start = known.start.min(version.start),
                None => out.push(*version),
            }
        }
        let stores = self.pending.stores.get(&word).into_iter().flatten();
        out.extend(stores.map(|store| Version { value: store.value, start: store.since, end: None }));
        if out.len() > certain {
            // Those that are over first, by their time; the others as they are.
            out.sort_by_key(|version| version.end.map_or(Time::MAX, |_| version.start));
        }
    }

    /// Nobody can have anything cached from before `before`.
    pub(super) fn forget_early(&mut self, before: Time) {
        self.pending.early.retain(|_, versions| {
            versions.retain(|version| version.end.is_none_or(|end| end > before));
            !versions.is_empty()
        });
        let words: Vec<u64> = self.pending.stores.keys().chain(self.pending.early.keys()).copied().collect();
        words.into_iter().for_each(|word| self.touch(word));
    }
}

fn words_of_lines(range: Range<u64>) -> impl Iterator<Item = u64> {
    (range.start & !(LINE - 1)..range.end).step_by(8).chain((range.end..range.end.next_multiple_of(LINE)).step_by(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(snoop: Snoop) -> Memory {
        let mem = Memory::new(snoop);
        mem.add(0, 0x1000, Region::Ram);
        mem
    }

    /// What can be read at `pa` now.
    fn values(mem: &Memory, pa: u64) -> Vec<u64> {
        let Ok(all) = mem.versions(pa, 0) else { panic!("RAM") };
        all.iter().filter(|version| version.end.is_none()).map(|version| version.value).collect()
    }

    #[test]
    fn a_store_may_be_seen_at_once_and_is_seen_after_a_barrier() {
        let mem = ram(Snoop::Coherent);
        mem.store_unordered(8, 1);
        mem.store_unordered(8, 2);
        assert_eq!((values(&mem, 8), mem.read_own64(8), mem.dev_read64(8)), (vec![0, 1, 2], 2, Ok(0)));
        mem.order();
        assert_eq!((values(&mem, 8), mem.dev_read64(8)), (vec![2], Ok(2)));
    }

    #[test]
    fn what_was_read_out_of_order_is_remembered() {
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
        mem.forget(who, mem.now());
        assert_eq!(mem.versions(8, 0).map(|all| all.len()), Ok(1));
    }

    #[test]
    fn without_snooping_a_clean_comes_between_the_store_and_the_barrier() {
        let mem = ram(Snoop::NonCoherent);
        mem.store_unordered(8, 1);
        mem.order();
        assert_eq!(values(&mem, 8), [0, 1], "written back or not");
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
    fn what_is_discarded_does_not_come_back() {
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
