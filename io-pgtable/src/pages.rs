//! The operations with the names and the meaning of Linux's `io_pgtable_ops`: pages of one size, and a count.

use crate::error::{MapError, UnmapError};
use crate::granule::Granule;
use crate::pte::TableMemory;
use crate::regime::Regime;
use crate::table::IoPgtable;
use crate::tlb::TlbOps;
use crate::{Attrs, Iova, Pa};

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Maps `count` leaves of `page_size` bytes each, and of no other size, from `iova` to `pa`.
    ///
    /// # Errors
    /// [`MapError::Misaligned`] if `page_size` is not one of the table's leaf sizes or an address is not a multiple of it.
    /// On [`MapError::Overlap`] the leaves before the first conflict stay mapped and `mapped` says how many bytes they
    /// are; after every other error the table is unchanged.
    pub fn map_pages(&mut self, iova: Iova, pa: Pa, page_size: u64, count: u64, attrs: Attrs) -> Result<(), MapError> {
        let size = self.pages(iova, page_size, count).ok_or(MapError::Misaligned)?;
        if pa.0 & page_size.wrapping_sub(1) != 0 {
            return Err(MapError::Misaligned);
        }
        // Below the one size that is asked for, tables are still needed: only leaves are restricted.
        match self.map_leaves(iova, pa, size, attrs, page_size) {
            Err(MapError::Overlap { iova: conflict, .. }) => {
                let mapped = whole_pages(iova, conflict, page_size);
                if mapped != 0 {
                    self.map_leaves(iova, pa, mapped, attrs, page_size)?;
                }
                Err(MapError::Overlap { iova: conflict, mapped })
            }
            result => result,
        }
    }

    /// Unmaps `count` leaves of `page_size` bytes each from `iova`, up to the first that is not mapped; returns the bytes
    /// that it unmapped. Larger leaves are split, smaller ones are taken together.
    ///
    /// # Errors
    /// [`UnmapError::Misaligned`] as in [`map_pages`](Self::map_pages), [`UnmapError::NotMapped`] if not even the first
    /// page is mapped, and all others of [`unmap`](Self::unmap), with the state described there.
    pub fn unmap_pages(
        &mut self,
        iova: Iova,
        page_size: u64,
        count: u64,
        tlb: &mut impl TlbOps,
    ) -> Result<u64, UnmapError> {
        let size = self.pages(iova, page_size, count).ok_or(UnmapError::Misaligned)?;
        match self.unmap(iova, size, tlb) {
            Ok(()) => Ok(size),
            Err(UnmapError::NotMapped(hole)) => {
                let mapped = whole_pages(iova, hole, page_size);
                if mapped == 0 {
                    return Err(UnmapError::NotMapped(hole));
                }
                self.unmap(iova, mapped, tlb).map(|()| mapped)
            }
            Err(error) => Err(error),
        }
    }

    /// The size of `count` pages, if they are possible.
    fn pages(&self, iova: Iova, page_size: u64, count: u64) -> Option<u64> {
        let known = page_size.is_power_of_two() && self.cfg.page_sizes & page_size != 0;
        if !known || page_size < R::Granule::PAGE || iova.0 & page_size.wrapping_sub(1) != 0 {
            return None;
        }
        page_size.checked_mul(count).filter(|&size| size != 0)
    }
}

/// Bytes of whole pages from `start` to `end`.
fn whole_pages(start: Iova, end: Iova, page_size: u64) -> u64 {
    end.0.saturating_sub(start.0) & !page_size.wrapping_sub(1)
}
