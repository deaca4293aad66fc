//! Ranges of physical addresses and sets of them; overflow is checked once, at construction.

use core::fmt;

use arrayvec::ArrayVec;
use io_pgtable::Pa;

/// EL2's granule in bytes: the smallest unit that stage 2 can map.
pub const PAGE_SIZE: u64 = 4096;

/// The first address above all Armv8 physical addresses (52 bits, FEAT_LPA).
pub(super) const PA_LIMIT: u64 = 1 << 52;

/// `size` bytes from `base`, inside the architecture's 52-bit physical address space. Only the default value is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysRange {
    start: u64,
    end: u64,
}

impl PhysRange {
    /// The range, or `None` if it would wrap or end above the 52-bit address space.
    #[must_use]
    pub fn new(base: Pa, size: u64) -> Option<Self> {
        let end = base.0.checked_add(size)?;
        (end <= PA_LIMIT).then_some(Self { start: base.0, end })
    }

    /// The range from `start` to `end` (exclusive), or `None` when they are in the wrong order or too high.
    #[must_use]
    pub fn between(start: Pa, end: Pa) -> Option<Self> {
        Self::new(start, end.0.checked_sub(start.0)?)
    }

    /// The first address.
    #[must_use]
    pub fn base(&self) -> Pa {
        Pa(self.start)
    }

    /// The first address after the range.
    #[must_use]
    pub fn end(&self) -> Pa {
        Pa(self.end)
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether a byte is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether every byte of `other` is in this range.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The bytes in both, if any.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(Self { start, end })
    }

    /// The smallest range of whole pages around this one.
    #[must_use]
    pub fn page_rounded(&self) -> Self {
        let start = align_down(self.start, PAGE_SIZE);
        // The limit is page aligned, so rounding an end below it up stays within it.
        let end = align_up(self.end, PAGE_SIZE).unwrap_or(PA_LIMIT);
        Self { start, end }
    }

    /// The largest range of whole pages inside this one, if any.
    #[must_use]
    pub fn whole_pages(&self) -> Option<Self> {
        let start = align_up(self.start, PAGE_SIZE)?;
        let end = align_down(self.end, PAGE_SIZE);
        (start < end).then_some(Self { start, end })
    }
}

impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// `value` rounded down to a multiple of `align`, which is a power of two.
pub(super) fn align_down(value: u64, align: u64) -> u64 {
    value & !align.wrapping_sub(1)
}

/// `value` rounded up to a multiple of `align`, which is a power of two; `None` when that does not fit.
pub(super) fn align_up(value: u64, align: u64) -> Option<u64> {
    value.checked_add(align.wrapping_sub(1)).map(|v| align_down(v, align))
}

/// The set already has `N` ranges; it is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Up to `N` ranges, sorted, disjoint, and merged if they are adjacent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeSet<const N: usize> {
    ranges: ArrayVec<PhysRange, N>,
}

impl<const N: usize> RangeSet<N> {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> core::slice::Iter<'_, PhysRange> {
        self.ranges.iter()
    }

    /// The sum of all sizes, in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |sum, r| sum.saturating_add(r.size()))
    }

    /// Whether `range` has a byte in the set.
    #[must_use]
    pub fn overlaps(&self, range: &PhysRange) -> bool {
        self.iter().any(|r| r.overlaps(range))
    }

    /// Whether every byte of `range` is in the set.
    #[must_use]
    pub fn contains(&self, range: &PhysRange) -> bool {
        range.is_empty() || self.iter().any(|r| r.contains(range))
    }

    /// Adds `range`, merging it with adjacent and overlapping ranges.
    ///
    /// # Errors
    /// [`Full`] when it would be the `N`+1st separate range; the set is unchanged.
    pub fn insert(&mut self, range: PhysRange) -> Result<(), Full> {
        if range.is_empty() {
            return Ok(());
        }
        let mut merged = range;
        self.ranges.retain(|r| {
            let touches = r.start <= range.end && range.start <= r.end;
            if touches {
                merged.start = merged.start.min(r.start);
                merged.end = merged.end.max(r.end);
            }
            !touches
        });
        let at = self.ranges.iter().take_while(|r| r.end < merged.start).count();
        self.ranges.try_insert(at, merged).map_err(|_| Full)
    }

    /// Removes `range`.
    ///
    /// # Errors
    /// [`Full`] if more than `N` ranges would be left; the set is unchanged.
    pub fn remove(&mut self, range: &PhysRange) -> Result<(), Full> {
        let mut left = Self::new();
        for r in self.iter() {
            match r.intersection(range) {
                None => left.insert(*r)?,
                Some(hole) => {
                    left.insert(PhysRange { start: r.start, end: hole.start })?;
                    left.insert(PhysRange { start: hole.end, end: r.end })?;
                }
            }
        }
        *self = left;
        Ok(())
    }
}

impl<'s, const N: usize> IntoIterator for &'s RangeSet<N> {
    type Item = &'s PhysRange;
    type IntoIter = core::slice::Iter<'s, PhysRange>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<const N: usize> fmt::Display for RangeSet<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{range}")?;
        }
        if self.ranges.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}
