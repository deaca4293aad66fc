//! `map_pages` and `unmap_pages` with the semantics of Linux's `io_pgtable_ops`: pages of one size, and their number.

use crate::addr::{Iova, Pa};
use crate::attrs::Attrs;
use crate::error::{MapError, UnmapError};
use crate::granule::Granule;
use crate::pte::TableMemory;
use crate::regime::Regime;
use crate::table::IoPgtable;
use crate::tlb::TlbOps;

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Maps `count` leaves of `page_size` bytes each, and of no other size, from `iova` to `pa`.
    ///
    /// # Errors
    /// [`MapError::Misaligned`] if `page_size` is not one of the table's leaf sizes or an address is not a multiple of
    /// it. On [`MapError::Overlap`] the leaves before the first conflict stay mapped and `mapped` is their size in
    /// bytes; after every other error the table is unchanged.
    pub fn map_pages(&mut self, iova: Iova, pa: Pa, page_size: u64, count: u64, attrs: Attrs) -> Result<(), MapError> {
        let size = self.pages(iova, page_size, count).ok_or(MapError::Misaligned)?;
        if pa.0 & page_size.wrapping_sub(1) != 0 {
            return Err(MapError::Misaligned);
        }
        // Only the leaf size is restricted; intermediate tables are allocated as needed.
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

    /// Unmaps `count` leaves of `page_size` bytes each from `iova`, up to the first that is not mapped; returns the
    /// bytes that it unmapped. Larger leaves are split; smaller ones count towards the size.
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

    /// The size of `count` pages in bytes; `None` if page size, alignment or count are not valid.
    fn pages(&self, iova: Iova, page_size: u64, count: u64) -> Option<u64> {
        let known = page_size.is_power_of_two() && self.cfg().page_sizes & page_size != 0;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bbm, Cfg, HeapMemory, NoTlb, Prot, S2};
    use std::vec::Vec;

    const RW: Attrs = Attrs::normal(Prot::RW);
    const MIB2: u64 = 2 << 20;

    fn table() -> IoPgtable<S2, HeapMemory> {
        let cfg = Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) };
        IoPgtable::new(&cfg, HeapMemory::new(Pa(0x8000_0000), 1 << 20)).unwrap()
    }

    fn sizes(table: &IoPgtable<S2, HeapMemory>) -> Vec<u64> {
        table.leaves(Iova(0), 1 << 40).map(|leaf| leaf.size).collect()
    }

    #[test]
    fn leaves_have_the_requested_size() {
        let mut table = table();
        table.map_pages(Iova(0), Pa(0), MIB2, 3, RW).unwrap();
        table.map_pages(Iova(0x4000_0000), Pa(0x4000_0000), 0x1000, 512, RW).unwrap();
        assert_eq!(sizes(&table), [[MIB2; 3].as_slice(), [0x1000; 512].as_slice()].concat());
    }

    #[test]
    fn pages_before_a_conflict_stay_mapped() {
        let mut table = table();
        table.map(Iova(5 * MIB2 + 0x3000), Pa(0), 0x1000, RW).unwrap();
        let conflict = Iova(5 * MIB2 + 0x3000);
        let error = table.map_pages(Iova(3 * MIB2), Pa(0), MIB2, 4, RW);
        assert_eq!(error, Err(MapError::Overlap { iova: conflict, mapped: 2 * MIB2 }));
        assert_eq!(sizes(&table), [MIB2, MIB2, 0x1000]);
        let error = table.map_pages(Iova(5 * MIB2), Pa(0), 0x1000, 8, RW);
        assert_eq!(error, Err(MapError::Overlap { iova: conflict, mapped: 0x3000 }));
        assert_eq!(table.iova_to_phys(Iova(5 * MIB2 + 0x2fff)), Some(Pa(0x2fff)));
        // The first page is not mapped: nothing changes.
        let error = table.map_pages(Iova(5 * MIB2), Pa(0), 0x1000, 8, RW);
        assert_eq!(error, Err(MapError::Overlap { iova: Iova(5 * MIB2), mapped: 0 }));
        assert_eq!(sizes(&table), [MIB2, MIB2, 0x1000, 0x1000, 0x1000, 0x1000]);
    }

    #[test]
    fn unmapping_stops_at_the_first_hole() {
        let mut table = table();
        table.map_pages(Iova(0), Pa(0), 0x1000, 3, RW).unwrap();
        assert_eq!(table.unmap_pages(Iova(0x1000), 0x1000, 8, &mut NoTlb), Ok(0x2000));
        let hole = Err(UnmapError::NotMapped(Iova(0x1000)));
        assert_eq!(table.unmap_pages(Iova(0x1000), 0x1000, 8, &mut NoTlb), hole);
        assert_eq!(sizes(&table), [0x1000]);
        // Smaller leaves are unmapped together, larger ones are split.
        table.map_pages(Iova(MIB2), Pa(0), 0x1000, 512, RW).unwrap();
        assert_eq!(table.unmap_pages(Iova(MIB2), MIB2, 1, &mut NoTlb), Ok(MIB2));
        table.map_pages(Iova(MIB2), Pa(0), MIB2, 1, RW).unwrap();
        assert_eq!(table.unmap_pages(Iova(MIB2), 0x1000, 510, &mut NoTlb), Ok(510 * 0x1000));
        assert_eq!(sizes(&table), [0x1000, 0x1000, 0x1000]);
    }

    #[test]
    fn invalid_sizes_and_counts_are_refused() {
        let mut table = table();
        for (iova, pa, page_size, count) in [
            (0, 0, 0x1000, 0),
            (0x800, 0, 0x1000, 1),
            (0, 0x800, 0x1000, 1),
            (0, 0x1000, MIB2, 1),
            (0, 0, 0x2000, 1),
            (0, 0, 0x800, 1),
            (0, 0, 0, 1),
            (0, 0, 0x20_1000, 1),
            (0, 0, 1 << 30, 1 << 40),
        ] {
            assert_eq!(table.map_pages(Iova(iova), Pa(pa), page_size, count, RW), Err(MapError::Misaligned));
            if pa == 0 {
                let refused = table.unmap_pages(Iova(iova), page_size, count, &mut NoTlb);
                assert_eq!(refused, Err(UnmapError::Misaligned));
            }
        }
        assert_eq!(table.map_pages(Iova(1 << 39), Pa(0), 1 << 30, 513, RW), Err(MapError::OutOfRange));
        assert_eq!(sizes(&table), []);
    }
}
