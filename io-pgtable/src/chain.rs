//! Chains of tables that no descriptor names: spares before they are used, detached tables until they may be freed.
//!
//! A chain needs no memory of its own. It runs through the first descriptors of its tables, and bit 0 of a link is clear: a
//! walker that still reaches a detached table finds an invalid descriptor there, which is what it is going to find.

use crate::Pa;
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
pub(crate) struct Chain(u64);

/// What becomes of detached tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No walker can reach them: they go back to their memory.
    Free,
    /// A walker may still use them: they are lost.
    Quarantine,
}

impl Chain {
    /// No table.
    pub(crate) const EMPTY: Self = Self(NEXT);

    /// Puts one table, without what is below it, in front.
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

    /// Puts the table of level `L` that `desc` names, with all below it, in front. It is detached.
    ///
    /// Only what the link overwrites is looked at: the rest of the tree stays as it is until it is reclaimed.
    pub(crate) fn bury<G: Granule, M: TableMemory, L: Level>(&mut self, mem: &M, desc: u64) {
        if !L::LAST {
            let first = Table::child::<G, M>(mem, desc).load(0);
            if first & desc::TYPE == desc::TABLE {
                self.bury::<G, M, L::Next>(mem, first);
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
    pub(crate) fn stock(&mut self, n: usize) -> Option<Chain> {
        let mut spares = Chain::EMPTY;
        for _ in 0..n {
            let Some(pa) = alloc_table(&self.mem, R::Granule::TABLE_BYTES, self.cfg.oas) else {
                self.reclaim(spares, Fate::Free);
                return None;
            };
            self.tables = self.tables.saturating_add(1);
            spares.push::<R::Granule, M>(&self.mem, pa);
        }
        Some(spares)
    }

    /// Ends every tree on a chain.
    pub(crate) fn reclaim(&mut self, mut chain: Chain, fate: Fate) {
        while let Some((pa, level)) = chain.pop::<R::Granule, M>(&self.mem) {
            if level < LAST_LEVEL {
                // The first descriptor held the link; what it named is on the chain itself.
                self.reclaim_below(pa, level, 1, fate);
            }
            self.reclaim_table(pa, fate);
        }
    }

    /// Ends every tree that the descriptors of a table from `first` on name.
    fn reclaim_below(&mut self, pa: Pa, level: u64, first: usize, fate: Fate) {
        let table = Table::at(&self.mem, pa, R::Granule::ENTRIES.wrapping_sub(1));
        for index in first..R::Granule::ENTRIES {
            let desc = table.load(index);
            if desc & desc::TYPE != desc::TABLE {
                continue;
            }
            let child = Pa(desc & ADDR);
            let below = level.wrapping_add(1);
            if below < LAST_LEVEL {
                self.reclaim_below(child, below, 0, fate);
            }
            self.reclaim_table(child, fate);
        }
    }

    /// Ends one table.
    #[inline]
    pub(crate) fn reclaim_table(&mut self, pa: Pa, fate: Fate) {
        self.tables = self.tables.saturating_sub(1);
        match fate {
            Fate::Free => self.mem.free(pa, R::Granule::TABLE_BYTES),
            Fate::Quarantine => self.quarantined = self.quarantined.saturating_add(R::Granule::TABLE_BYTES),
        }
    }
}
