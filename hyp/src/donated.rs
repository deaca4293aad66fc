//! Tracks the pages that the host donated to EL2's pool, and which of them are free.
//!
//! There are two bitmaps outside the pages, slightly more than two bits for each page. EL2 never reads such a page
//! before it has written to it: the content is from the host, and an earlier write of a device may still arrive (as
//! with QEMU's disks, see docs/threat-model.md).

use crate::bits::{self, Bits, bit, clear, set};
use core::ops::Range;

/// Maximum ranges of RAM with donated pages.
pub const MAX_RAM_RANGES: usize = 16;

/// Words that [`Donated::add_range`] needs for `pages` pages.
pub fn bitmap_words(pages: u64) -> usize {
    bits::words(pages)
        .checked_add(bits::words_of_set(pages))
        .and_then(|words| usize::try_from(words).ok())
        .unwrap_or(usize::MAX)
}

/// One range of RAM; pages are counted from its first page.
struct Section {
    pages: Range<u64>,
    donated: &'static mut [u64],
    free: Bits,
}

/// The donated pages of the pool. Pages are identified by their number, address / 4096.
pub struct Donated {
    sections: [Option<Section>; MAX_RAM_RANGES],
    /// Where the search for a free page continues, so that a page that was just freed is allocated last.
    cursor: u64,
    donated: u64,
    free: u64,
}

impl Donated {
    /// An empty value, without ranges.
    pub const fn new() -> Self {
        Self { sections: [const { None }; MAX_RAM_RANGES], cursor: 0, donated: 0, free: 0 }
    }

    /// Adds the range `pages`, none of them donated. The bitmap is in `words`, of which the first [`bitmap_words`]
    /// are used and cleared.
    ///
    /// A range that overlaps a known one, that is added after [`MAX_RAM_RANGES`] others, or whose `words` are too few
    /// is ignored: its pages cannot be donated.
    pub fn add_range(&mut self, pages: Range<u64>, words: &'static mut [u64]) {
        let count = pages.end.saturating_sub(pages.start);
        let overlaps = |known: &Section| known.pages.start.max(pages.start) < known.pages.end.min(pages.end);
        if self.sections.iter().flatten().any(overlaps) {
            return;
        }
        let split = usize::try_from(bits::words(count)).ok().and_then(|words_of| words.split_at_mut_checked(words_of));
        let Some((donated, rest)) = split else { return };
        let Some(free) = Bits::new(count, rest) else { return };
        donated.fill(0);
        if let Some(slot) = self.sections.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(Section { pages, donated, free });
        }
    }

    fn section_mut(&mut self, page: u64) -> Option<&mut Section> {
        self.sections.iter_mut().flatten().find(|section| section.pages.contains(&page))
    }

    fn section(&self, page: u64) -> Option<&Section> {
        self.sections.iter().flatten().find(|section| section.pages.contains(&page))
    }

    fn is_donated(&self, page: u64) -> bool {
        self.section(page).is_some_and(|section| bit(section.donated, section.index(page)))
    }

    fn is_free(&self, page: u64) -> bool {
        self.section(page).is_some_and(|section| section.free.has(section.index(page)))
    }

    /// Adds `page` as a free page. Ignored if it is already donated, or outside the known ranges.
    pub fn insert(&mut self, page: u64) {
        if self.is_donated(page) {
            return;
        }
        if let Some(section) = self.section_mut(page) {
            let index = section.index(page);
            set(section.donated, index);
            section.free.insert(index);
            self.donated = self.donated.saturating_add(1);
            self.free = self.free.saturating_add(1);
        }
    }

    /// Frees `page`; `false` if it is not a donated page.
    pub fn free(&mut self, page: u64) -> bool {
        if !self.is_donated(page) {
            return false;
        }
        if !self.is_free(page)
            && let Some(section) = self.section_mut(page)
        {
            let index = section.index(page);
            section.free.insert(index);
            self.free = self.free.saturating_add(1);
        }
        true
    }

    /// Allocates one free page; `None` if there is none. Reads a few words for each range, and one for each GiB of
    /// it.
    pub fn alloc(&mut self) -> Option<u64> {
        if self.free == 0 {
            return None;
        }
        let page = self.first_free(self.cursor..u64::MAX).or_else(|| self.first_free(0..self.cursor))?;
        self.mark_used(page);
        self.cursor = page.saturating_add(1);
        Some(page)
    }

    fn first_free(&self, pages: Range<u64>) -> Option<u64> {
        self.sections.iter().flatten().filter_map(|section| section.first_free(&pages)).min()
    }

    fn mark_used(&mut self, page: u64) {
        if let Some(section) = self.section_mut(page) {
            let index = section.index(page);
            section.free.remove(index);
            self.free = self.free.saturating_sub(1);
        }
    }

    /// Removes `pages` and returns `true` if every page is donated and free; otherwise changes nothing and returns
    /// `false`.
    pub fn remove(&mut self, pages: Range<u64>) -> bool {
        if !pages.clone().all(|page| self.is_free(page)) {
            return false;
        }
        for page in pages {
            self.mark_used(page);
            if let Some(section) = self.section_mut(page) {
                let index = section.index(page);
                clear(section.donated, index);
                self.donated = self.donated.saturating_sub(1);
            }
        }
        true
    }

    /// Number of donated pages, and of free ones among them.
    pub fn level(&self) -> (u64, u64) {
        (self.donated, self.free)
    }
}

impl Default for Donated {
    fn default() -> Self {
        Self::new()
    }
}

impl Section {
    /// Bit number of `page`, which is in the section.
    fn index(&self, page: u64) -> u64 {
        page.saturating_sub(self.pages.start)
    }

    /// The first free page among `pages`.
    fn first_free(&self, pages: &Range<u64>) -> Option<u64> {
        let start = pages.start.max(self.pages.start);
        let page = self.pages.start.saturating_add(self.free.next(self.index(start))?);
        (page < pages.end).then_some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::iter::once;
    use std::vec;

    fn with(ranges: impl IntoIterator<Item = Range<u64>>) -> Donated {
        let mut donated = Donated::new();
        for range in ranges {
            let words = bitmap_words(range.end - range.start);
            donated.add_range(range, Box::leak(vec![!0; words].into_boxed_slice()));
        }
        donated
    }

    #[test]
    fn a_page_outside_the_ranges_is_ignored() {
        let mut donated = with(once(100..300));
        donated.insert(99);
        donated.insert(300);
        assert_eq!(donated.level(), (0, 0));
        assert!(!donated.free(99));
        assert_eq!(donated.alloc(), None);
    }

    #[test]
    fn a_range_without_room_or_over_another_is_ignored() {
        let mut donated = with(once(0..64));
        donated.add_range(63..70, Box::leak(vec![0; bitmap_words(7)].into_boxed_slice()));
        donated.add_range(128..256, Box::leak(vec![0; bitmap_words(128) - 1].into_boxed_slice()));
        donated.insert(65);
        donated.insert(128);
        assert_eq!(donated.level(), (0, 0));
    }

    #[test]
    fn a_freed_page_is_allocated_last() {
        let mut donated = with([0..200, 1000..1100]);
        for page in [3, 70, 199, 1099] {
            donated.insert(page);
        }
        let first = donated.alloc();
        assert_eq!(first, Some(3));
        assert!(donated.free(3));
        assert_eq!([(); 4].map(|()| donated.alloc()), [Some(70), Some(199), Some(1099), Some(3)]);
    }

    #[test]
    fn removing_a_range_with_a_page_in_use_removes_nothing() {
        let mut donated = with(once(0..64));
        for page in 10..20 {
            donated.insert(page);
        }
        assert_eq!(donated.alloc(), Some(10));
        assert!(!donated.remove(9..12));
        assert!(!donated.remove(10..12));
        assert_eq!(donated.level(), (10, 9));
        assert!(donated.remove(11..20));
        assert_eq!(donated.level(), (1, 0));
        assert!(donated.free(10));
        assert!(donated.remove(10..11));
        assert_eq!(donated.level(), (0, 0));
    }

    proptest! {
        /// Compared with two sets, for any order of operations.
        #[test]
        fn agrees_with_two_sets(steps in prop::collection::vec((0..4_u8, 0..150_u64, 1..5_u64), 0..200)) {
            let known = |page: u64| (5..70).contains(&page) || (100..140).contains(&page);
            let mut donated = with([5..70, 100..140]);
            let (mut all, mut free) = (BTreeSet::new(), BTreeSet::new());
            for (step, page, count) in steps {
                match step {
                    0 => {
                        donated.insert(page);
                        if known(page) && all.insert(page) {
                            free.insert(page);
                        }
                    }
                    1 => match donated.alloc() {
                        Some(page) => prop_assert!(free.remove(&page)),
                        None => prop_assert!(free.is_empty()),
                    },
                    2 => {
                        prop_assert_eq!(donated.free(page), all.contains(&page));
                        if all.contains(&page) {
                            free.insert(page);
                        }
                    }
                    _ => {
                        let pages = page..page + count;
                        let possible = pages.clone().all(|page| free.contains(&page));
                        prop_assert_eq!(donated.remove(pages.clone()), possible);
                        if possible {
                            free.retain(|page| !pages.contains(page));
                            all.retain(|page| !pages.contains(page));
                        }
                    }
                }
                let level = (u64::try_from(all.len()).unwrap(), u64::try_from(free.len()).unwrap());
                prop_assert_eq!(donated.level(), level);
            }
        }
    }
}
