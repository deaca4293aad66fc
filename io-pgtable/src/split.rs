//! Splits: the table that replaces a block and already lacks the unmapped pages (the hole), and the nT change before
//! it.

use crate::build::fill_leaves;
use crate::chain::TableList;
use crate::desc::{self, ADDR, VALID};
use crate::granule::{At, Granule, Level};
use crate::pte::{Table, TableMemory};
use crate::range::{Span, index_in};
use crate::regime::Regime;
use crate::table::{IoPgtable, from_start};
use crate::tlb::{TlbError, TlbOps, TlbScope};

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Builds the table that replaces block `desc` of level `L` and lacks the hole; returns its descriptor.
    pub(crate) fn split<L: Level>(&self, desc: u64, hole: Span, spares: &mut TableList) -> Option<u64> {
        let mut fresh = spares.take::<R::Granule, M>(self.memory())?;
        let size = At::<R::Granule, L::Next>::SIZE;
        let kind = if L::Next::LAST { desc::PAGE } else { desc::BLOCK };
        let pa = desc & ADDR & !At::<R::Granule, L>::OFFSET;
        let piece = pa | desc & !(ADDR | desc::TYPE | desc::NT) | kind;
        let first = index_in::<R::Granule, L::Next>(hole.start);
        let last = index_in::<R::Granule, L::Next>(hole.last);
        let after = last.wrapping_add(1);
        let at = |index: usize| {
            let offset = u64::try_from(index).unwrap_or(0).wrapping_mul(size);
            piece.wrapping_add(offset)
        };
        let mut count = R::Granule::ENTRIES.wrapping_sub(after.wrapping_sub(first));
        fill_leaves::<R::Granule, L::Next>(fresh.words().get_mut(..first)?, at(0));
        fresh.words().get_mut(first..after)?.fill(0);
        fill_leaves::<R::Granule, L::Next>(fresh.words().get_mut(after..)?, at(after));
        if !L::Next::LAST {
            // The first and the last descriptor of the hole may be only partly in it and then need a split; if both are
            // the same descriptor, it is split once.
            let head = hole.head::<R::Granule, L::Next>();
            let tail = Span { start: hole.start.max(hole.last & !At::<R::Granule, L::Next>::OFFSET), last: hole.last };
            for (index, part) in [(first, head), (last, tail)] {
                if !part.whole::<R::Granule, L::Next>() && *fresh.words().get(index)? == 0 {
                    let desc = self.split::<L::Next>(at(index), part, spares)?;
                    *fresh.words().get_mut(index)? = desc;
                    count = count.wrapping_add(1);
                }
            }
        }
        Some(self.finish(&fresh, count))
    }

    /// Marks the blocks at the ends of the span nT and invalidates them: after that no TLB has an entry of them.
    pub(crate) fn mark_not_cached(&self, root: Table, span: Span, tlb: &mut impl TlbOps) -> Result<(), TlbError> {
        let mut all = span;
        for end in [span.start, span.last] {
            from_start!(self, L => self.mark_block::<L>(root, end, span, &mut all));
        }
        self.invalidate(all, R::Granule::PAGE, TlbScope::Leaf, tlb)
    }

    /// Sets nT in the block at `iova` if the span covers it in part.
    fn mark_block<L: Level>(&self, table: Table, iova: u64, span: Span, all: &mut Span) {
        let index = table.index(iova, At::<R::Granule, L>::SHIFT);
        let desc = table.load(index);
        if L::LAST || desc & VALID == 0 {
            return;
        }
        if desc & desc::TYPE == desc::TABLE {
            let child = Table::child::<R::Granule, M>(self.memory(), desc);
            return self.mark_block::<L::Next>(child, iova, span, all);
        }
        let block = Span { start: iova & !At::<R::Granule, L>::OFFSET, last: iova | At::<R::Granule, L>::OFFSET };
        if block.start < span.start || block.last > span.last {
            table.store(index, desc | desc::NT);
            self.clean(table, index, 1);
            all.start = all.start.min(block.start);
            all.last = all.last.max(block.last);
        }
    }
}

/// Number of tables needed to split a block of level `L` for a hole.
pub(crate) fn tables_to_split<G: Granule, L: Level>(hole: Span) -> usize {
    let mut need = 1usize;
    if L::LAST || L::Next::LAST {
        return need;
    }
    let head = hole.head::<G, L::Next>();
    if !head.whole::<G, L::Next>() {
        need = need.saturating_add(tables_to_split::<G, L::Next>(head));
    }
    let tail = Span { start: hole.last & !At::<G, L::Next>::OFFSET, last: hole.last };
    if tail.start > head.last && !tail.whole::<G, L::Next>() {
        need = need.saturating_add(tables_to_split::<G, L::Next>(tail));
    }
    need
}
