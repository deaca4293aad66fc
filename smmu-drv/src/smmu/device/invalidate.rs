//! Invalidation of translations after a change of stage 2, before pages change their owner.

use io_pgtable::{Ipa, TlbRange};

use super::Device;
use crate::command::{Command, Depth, Extent, Granule};
use crate::error::SmmuError;
use crate::platform::Platform;
use crate::stats::bump;

/// The translations to invalidate after a change of stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// A range of IPAs: `size` bytes from `ipa`; widened to whole 4K pages.
    Range {
        /// First address.
        ipa: Ipa,
        /// Bytes.
        size: u64,
    },
    /// All translations of the VMID.
    All,
}

/// A range of a stage 2, with last-level and table entries.
impl From<TlbRange> for Stale {
    fn from(range: TlbRange) -> Self {
        Self::Range { ipa: Ipa(range.iova.0), size: range.size }
    }
}

impl Stale {
    /// Adds `range` to `before`. The result is `range` if there was nothing before, otherwise everything.
    ///
    /// ```
    /// use io_pgtable::{Ipa, TlbRange};
    /// use smmu_drv::Stale;
    ///
    /// let page = |page: u64| Stale::Range { ipa: Ipa(page << 12), size: 4096 };
    /// let one = Stale::with(None, page(1));
    /// assert_eq!((one, Stale::with(Some(one), page(2))), (page(1), Stale::All));
    /// ```
    #[must_use]
    pub fn with(before: Option<Self>, range: impl Into<Self>) -> Self {
        match before {
            None => range.into(),
            Some(Self::Range { .. } | Self::All) => Self::All,
        }
    }
}

/// Maximum single-address invalidations; above it the whole VMID is invalidated.
const MAX_SINGLE: u64 = 32;

impl<P: Platform> Device<P> {
    /// Queues the invalidation of the translations in `stale` of the domain with `vmid`, and starts it. It is
    /// complete, including transactions that used such a translation, after [`Device::sync`].
    ///
    /// # Errors
    /// Stale translations may still be cached. The SMMU is marked as failed.
    pub(crate) fn tlb_submit(&mut self, vmid: u16, stale: Stale) -> Result<(), SmmuError> {
        bump(&mut self.counters.s2_invalidations);
        match stale {
            Stale::Range { ipa, size } => match pages(ipa, size) {
                Some((first, count)) if self.features.ril() => match range(count) {
                    Some(extent) => {
                        self.push(Command::TlbiS2Ipa { vmid, ipa: first, extent, depth: Depth::Walk })?;
                        self.combined_entries(vmid)?;
                    }
                    None => self.push(Command::TlbiS12Vmall { vmid })?,
                },
                Some((first, count)) if count <= MAX_SINGLE => {
                    for page in 0..count {
                        let ipa = Ipa(first.0.wrapping_add(page.wrapping_mul(4096)));
                        self.push(Command::TlbiS2Ipa { vmid, ipa, extent: Extent::Single, depth: Depth::Walk })?;
                    }
                    self.combined_entries(vmid)?;
                }
                Some(_) | None => self.push(Command::TlbiS12Vmall { vmid })?,
            },
            Stale::All => self.push(Command::TlbiS12Vmall { vmid })?,
        }
        self.queue_sync()?;
        self.submit();
        Ok(())
    }

    /// Combined entries may survive an invalidation by IPA, and only a CMD_SYNC orders the two [S 4.4.3, 4.7.3].
    fn combined_entries(&mut self, vmid: u16) -> Result<(), SmmuError> {
        self.queue_sync()?;
        self.push(Command::TlbiNhAll { vmid })
    }
}

/// First page and number of 4K pages; `None` if the range is empty or wraps: everything must then be invalidated.
fn pages(ipa: Ipa, size: u64) -> Option<(Ipa, u64)> {
    let first = ipa.0 & !0xfff;
    let last = ipa.0.checked_add(size.checked_sub(1)?)?;
    let pages = (last.checked_sub(first)? >> 12).checked_add(1)?;
    Some((Ipa(first), pages))
}

/// The smallest single range that covers `pages` pages, at any level [S 4.4.1.1]; `None` if there is none.
///
/// One page is encoded as two, NUM == 1: NUM == 0 with SCALE == 0 and TTL == 0 is reserved. The architecture also
/// allows a command without a range; with RIL it is never used, since it is reported to be unreliable on some parts.
fn range(pages: u64) -> Option<Extent> {
    let pages = pages.max(2);
    let mut scale = 0_u32;
    loop {
        let unit = 1_u64.checked_shl(scale)?;
        let num = pages.div_ceil(unit);
        if num <= 32 {
            let num = num.checked_sub(1)?;
            return Some(Extent::Range { granule: Granule::K4, num, scale: u64::from(scale), ttl: 0 });
        }
        scale = scale.checked_add(1)?;
        if scale > 31 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_smallest_that_covers_the_pages_and_is_not_reserved() {
        let around = |pages: u64| [pages - 1, pages, pages + 1];
        let counts = (1..=40).flat_map(around).chain((6..36).flat_map(|bits| around(1 << bits)));
        for pages in counts.filter(|pages| *pages > 0) {
            let Some(Extent::Range { granule: Granule::K4, num, scale, ttl: 0 }) = range(pages) else {
                panic!("no range for {pages} pages");
            };
            assert!(num <= 31 && scale <= 31 && (num, scale) != (0, 0), "{pages}: {num}, {scale}");
            assert!((num + 1) << scale >= pages, "{pages}: {num}, {scale}");
            // With half the unit, more than 32 units would be needed.
            if scale > 0 {
                assert!(pages.div_ceil(1 << (scale - 1)) > 32, "{pages}: {num}, {scale}");
            }
            assert!(num << scale < pages.max(2), "{pages}: {num}, {scale}");
        }
        let one = Extent::Range { granule: Granule::K4, num: 1, scale: 0, ttl: 0 };
        assert_eq!((range(1), range(2)), (Some(one), Some(one)));
        let largest = 32 << 31;
        assert!(matches!(range(largest), Some(Extent::Range { num: 31, scale: 31, .. })));
        assert_eq!((range(largest + 1), range(u64::MAX)), (None, None));
    }
}
