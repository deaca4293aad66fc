//! Page ranges from a caller, before and after their check.

pub use shadow_s2::{PAGE_BYTES, PAGE_SHIFT, PFN_LIMIT, PageRange};

use crate::error::Error;

/// An unchecked page range from a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UncheckedRange {
    /// First page frame number (address / 4096).
    pub pfn: u64,
    /// Number of pages.
    pub count: u64,
}

impl UncheckedRange {
    /// Checks the numbers: the range is not empty, has at most `max_pages` pages, and ends within the address space.
    ///
    /// # Errors
    /// [`Error::BadRange`].
    pub fn check(self, max_pages: u64) -> Result<PageRange, Error> {
        if self.count > max_pages {
            return Err(Error::BadRange);
        }
        PageRange::new(self.pfn, self.count).ok_or(Error::BadRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_empty_wrapping_and_too_long_ranges() {
        let check = |pfn, count| UncheckedRange { pfn, count }.check(512);
        for (pfn, count) in [
            (0x40000, 0),
            (0x40000, 513),
            (0x40000, 1 << 63),
            (0x40000, u64::MAX),
            (u64::MAX, 1),
            (u64::MAX, 2),
            (PFN_LIMIT, 1),
            (PFN_LIMIT - 1, 2),
        ] {
            assert_eq!(check(pfn, count), Err(Error::BadRange), "{pfn:#x} {count:#x}");
        }
        assert_eq!(check(PFN_LIMIT - 1, 1).map(PageRange::end), Ok(PFN_LIMIT));
        assert_eq!(check(0x40000, 512).map(PageRange::bytes), Ok(2 << 20));
    }
}
