//! Ranges of addresses.

/// A range of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Range {
    /// The first address after the range; `None` if it does not fit in 64 bits.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.base.checked_add(self.size)
    }

    /// The last address, or `u64::MAX` if the range wraps.
    pub(crate) fn last(&self) -> u64 {
        self.base.saturating_add(self.size.saturating_sub(1))
    }

    /// Whether `address` is in the range.
    #[must_use]
    pub fn has(&self, address: u64) -> bool {
        self.size > 0 && self.base <= address && address <= self.last()
    }

    /// Whether the two ranges have a byte in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.size > 0 && other.size > 0 && self.base <= other.last() && other.base <= self.last()
    }

    /// Whether every byte of `other` is in the range.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.size == 0 || self.has(other.base) && self.has(other.last())
    }
}
