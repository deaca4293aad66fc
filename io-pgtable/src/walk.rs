//! Looking things up: flat walks, without callbacks.

use crate::desc::{self, ADDR, VALID};
use crate::granule::{At, Level};
use crate::pte::{Table, TableMemory};
use crate::regime::Regime;
use crate::table::{IoPgtable, from_start};
use crate::{Attrs, Iova, Pa};

/// One page or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First input address of it.
    pub iova: Iova,
    /// First output address of it.
    pub pa: Pa,
    /// Its size in bytes.
    pub size: u64,
    /// What it allows.
    pub attrs: Attrs,
    /// Its level, 1 to 3.
    pub level: u8,
    /// The descriptor itself.
    pub desc: u64,
}

/// The end of a walk: a leaf and its level, or an invalid descriptor and the level where the walk met it.
struct End {
    desc: u64,
    shift: u32,
    level: u32,
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// The output address of `iova` (any alignment); `None` where nothing is mapped.
    #[must_use]
    #[inline]
    pub fn iova_to_phys(&self, iova: Iova) -> Option<Pa> {
        let input = self.input(iova, 1)?;
        let end = from_start!(self, L => self.descend::<L>(self.root_table(), input));
        if end.desc & VALID == 0 {
            return None;
        }
        let offset = 1u64.wrapping_shl(end.shift).wrapping_sub(1);
        Some(Pa(end.desc & ADDR & !offset | input & offset))
    }

    /// The leaf that maps `iova` (any alignment); `None` where nothing is mapped.
    #[must_use]
    pub fn lookup(&self, iova: Iova) -> Option<Leaf> {
        self.leaf_or_gap(self.input(iova, 1)?).ok()
    }

    /// The leaves that map any part of `size` bytes from `iova`, in ascending order; parts outside the space are empty.
    #[must_use]
    pub fn leaves(&self, iova: Iova, size: u64) -> Leaves<'_, R, M> {
        let limit = u64::MAX.wrapping_shr(64u32.wrapping_sub(self.cfg.ias));
        let low = iova.0 ^ self.top;
        let next = (size != 0 && low <= limit).then_some(low);
        let last = low.saturating_add(size.saturating_sub(1)).min(limit);
        Leaves { table: self, next, last }
    }

    /// Walks to the descriptor that decides about `iova`.
    #[inline(always)]
    fn descend<L: Level>(&self, table: Table, iova: u64) -> End {
        let shift = At::<R::Granule, L>::SHIFT;
        let desc = table.load(table.index(iova, shift));
        if L::LAST || desc & desc::TYPE != desc::TABLE {
            return End { desc, shift, level: L::N };
        }
        self.descend::<L::Next>(Table::child::<R::Granule, M>(&self.mem, desc), iova)
    }

    /// The leaf at `input`, or the last input address of the gap there.
    fn leaf_or_gap(&self, input: u64) -> Result<Leaf, u64> {
        let end = from_start!(self, L => self.descend::<L>(self.root_table(), input));
        let size = 1u64.wrapping_shl(end.shift);
        let offset = size.wrapping_sub(1);
        if end.desc & VALID == 0 {
            return Err(input | offset);
        }
        Ok(Leaf {
            iova: Iova(input & !offset | self.top),
            pa: Pa(end.desc & ADDR & !offset),
            size,
            attrs: R::attrs(self.cfg.quirks, end.desc),
            level: u8::try_from(end.level).unwrap_or(3),
            desc: end.desc,
        })
    }
}

/// Iterator over leaves; see [`IoPgtable::leaves`].
pub struct Leaves<'a, R: Regime, M: TableMemory> {
    table: &'a IoPgtable<R, M>,
    next: Option<u64>,
    last: u64,
}

impl<R: Regime, M: TableMemory> Iterator for Leaves<'_, R, M> {
    type Item = Leaf;

    fn next(&mut self) -> Option<Leaf> {
        while let Some(input) = self.next {
            let found = self.table.leaf_or_gap(input);
            let end = match &found {
                Ok(leaf) => input | leaf.size.wrapping_sub(1),
                Err(end) => *end,
            };
            self.next = (end < self.last).then(|| end.wrapping_add(1));
            if let Ok(leaf) = found {
                return Some(leaf);
            }
        }
        None
    }
}
