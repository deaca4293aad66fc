//! Fast path for ranges that cross from one page table into the next.
//!
//! Other ranges that cross a table boundary take the slow path.

use crate::desc::{self, PAGE};
use crate::granule::{At, Granule, L3, Level};
use crate::map::{FastPath, Slot};
use crate::pte::{Table, TableMemory};
use crate::regime::Regime;
use crate::run::{Run, index_in};
use crate::split::Span;
use crate::table::IoPgtable;
use crate::unmap::is_full;

/// The part of a range that one table of pages maps.
struct Part {
    /// The descriptor of the table.
    above: Slot,
    table: Table,
    first: usize,
    n: usize,
}

impl Part {
    /// The table descriptor with its count increased by `n`.
    #[inline]
    fn counted<G: Granule>(&self, n: u64) -> u64 {
        desc::add_count::<G>(self.above.desc, n)
    }

    /// Number of descriptors.
    #[inline]
    fn count(&self) -> u64 {
        u64::try_from(self.n).unwrap_or(0)
    }
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Maps a run that begins below `at` and ends below the descriptor after it, if both name tables of pages.
    #[inline(never)]
    pub(crate) fn map_across<L: Level>(&self, at: Slot, run: Run) -> FastPath {
        let last = run.iova.wrapping_add(run.size.wrapping_sub(1));
        let Some(parts) = self.parts::<L>(at, Span { start: run.iova, last }) else { return FastPath::NeedsSlowPath };
        if !parts.iter().all(|part| part.table.vacant(part.first, part.n)) {
            return FastPath::Overlap;
        }
        let mut leaf = run.pa | run.bits | PAGE;
        for part in parts {
            part.table.store_run(part.first, part.n, leaf, R::Granule::PAGE);
            self.clean(part.table, part.first, part.n);
            leaf = leaf.wrapping_add(part.count().wrapping_shl(R::Granule::PAGE_SHIFT));
            part.above.table.store(part.above.index, part.counted::<R::Granule>(part.count()));
        }
        FastPath::Done
    }

    /// Unmaps such a span if neither table becomes empty; otherwise changes nothing and returns `None`.
    #[inline(never)]
    pub(crate) fn unmap_across<L: Level>(&self, at: Slot, span: Span) -> Option<u64> {
        let parts = self.parts::<L>(at, span)?;
        for part in &parts {
            let left = part.counted::<R::Granule>(part.count().wrapping_neg());
            let valid = is_full::<R::Granule>(part.above.desc) || part.table.all_valid(part.first, part.n);
            if !valid || desc::count::<R::Granule>(left) == 0 {
                return None;
            }
        }
        for part in parts {
            part.table.clear_run(part.first, part.n);
            self.clean(part.table, part.first, part.n);
            part.above.table.store(part.above.index, part.counted::<R::Granule>(part.count().wrapping_neg()));
        }
        Some(R::Granule::PAGE)
    }

    /// The two parts of a range that crosses the end of the table at `at`; `None` if the fast path does not apply.
    #[inline(always)]
    fn parts<L: Level>(&self, at: Slot, span: Span) -> Option<[Part; 2]> {
        let shift = At::<R::Granule, L>::SHIFT;
        let tables = span.last.wrapping_shr(shift).wrapping_sub(span.start.wrapping_shr(shift)).wrapping_add(1);
        if !L::Next::LAST || tables != 2 {
            return None;
        }
        let index = at.index.wrapping_add(1);
        let desc = at.table.load(index);
        if desc & desc::TYPE != desc::TABLE {
            return None;
        }
        let first = index_in::<R::Granule, L3>(span.start);
        let last = index_in::<R::Granule, L3>(span.last);
        let next = Slot { table: at.table, index, desc };
        let child = |slot: Slot| Table::child::<R::Granule, M>(&self.mem, slot.desc);
        Some([
            Part { above: at, table: child(at), first, n: R::Granule::ENTRIES.wrapping_sub(first) },
            Part { above: next, table: child(next), first: 0, n: last.wrapping_add(1) },
        ])
    }
}
