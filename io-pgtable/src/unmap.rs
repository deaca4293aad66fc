//! Unmapping: check, then apply.
//!
//! The check changes nothing and counts the tables that splits need. They are allocated before the first store. The
//! second step detaches, invalidates one range, syncs once, and frees. A block that is unmapped in part is replaced by
//! a table that already has the hole.

use crate::addr::{Iova, Pa};
use crate::cfg::Bbm;
use crate::chain::{Disposal, TableList};
use crate::desc::{self, ADDR, VALID};
use crate::error::UnmapError;
use crate::granule::{At, Granule, Level};
use crate::pte::{Table, TableMemory};
use crate::range::Span;
use crate::regime::Regime;
use crate::split::tables_to_split;
use crate::table::{IoPgtable, from_start};
use crate::tlb::{TlbError, TlbOps, TlbRange, TlbScope};

/// A checked removal.
struct UnmapPlan {
    /// The range, all of it mapped.
    span: Span,
    /// Number of tables that splits need, exact.
    tables: usize,
}

/// The changes of one call, for the invalidation and the steps after it.
struct Gather {
    span: Span,
    granule: u64,
    scope: TlbScope,
    /// Detached tables.
    detached: TableList,
    spares: TableList,
    /// Tables that replace the blocks at the two ends of the range, to be linked after the sync (break-before-make).
    pending: [Option<(Table, usize, u64)>; 2],
}

impl Gather {
    /// Records that a leaf of `size` bytes was unmapped.
    #[inline]
    fn leaf(&mut self, size: u64) {
        self.granule = self.granule.min(size);
    }
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Unmaps `size` bytes from `iova`, which must be mapped completely. Blocks that are covered in part are split.
    ///
    /// On success no walker can use the old translations any more, and tables that became empty are freed. At most one
    /// range is invalidated, with one sync ([`Bbm::Level1`] takes two of each when it splits).
    ///
    /// # Errors
    /// [`UnmapError`]; except for [`UnmapError::Tlb`] the table is then unchanged.
    #[inline]
    pub fn unmap(&mut self, iova: Iova, size: u64, tlb: &mut impl TlbOps) -> Result<(), UnmapError> {
        if let Some(granule) = self.unmap_fast(iova, size) {
            self.memory().publish();
            tlb.invalidate(TlbRange { iova, size, granule, scope: TlbScope::Leaf });
            return tlb.sync().map_err(UnmapError::Tlb);
        }
        self.unmap_any(iova, size, tlb)
    }

    /// Checks the arguments.
    fn span(&self, iova: Iova, size: u64) -> Result<Span, UnmapError> {
        if size == 0 || (iova.0 | size) & R::Granule::PAGE.wrapping_sub(1) != 0 {
            return Err(UnmapError::Misaligned);
        }
        let start = self.input(iova, size).ok_or(UnmapError::OutOfRange)?;
        Ok(Span { start, last: start.wrapping_add(size.wrapping_sub(1)) })
    }

    /// Unmaps any range: checks, allocates, applies.
    #[inline(never)]
    pub(crate) fn unmap_any(&mut self, iova: Iova, size: u64, tlb: &mut impl TlbOps) -> Result<(), UnmapError> {
        let plan = self.plan_unmap(self.span(iova, size)?)?;
        let spares = self.alloc_spares(plan.tables).ok_or(UnmapError::NoMemory)?;
        self.apply_unmap(&plan, spares, tlb).map_err(UnmapError::Tlb)
    }

    fn plan_unmap(&self, span: Span) -> Result<UnmapPlan, UnmapError> {
        let (root, mut tables) = (self.root_table(), 0);
        from_start!(self, L => self.check_unmap::<L>(root, span, &mut tables))
            .map_err(|hole| UnmapError::NotMapped(self.iova(hole)))?;
        Ok(UnmapPlan { span, tables })
    }

    /// Unmaps a checked span with as many spare tables as it needs. After an error the table is the same as after
    /// success: only the detached tables are not freed.
    fn apply_unmap(&mut self, plan: &UnmapPlan, spares: TableList, tlb: &mut impl TlbOps) -> Result<(), TlbError> {
        let (root, span) = (self.root_table(), plan.span);
        let mut marked = Ok(());
        if self.cfg().bbm == Bbm::Level1 && plan.tables != 0 {
            marked = self.mark_not_cached(root, span, tlb);
        }
        let mut gather = Gather {
            span,
            granule: u64::MAX,
            scope: TlbScope::Leaf,
            detached: TableList::EMPTY,
            spares,
            pending: [None, None],
        };
        from_start!(self, L => self.detach::<L>(root, span, &mut gather));
        debug_assert!(gather.spares == TableList::EMPTY, "the check counts the tables exactly");
        let synced = self.invalidate(gather.span, gather.granule, gather.scope, tlb);
        for (table, index, desc) in gather.pending.into_iter().flatten() {
            self.link(table, index, desc);
            self.memory().publish();
        }
        let done = marked.and(synced);
        self.dispose(gather.detached, if done.is_ok() { Disposal::Free } else { Disposal::Quarantine });
        done
    }

    #[inline]
    fn clear(&self, table: Table, first: usize, n: usize) {
        table.clear_run(first, n);
        self.clean(table, first, n);
    }

    /// Publishes the stores, invalidates one range, and syncs.
    pub(crate) fn invalidate(
        &self,
        span: Span,
        granule: u64,
        scope: TlbScope,
        tlb: &mut impl TlbOps,
    ) -> Result<(), TlbError> {
        self.memory().publish();
        let size = span.last.wrapping_sub(span.start).wrapping_add(1);
        let iova = self.iova(span.start);
        tlb.invalidate(TlbRange { iova, size, granule: granule.min(size), scope });
        tlb.sync()
    }

    /// Checks that the span is mapped; adds the tables that splits need to `tables`. Returns the first hole as error.
    fn check_unmap<L: Level>(&self, table: Table, span: Span, tables: &mut usize) -> Result<(), u64> {
        if L::LAST {
            let first = table.index(span.start, At::<R::Granule, L>::SHIFT);
            let n = table.index(span.last, At::<R::Granule, L>::SHIFT).wrapping_sub(first).wrapping_add(1);
            if table.all_of_type(first, n, desc::PAGE) {
                return Ok(());
            }
            let valid = u64::try_from(table.valid_run(first, n)).unwrap_or(0);
            return Err(span.start.wrapping_add(valid.wrapping_shl(At::<R::Granule, L>::SHIFT)));
        }
        let mut rest = Some(span);
        while let Some(span) = rest {
            let head = span.head::<R::Granule, L>();
            let desc = table.load(table.index(span.start, At::<R::Granule, L>::SHIFT));
            if desc & VALID == 0 {
                return Err(span.start);
            }
            if desc & desc::TYPE == desc::TABLE {
                let full = is_full::<R::Granule>(desc);
                // A full table of pages needs no check: the common case of large ranges.
                if !full || !L::Next::LAST {
                    self.check_unmap::<L::Next>(Table::child::<R::Granule, M>(self.memory(), desc), head, tables)?;
                }
            } else if !head.whole::<R::Granule, L>() {
                *tables = tables.saturating_add(tables_to_split::<R::Granule, L>(head));
            }
            rest = span.after(head);
        }
        Ok(())
    }

    /// Removes a checked span from a live table; returns how many of its descriptors became invalid.
    fn detach<L: Level>(&self, table: Table, span: Span, gather: &mut Gather) -> usize {
        if L::LAST {
            let first = table.index(span.start, At::<R::Granule, L>::SHIFT);
            let n = table.index(span.last, At::<R::Granule, L>::SHIFT).wrapping_sub(first).wrapping_add(1);
            self.clear(table, first, n);
            gather.leaf(At::<R::Granule, L>::SIZE);
            return n;
        }
        let mut removed = 0usize;
        let mut rest = Some(span);
        while let Some(span) = rest {
            let head = span.head::<R::Granule, L>();
            let index = table.index(span.start, At::<R::Granule, L>::SHIFT);
            let desc = table.load(index);
            let gone = if desc & desc::TYPE != desc::TABLE {
                self.detach_block::<L>(table, index, desc, head, gather)
            } else if head.whole::<R::Granule, L>() {
                self.clear(table, index, 1);
                gather.scope = TlbScope::Table;
                gather.leaf(R::Granule::PAGE);
                gather.detached.push_detached::<R::Granule, M, L::Next>(self.memory(), desc);
                true
            } else {
                self.detach_from_child::<L>(table, index, desc, head, gather)
            };
            removed = removed.wrapping_add(usize::from(gone));
            rest = span.after(head);
        }
        removed
    }

    /// Removes a part of a child table, and the child if it becomes empty.
    fn detach_from_child<L: Level>(
        &self,
        table: Table,
        index: usize,
        desc: u64,
        span: Span,
        gather: &mut Gather,
    ) -> bool {
        let child = Table::child::<R::Granule, M>(self.memory(), desc);
        let removed = u64::try_from(self.detach::<L::Next>(child, span, gather)).unwrap_or(0);
        let left = desc::count::<R::Granule>(desc).wrapping_sub(removed);
        if left != 0 {
            table.store(index, desc::with_count::<R::Granule>(desc, left));
            return false;
        }
        self.clear(table, index, 1);
        gather.scope = TlbScope::Table;
        gather.detached.push::<R::Granule, M>(self.memory(), Pa(desc & ADDR));
        true
    }

    /// Removes a block, or replaces it by a table that lacks the hole; returns whether the descriptor stays invalid.
    fn detach_block<L: Level>(&self, table: Table, index: usize, desc: u64, hole: Span, gather: &mut Gather) -> bool {
        gather.leaf(At::<R::Granule, L>::SIZE);
        if hole.whole::<R::Granule, L>() {
            self.clear(table, index, 1);
            return true;
        }
        let Some(replacement) = self.split::<L>(desc, hole, &mut gather.spares) else { return false };
        gather.scope = TlbScope::Table;
        gather.leaf(R::Granule::PAGE);
        match self.cfg().bbm {
            Bbm::Level0 => {
                self.clear(table, index, 1);
                // The whole old block must be invalidated before the table is linked.
                gather.span.start = gather.span.start.min(hole.start & !At::<R::Granule, L>::OFFSET);
                gather.span.last = gather.span.last.max(hole.last | At::<R::Granule, L>::OFFSET);
                if let Some(free) = gather.pending.iter_mut().find(|slot| slot.is_none()) {
                    *free = Some((table, index, replacement));
                }
            }
            Bbm::Level1 | Bbm::Level2 => self.link(table, index, replacement),
        }
        false
    }
}

/// Whether every descriptor of the table that `desc` points to is valid.
#[inline]
fn is_full<G: Granule>(desc: u64) -> bool {
    desc::count::<G>(desc) == u64::try_from(G::ENTRIES).unwrap_or(u64::MAX)
}
