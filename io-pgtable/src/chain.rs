//! Lists of unlinked tables: spare tables before they are used, detached tables until they may be freed.
//!
//! A list needs no memory of its own: the link is in the first descriptor of each table. Bit 0 of a link is clear, so a
//! walker that still reaches a detached table reads an invalid descriptor there.

use crate::addr::Pa;
use crate::desc::{self, ADDR};
use crate::granule::{Granule, Level};
use crate::pte::{Fresh, Table, TableMemory};
use crate::regime::Regime;
use crate::table::{IoPgtable, alloc_table};

/// Bits of a link that hold the address of the next table; the level of the table itself is below them.
const NEXT: u64 = !0xfff;
const LEVEL_SHIFT: u32 = 1;
const LEVEL: u64 = 0b11 << LEVEL_SHIFT;
const LAST_LEVEL: u64 = 3;

/// The address of the first table of a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableList(u64);

/// How detached tables are disposed of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposal {
    /// No walker can use them: free them.
    Free,
    /// A walker may still use them: never free them.
    Quarantine,
}

impl TableList {
    /// The empty list.
    pub(crate) const EMPTY: Self = Self(NEXT);

    /// Adds one table, without its child tables, at the front.
    #[inline]
    pub(crate) fn push<G: Granule, M: TableMemory>(&mut self, mem: &M, pa: Pa) {
        self.push_at::<G, M>(mem, pa, LAST_LEVEL);
    }

    #[inline]
    fn push_at<G: Granule, M: TableMemory>(&mut self, mem: &M, pa: Pa, level: u64) {
        let link = self.0 | level.wrapping_shl(LEVEL_SHIFT);
        Table::at(mem, pa, G::ENTRIES.wrapping_sub(1)).store(0, link);
        self.0 = pa.0;
    }

    /// Adds the detached table of level `L` that `desc` points to, with its child tables, at the front.
    ///
    /// Only the descriptor that the link overwrites is read: the rest of the tree is unchanged until it is freed.
    pub(crate) fn push_detached<G: Granule, M: TableMemory, L: Level>(&mut self, mem: &M, desc: u64) {
        if !L::LAST {
            let first = Table::child::<G, M>(mem, desc).load(0);
            if first & desc::TYPE == desc::TABLE {
                self.push_detached::<G, M, L::Next>(mem, first);
            }
        }
        self.push_at::<G, M>(mem, Pa(desc & ADDR), u64::from(L::N));
    }

    /// Takes one spare table out; `None` when there is none.
    #[inline]
    pub(crate) fn take<G: Granule, M: TableMemory>(&mut self, mem: &M) -> Option<Fresh> {
        let (pa, _) = self.pop::<G, M>(mem)?;
        Some(Fresh::at(mem, pa, G::ENTRIES.wrapping_sub(1)))
    }

    /// Takes the first table out, with its level.
    #[inline]
    fn pop<G: Granule, M: TableMemory>(&mut self, mem: &M) -> Option<(Pa, u64)> {
        if *self == Self::EMPTY {
            return None;
        }
        let pa = Pa(self.0);
        let link = Table::at(mem, pa, G::ENTRIES.wrapping_sub(1)).load(0);
        self.0 = link & NEXT;
        Some((pa, (link & LEVEL).wrapping_shr(LEVEL_SHIFT)))
    }
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Allocates `n` tables; none stays allocated on failure.
    pub(crate) fn alloc_spares(&mut self, n: usize) -> Option<TableList> {
        let mut spares = TableList::EMPTY;
        for _ in 0..n {
            let Some(pa) = alloc_table(self.memory(), R::Granule::TABLE_BYTES, self.cfg().oas) else {
                self.dispose(spares, Disposal::Free);
                return None;
            };
            self.count_table();
            spares.push::<R::Granule, M>(self.memory(), pa);
        }
        Some(spares)
    }

    /// Frees or quarantines every table on the list, with its child tables.
    pub(crate) fn dispose(&mut self, mut chain: TableList, disposal: Disposal) {
        while let Some((pa, level)) = chain.pop::<R::Granule, M>(self.memory()) {
            if level < LAST_LEVEL {
                // The first descriptor has the list link; the table that it pointed to is also on the list.
                self.dispose_below(pa, level, 1, disposal);
            }
            self.dispose_table(pa, disposal);
        }
    }

    /// Frees or quarantines every child table, with its own child tables, from descriptor `first` on.
    fn dispose_below(&mut self, pa: Pa, level: u64, first: usize, disposal: Disposal) {
        let table = Table::at(self.memory(), pa, R::Granule::ENTRIES.wrapping_sub(1));
        for index in first..R::Granule::ENTRIES {
            let desc = table.load(index);
            if desc & desc::TYPE != desc::TABLE {
                continue;
            }
            let child = Pa(desc & ADDR);
            let below = level.wrapping_add(1);
            if below < LAST_LEVEL {
                self.dispose_below(child, below, 0, disposal);
            }
            self.dispose_table(child, disposal);
        }
    }

    /// Frees or quarantines one table.
    #[inline]
    pub(crate) fn dispose_table(&mut self, pa: Pa, disposal: Disposal) {
        match disposal {
            Disposal::Free => self.free_table(pa),
            Disposal::Quarantine => self.quarantine_table(),
        }
    }
}
