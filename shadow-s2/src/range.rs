//! Ranges of whole pages. The host's stage 2 is an identity map, so an IPA is also the physical address.

use io_pgtable::{Ipa, Pa};

/// log2 of the page size: ownership is recorded for 4 KiB pages, independent of the block size of the tables.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;
/// One past the highest page frame number: the architecture has at most 52-bit physical addresses.
pub const PFN_LIMIT: u64 = 1 << (52 - PAGE_SHIFT);

/// A non-empty range of pages that ends within the physical address space. Their owner is not checked.
///
/// The host's stage 2 is an identity map, so one range has both the IPAs and the physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    first: u64,
    count: u64,
}

impl PageRange {
    /// `count` pages from page `first`; `None` if empty or past the end of the address space.
    #[must_use]
    pub const fn new(first: u64, count: u64) -> Option<Self> {
        match first.checked_add(count) {
            Some(end) if count > 0 && end <= PFN_LIMIT => Some(Self { first, count }),
            _ => None,
        }
    }

    /// The pages that contain the `bytes` bytes at `start`; `None` if there are none or they wrap around.
    #[must_use]
    pub const fn covering(start: Ipa, bytes: u64) -> Option<Self> {
        if bytes == 0 {
            return None;
        }
        // The last byte, not the end: a range may end exactly at the top of the address space.
        let Some(last) = start.0.checked_add(bytes.wrapping_sub(1)) else { return None };
        let first = start.0 >> PAGE_SHIFT;
        let count = (last >> PAGE_SHIFT).wrapping_sub(first).wrapping_add(1);
        Self::new(first, count)
    }

    /// The pages from `start` up to `end`, both multiples of a page; `None` if there are none.
    #[must_use]
    pub const fn between(start: Ipa, end: Ipa) -> Option<Self> {
        match (end.0 >> PAGE_SHIFT).checked_sub(start.0 >> PAGE_SHIFT) {
            Some(count) => Self::new(start.0 >> PAGE_SHIFT, count),
            None => None,
        }
    }

    /// The single page `pfn`; `None` past the end of the address space.
    #[must_use]
    pub const fn page(pfn: u64) -> Option<Self> {
        Self::new(pfn, 1)
    }

    /// First page frame number.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// Number of pages, at least one.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count
    }

    /// One past the last page frame number.
    #[must_use]
    pub const fn end(self) -> u64 {
        // Bounded by PFN_LIMIT: `new` checked it.
        self.first.wrapping_add(self.count)
    }

    /// Address of the first byte, as IPA.
    #[must_use]
    pub const fn ipa(self) -> Ipa {
        Ipa(self.first << PAGE_SHIFT)
    }

    /// Address of the first byte after it.
    #[must_use]
    pub const fn ipa_end(self) -> Ipa {
        Ipa(self.end() << PAGE_SHIFT)
    }

    /// The part below `limit`, a multiple of a page; `None` if there is none.
    #[must_use]
    pub(crate) fn below(self, limit: u64) -> Option<Self> {
        Self::between(self.ipa(), Ipa(self.ipa_end().0.min(limit)))
    }

    /// Whether `ipa` is in the range.
    #[must_use]
    pub const fn contains_ipa(self, ipa: Ipa) -> bool {
        self.ipa().0 <= ipa.0 && ipa.0 < self.ipa_end().0
    }

    /// Address of the first byte, as physical address.
    #[must_use]
    pub const fn pa(self) -> Pa {
        Pa(self.first << PAGE_SHIFT)
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.count << PAGE_SHIFT
    }

    /// Whether every page of `other` is in this range.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.end() <= self.end()
    }

    /// Whether the two ranges have a page in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first < other.end() && other.first < self.end()
    }

    /// The page frame numbers, in order.
    pub fn pfns(self) -> impl DoubleEndedIterator<Item = u64> + use<> {
        self.first..self.end()
    }

    /// The pages as ranges of one page each, in order.
    pub fn pages(self) -> impl DoubleEndedIterator<Item = Self> + use<> {
        self.pfns().map(|first| Self { first, count: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_range() {
        let range = PageRange::covering(Ipa(0x1000), 0x3000).unwrap();
        assert_eq!(range.ipa_end(), Ipa(0x4000));
        assert_eq!(range.below(0x2000), PageRange::covering(Ipa(0x1000), 0x1000));
        assert_eq!(range.below(0x1000), None);
        assert!(range.contains_ipa(Ipa(0x3fff)) && !range.contains_ipa(Ipa(0x4000)));
    }

    #[test]
    fn covers_partial_pages_at_both_ends() {
        let covering = |start, bytes| PageRange::covering(Ipa(start), bytes).map(|r| (r.first(), r.count()));
        assert_eq!(covering(0x1000, 0x1000), Some((1, 1)));
        assert_eq!(covering(0x1fff, 2), Some((1, 2)));
        assert_eq!(covering(0x1001, 0x1000), Some((1, 2)));
        assert_eq!(covering(0x1000, 0), None);
        assert_eq!(covering(u64::MAX, 2), None);
        assert_eq!(covering(u64::MAX, 1), None, "beyond the physical address space");
    }

    #[test]
    fn relations() {
        let a = PageRange::new(10, 4).unwrap();
        let inner = PageRange::new(11, 3).unwrap();
        let next = PageRange::new(14, 1).unwrap();
        assert!(a.contains(inner) && !inner.contains(a));
        assert!(a.overlaps(inner) && !a.overlaps(next) && !a.contains(next));
        assert!(a.pages().map(PageRange::first).eq(10..14));
    }
}
