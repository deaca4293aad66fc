//! Page-aligned ranges of intermediate physical addresses.

use io_pgtable::Ipa;

const PAGE: u64 = 4096;

/// A non-empty range of whole 4 KiB pages that does not wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpaRange {
    start: u64,
    bytes: u64,
}

impl IpaRange {
    /// `bytes` bytes from `start`; `None` if empty, not in whole pages, or past the end of the address space.
    #[must_use]
    pub const fn new(start: Ipa, bytes: u64) -> Option<Self> {
        if bytes == 0 || (start.0 | bytes) & (PAGE - 1) != 0 || start.0.checked_add(bytes).is_none() {
            return None;
        }
        Some(Self { start: start.0, bytes })
    }

    /// The range from `start` up to `end`; `None` as for [`IpaRange::new`].
    #[must_use]
    pub const fn between(start: Ipa, end: Ipa) -> Option<Self> {
        match end.0.checked_sub(start.0) {
            Some(bytes) => Self::new(start, bytes),
            None => None,
        }
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> Ipa {
        Ipa(self.start)
    }

    /// One past the last address.
    #[must_use]
    pub const fn end(self) -> Ipa {
        // `new` checked that it does not wrap.
        Ipa(self.start.wrapping_add(self.bytes))
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// The part below `limit`; `None` if there is none.
    #[must_use]
    pub(crate) fn below(self, limit: u64) -> Option<Self> {
        Self::between(self.start(), Ipa(self.end().0.min(limit)))
    }

    /// Whether `ipa` lies in it.
    #[must_use]
    pub const fn contains(self, ipa: Ipa) -> bool {
        self.start <= ipa.0 && ipa.0 < self.end().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_whole_pages_or_wraps() {
        for (start, bytes) in [(0, 0), (0x800, 0x1000), (0x1000, 0x800), (!0xfff, 0x1000), (0x1000, !0xfff)] {
            assert_eq!(IpaRange::new(Ipa(start), bytes), None, "{start:#x} {bytes:#x}");
        }
        let range = IpaRange::new(Ipa(0x1000), 0x3000).unwrap();
        assert_eq!(range.end(), Ipa(0x4000));
        assert_eq!(range.below(0x2000), IpaRange::new(Ipa(0x1000), 0x1000));
        assert_eq!(range.below(0x1000), None);
        assert!(range.contains(Ipa(0x3fff)) && !range.contains(Ipa(0x4000)));
    }
}
