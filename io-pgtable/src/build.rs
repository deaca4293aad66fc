//! Builds the tables that a mapping needs, from the last level up and with plain stores, since they are not linked
//! yet.

use crate::chain::TableList;
use crate::granule::{At, Granule, Level};
use crate::pte::{Fresh, Table, TableMemory};
use crate::range::{Run, index_in, size_of_leaves};
use crate::regime::Regime;
use crate::table::IoPgtable;

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Builds a table of level `L` that maps the run and nothing else; returns its table descriptor. `None` if there
    /// are fewer than [`tables_for`] spare tables; then nothing is linked.
    pub(crate) fn build<L: Level>(&self, mut run: Run, spares: &mut TableList) -> Option<u64> {
        let mut fresh = spares.take::<R::Granule, M>(self.memory())?;
        let first = index_in::<R::Granule, L>(run.iova);
        fill_invalid(fresh.words().get_mut(..first)?);
        let mut next = first;
        while run.size != 0 {
            let n = run.leaves::<R::Granule, L>(R::Granule::ENTRIES.wrapping_sub(next));
            if n != 0 {
                fill_leaves::<R::Granule, L>(fresh.words().get_mut(next..next.wrapping_add(n))?, run.desc::<L>());
                run = run.after(size_of_leaves::<R::Granule, L>(n));
                next = next.wrapping_add(n);
                continue;
            }
            let head = run.head::<R::Granule, L>();
            let below = if L::LAST { None } else { self.build::<L::Next>(head, spares) };
            *fresh.words().get_mut(next)? = below?;
            run = run.after(head.size);
            next = next.wrapping_add(1);
        }
        fill_invalid(fresh.words().get_mut(next..)?);
        Some(self.finish(&fresh, next.wrapping_sub(first)))
    }

    /// Cleans a complete table if the walker does not snoop; returns its descriptor.
    #[inline]
    pub(crate) fn finish(&self, fresh: &Fresh, count: usize) -> u64 {
        if !self.cfg().coherent_walk {
            fresh.clean(self.memory());
        }
        self.table_desc(fresh.pa, u64::try_from(count).unwrap_or(0))
    }

    /// Links a complete table: its content is visible to every walker before the descriptor.
    #[inline]
    pub(crate) fn link(&self, table: Table, index: usize, desc: u64) {
        table.link(self.memory(), index, desc);
        self.clean(table, index, 1);
    }

    /// Cleans descriptors for a walker that does not snoop.
    #[inline]
    pub(crate) fn clean(&self, table: Table, first: usize, n: usize) {
        if !self.cfg().coherent_walk {
            table.clean(self.memory(), first, n);
        }
    }
}

/// Writes consecutive leaves of level `L` into an unlinked table. The step is a constant, so the compiler uses vector
/// stores.
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

/// Writes invalid descriptors into an unlinked table. In pieces of 128 words: for a page or less, a memset (`rep stos`)
/// takes longer to start than to run.
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

/// Number of tables needed to map a run below an invalid descriptor: one of level `L` and its child tables.
pub(crate) fn tables_for<G: Granule, L: Level>(mut run: Run) -> usize {
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
