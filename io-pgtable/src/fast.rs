//! The fast path of map and unmap: leaves of one level, in one existing table that is not freed.
//!
//! It allocates and frees nothing, so check and change are one pass. If the fast path does not apply, it changes
//! nothing, and the slow path executes the whole call or returns the error. If it applies, the result is the same as
//! that of the slow path: the tests compare the two word by word.

use crate::addr::{Iova, Pa};
use crate::attrs::Attrs;
use crate::desc::{self, VALID};
use crate::granule::{At, Granule, Level};
use crate::pte::{Slot, Table, TableMemory};
use crate::range::{Run, Span};
use crate::regime::Regime;
use crate::table::{IoPgtable, from_start};

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Maps the range if an existing table can map all of it with leaves of one level. `false`: nothing changed.
    #[inline(never)]
    pub(crate) fn map_fast(&self, iova: Iova, pa: Pa, size: u64, attrs: Attrs, sizes: u64) -> bool {
        let Some(bits) = R::leaf_bits(self.cfg().quirks, attrs) else { return false };
        let input = self.low(iova);
        if !self.has_both(input, pa.0) {
            return false;
        }
        let run = Run { iova: input, pa: pa.0, size, bits, sizes };
        // Leaves of one table that begin in the input space also end in it. The same is true of an aligned leaf in the
        // output space.
        from_start!(self, L => self.map_fast_below::<L>(self.root_table(), None, run))
    }

    #[inline(always)]
    fn map_fast_below<L: Level>(&self, table: Table, parent: Option<Slot>, run: Run) -> bool {
        let index = table.index(run.iova, At::<R::Granule, L>::SHIFT);
        let desc = table.load(index);
        if !L::LAST && desc & desc::TYPE == desc::TABLE {
            let child = Table::child::<R::Granule, M>(self.memory(), desc);
            return self.map_fast_below::<L::Next>(child, Some(table.slot(index)), run);
        }
        let misaligned = (run.iova | run.pa) & At::<R::Granule, L>::OFFSET != 0;
        if desc & VALID != 0 || misaligned || run.sizes & At::<R::Granule, L>::SIZE == 0 {
            return false;
        }
        if run.size != At::<R::Granule, L>::SIZE {
            let last = run.pa.wrapping_add(run.size.wrapping_sub(1));
            let n = usize::try_from(run.size.wrapping_shr(At::<R::Granule, L>::SHIFT)).unwrap_or(usize::MAX);
            if n == 0 || run.size & At::<R::Granule, L>::OFFSET != 0 || !self.has_output(last) {
                return false;
            }
            return self.map_several::<L>(table, index, n, parent, run.desc::<L>());
        }
        table.store(index, run.desc::<L>());
        self.clean(table, index, 1);
        self.count_fast(parent, 1);
        true
    }

    /// Maps more than one leaf, from `index` on. Out of line, so that the code for a single leaf needs few registers.
    #[inline(never)]
    fn map_several<L: Level>(&self, table: Table, index: usize, n: usize, parent: Option<Slot>, first: u64) -> bool {
        if n > table.left(index) || !table.vacant(index, n) {
            return false;
        }
        table.store_run(index, n, first, At::<R::Granule, L>::SIZE);
        self.clean(table, index, n);
        self.count_fast(parent, u64::try_from(n).unwrap_or(0));
        true
    }

    /// Unmaps the range if it consists of whole leaves of one level in one table that has other leaves; returns the
    /// size of a leaf. `None`: nothing changed.
    #[inline(never)]
    pub(crate) fn unmap_fast(&self, iova: Iova, size: u64) -> Option<u64> {
        let start = self.input(iova, size)?;
        let span = Span { start, last: start.wrapping_add(size.wrapping_sub(1)) };
        from_start!(self, L => self.unmap_fast_below::<L>(self.root_table(), None, span))
    }

    #[inline(always)]
    fn unmap_fast_below<L: Level>(&self, table: Table, parent: Option<Slot>, span: Span) -> Option<u64> {
        let index = table.index(span.start, At::<R::Granule, L>::SHIFT);
        let desc = table.load(index);
        if !L::LAST && desc & desc::TYPE == desc::TABLE {
            let child = Table::child::<R::Granule, M>(self.memory(), desc);
            return self.unmap_fast_below::<L::Next>(child, Some(table.slot(index)), span);
        }
        if desc & VALID == 0 || (span.start | !span.last) & At::<R::Granule, L>::OFFSET != 0 {
            return None;
        }
        let more = span.last.wrapping_sub(span.start).wrapping_shr(At::<R::Granule, L>::SHIFT);
        if more != 0 {
            let n = usize::try_from(more).ok()?.wrapping_add(1);
            return self.unmap_several::<L>(table, index, n, parent);
        }
        if parent.is_some_and(|parent| desc::count::<R::Granule>(parent.load()) == 1) {
            return None;
        }
        table.store(index, 0);
        self.clean(table, index, 1);
        self.count_fast(parent, 1u64.wrapping_neg());
        Some(At::<R::Granule, L>::SIZE)
    }

    #[inline(never)]
    fn unmap_several<L: Level>(&self, table: Table, index: usize, n: usize, parent: Option<Slot>) -> Option<u64> {
        let removed = u64::try_from(n).unwrap_or(0);
        let count = parent.map(|parent| desc::count::<R::Granule>(parent.load()));
        if count == Some(removed) || n > table.left(index) {
            return None;
        }
        // A full table of pages needs no check, and most are full.
        let kind = if L::LAST { desc::PAGE } else { desc::BLOCK };
        let full = L::LAST && count == u64::try_from(R::Granule::ENTRIES).ok();
        if !full && !table.all_of_type(index, n, kind) {
            return None;
        }
        table.clear_run(index, n);
        self.clean(table, index, n);
        self.count_fast(parent, removed.wrapping_neg());
        Some(At::<R::Granule, L>::SIZE)
    }

    /// Adds to the count of the table; the root has none. Walkers ignore the count, so no cache clean is needed.
    #[inline(always)]
    fn count_fast(&self, parent: Option<Slot>, n: u64) {
        if let Some(parent) = parent {
            parent.store(desc::add_count::<R::Granule>(parent.load(), n));
        }
    }
}

#[cfg(test)]
mod tests;
