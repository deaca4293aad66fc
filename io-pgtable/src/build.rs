//! Mapping that needs new tables: a pass that checks and counts, then a pass that cannot fail.
//!
//! Tables that do not exist yet are built privately with plain stores, from the bottom up, and linked by one store.

use crate::Iova;
use crate::chain::{Fate, TableList};
use crate::desc::{self, VALID};
use crate::error::MapError;
use crate::granule::{At, Granule, L1, L2, L3, Level};
use crate::pte::{Fresh, Table, TableMemory};
use crate::regime::Regime;
use crate::run::{Run, index_in, size_of_leaves};
use crate::table::{IoPgtable, alloc_table, from_start};

/// What a mapping needs, computed by the check pass.
#[derive(Default)]
struct Plan {
    /// Tables.
    need: usize,
    /// Invalid descriptors of live tables that will link new ones.
    gaps: usize,
    /// Level of the table that the first of them will link, and what it will map.
    gap: Option<(u32, Run)>,
    /// How to count the tables of the first gap; `None` once they are counted.
    first: Option<fn(Run) -> usize>,
}

impl Plan {
    /// Adds a gap. Tables are counted from the second gap on: a single one is built directly.
    fn add(&mut self, level: u32, head: Run, tables_for: fn(Run) -> usize) {
        if self.gap.is_none() {
            self.gap = Some((level, head));
            self.first = Some(tables_for);
        } else {
            let first = self.gap.zip(self.first.take()).map_or(0, |((_, head), tables_for)| tables_for(head));
            self.need = self.need.saturating_add(first).saturating_add(tables_for(head));
        }
        self.gaps = self.gaps.saturating_add(1);
    }
}

/// Where new tables come from.
struct TableSource {
    spares: TableList,
    /// A tree for the only gap, complete but not linked.
    built: Option<u64>,
    /// Tables may be allocated during the build, since nothing is linked yet that would have to be undone.
    direct: bool,
    allocated: usize,
    /// Trees that were abandoned because memory ran out.
    abandoned: TableList,
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Checks and counts, allocates, then maps. Out of line, so that the fast path needs few registers.
    #[inline(never)]
    pub(crate) fn map_slow(
        &mut self,
        at: Iova,
        iova: u64,
        pa: u64,
        size: u64,
        bits: u64,
        sizes: u64,
    ) -> Result<(), MapError> {
        let run = Run { iova, pa, size, bits, sizes };
        let root = self.root_table();
        let mut plan = Plan::default();
        if !from_start!(self, L => self.check_map::<L>(root, run, &mut plan)) {
            return Err(self.overlap(at, run.size));
        }
        let mut source = self.source(&plan).ok_or(MapError::NoMemory)?;
        from_start!(self, L => self.fill_live::<L>(root, run, &mut source));
        self.reclaim(source.spares, Fate::Free);
        Ok(())
    }

    /// Allocates all the tables that a plan needs, so that the rest cannot fail; `None` and nothing allocated
    /// otherwise.
    fn source(&mut self, plan: &Plan) -> Option<TableSource> {
        let mut source = TableSource {
            spares: TableList::EMPTY,
            built: None,
            direct: false,
            allocated: 0,
            abandoned: TableList::EMPTY,
        };
        // The common case of one gap needs no spare tables: its tree is built before any live table changes.
        let Some((level, run)) = plan.gap.filter(|_| plan.gaps == 1) else {
            source.spares = self.alloc_spares(plan.need)?;
            return Some(source);
        };
        source.direct = true;
        source.built = match level {
            1 => self.build::<L1>(run, &mut source),
            2 => self.build::<L2>(run, &mut source),
            _ => self.build::<L3>(run, &mut source),
        };
        self.tables = self.tables.saturating_add(source.allocated);
        if source.built.is_none() {
            self.reclaim(source.abandoned, Fate::Free);
            return None;
        }
        Some(source)
    }

    /// Whether nothing is mapped in the run; adds the needed tables to `plan`.
    fn check_map<L: Level>(&self, table: Table, mut run: Run, plan: &mut Plan) -> bool {
        while run.size != 0 {
            let index = table.index(run.iova, At::<R::Granule, L>::SHIFT);
            let n = run.leaves::<R::Granule, L>(table.left(index));
            if n != 0 {
                if !table.vacant(index, n) {
                    return false;
                }
                run = run.after(size_of_leaves::<R::Granule, L>(n));
                continue;
            }
            let head = run.head::<R::Granule, L>();
            let desc = table.load(index);
            if desc & VALID == 0 {
                plan.add(L::Next::N, head, tables_for::<R::Granule, L::Next>);
            } else {
                if L::LAST || desc & desc::TYPE != desc::TABLE {
                    return false;
                }
                let child = Table::child::<R::Granule, M>(&self.mem, desc);
                if !self.check_map::<L::Next>(child, head, plan) {
                    return false;
                }
            }
            run = run.after(head.size);
        }
        true
    }

    /// Maps a checked run into a live table; returns how many of its descriptors became valid.
    fn fill_live<L: Level>(&self, table: Table, mut run: Run, source: &mut TableSource) -> usize {
        let mut added = 0usize;
        while run.size != 0 {
            let index = table.index(run.iova, At::<R::Granule, L>::SHIFT);
            let n = run.leaves::<R::Granule, L>(table.left(index));
            if n != 0 {
                self.store_leaves::<L>(table, index, n, run);
                added = added.wrapping_add(n);
                run = run.after(size_of_leaves::<R::Granule, L>(n));
                continue;
            }
            if L::LAST {
                break;
            }
            let head = run.head::<R::Granule, L>();
            let desc = table.load(index);
            if desc & VALID == 0 {
                let built = source.built.take();
                let Some(desc) = built.or_else(|| self.build::<L::Next>(head, source)) else { break };
                self.link(table, index, desc);
                added = added.wrapping_add(1);
            } else {
                let child = Table::child::<R::Granule, M>(&self.mem, desc);
                let n = self.fill_live::<L::Next>(child, head, source);
                self.add_count(table, index, n);
            }
            run = run.after(head.size);
        }
        added
    }

    /// Builds a table of level `L` that maps the run and nothing else; returns its table descriptor. `None` without
    /// memory for all of it; the partial tree is put on the list of abandoned trees.
    fn build<L: Level>(&self, run: Run, source: &mut TableSource) -> Option<u64> {
        let mut fresh = self.take(source)?;
        let first = index_in::<R::Granule, L>(run.iova);
        if let Some(unused) = fresh.words().get_mut(..first) {
            fill_invalid(unused);
        }
        let mut next = first;
        let mut run = run;
        let mut complete = true;
        while run.size != 0 && complete {
            let room = R::Granule::ENTRIES.wrapping_sub(next);
            let n = run.leaves::<R::Granule, L>(room);
            if n != 0 {
                if let Some(words) = fresh.words().get_mut(next..next.wrapping_add(n)) {
                    fill_leaves::<R::Granule, L>(words, run.desc::<L>());
                }
                run = run.after(size_of_leaves::<R::Granule, L>(n));
                next = next.wrapping_add(n);
                continue;
            }
            let head = run.head::<R::Granule, L>();
            let below = if L::LAST { None } else { self.build::<L::Next>(head, source) };
            match (below, fresh.words().get_mut(next)) {
                (Some(desc), Some(word)) => *word = desc,
                _ => complete = false,
            }
            if complete {
                run = run.after(head.size);
                next = next.wrapping_add(1);
            }
        }
        if let Some(unused) = fresh.words().get_mut(next..) {
            fill_invalid(unused);
        }
        let desc = self.finish(&fresh, next.wrapping_sub(first));
        if !complete {
            source.abandoned.push_detached::<R::Granule, M, L>(&self.mem, desc);
            return None;
        }
        Some(desc)
    }

    /// A new table, from the spare tables or from memory.
    #[inline]
    fn take(&self, source: &mut TableSource) -> Option<Fresh> {
        if !source.direct {
            return source.spares.take::<R::Granule, M>(&self.mem);
        }
        let pa = alloc_table(&self.mem, R::Granule::TABLE_BYTES, self.cfg.oas)?;
        source.allocated = source.allocated.saturating_add(1);
        Some(Fresh::at(&self.mem, pa, R::Granule::ENTRIES.wrapping_sub(1)))
    }

    /// Makes a private table ready to be linked: returns its descriptor.
    #[inline]
    pub(crate) fn finish(&self, fresh: &Fresh, count: usize) -> u64 {
        if !self.cfg.coherent_walk {
            fresh.clean(&self.mem);
        }
        self.table_desc(fresh.pa, u64::try_from(count).unwrap_or(0))
    }

    /// Links a finished table: its content is visible to every walker before the descriptor.
    #[inline]
    pub(crate) fn link(&self, table: Table, index: usize, desc: u64) {
        table.link(&self.mem, index, desc);
        self.clean(table, index, 1);
    }

    /// Stores `n` leaves into a live table.
    #[inline]
    fn store_leaves<L: Level>(&self, table: Table, first: usize, n: usize, run: Run) {
        table.store_run(first, n, run.desc::<L>(), At::<R::Granule, L>::SIZE);
        self.clean(table, first, n);
    }

    /// Adds to the live count in a table descriptor. Walkers ignore these bits, so no cache clean is needed.
    #[inline]
    fn add_count(&self, table: Table, index: usize, n: usize) {
        let n = u64::try_from(n).unwrap_or(0);
        table.store(index, desc::add_count::<R::Granule>(table.load(index), n));
    }

    /// Cleans descriptors for a walker that does not snoop.
    #[inline]
    pub(crate) fn clean(&self, table: Table, first: usize, n: usize) {
        if !self.cfg.coherent_walk {
            table.clean(&self.mem, first, n);
        }
    }
}

/// Consecutive leaves of level `L` in a private table. The step is a constant, so the compiler uses vector stores.
#[inline(never)]
pub(crate) fn fill_leaves<G: Granule, L: Level>(words: &mut [u64], first: u64) {
    const PIECE: usize = 64;
    let step = At::<G, L>::SIZE;
    let mut desc = first;
    let (pieces, rest) = words.as_chunks_mut::<PIECE>();
    for piece in pieces {
        let mut offset = 0;
        for word in piece {
            *word = desc.wrapping_add(offset);
            offset = offset.wrapping_add(step);
        }
        desc = desc.wrapping_add(offset);
    }
    for word in rest {
        *word = desc;
        desc = desc.wrapping_add(step);
    }
}

/// Invalid descriptors in a private table. In pieces of 128 words: for a page or less, a memset (`rep stos`) takes
/// longer to start than to run.
#[inline]
pub(crate) fn fill_invalid(words: &mut [u64]) {
    if !words.is_empty() {
        fill_some_invalid(words);
    }
}

#[inline(never)]
fn fill_some_invalid(words: &mut [u64]) {
    for piece in words.chunks_mut(128) {
        piece.fill(0);
    }
}

/// Tables that it takes to map a run below an invalid descriptor: one of level `L` and those under it.
fn tables_for<G: Granule, L: Level>(mut run: Run) -> usize {
    let mut need = 1usize;
    if L::LAST {
        return need;
    }
    while run.size != 0 {
        let n = run.leaves::<G, L>(G::ENTRIES);
        if n != 0 {
            run = run.after(size_of_leaves::<G, L>(n));
            continue;
        }
        let head = run.head::<G, L>();
        need = need.saturating_add(tables_for::<G, L::Next>(head));
        run = run.after(head.size);
    }
    need
}
