//! Lookups.

use crate::addr::{Iova, Pa};
use crate::attrs::Attrs;
use crate::desc::{self, ADDR, VALID};
use crate::granule::{At, L3, Level};
use crate::pte::{Table, TableMemory};
use crate::regime::Regime;
use crate::table::{IoPgtable, from_start};

/// One page or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First input address of it.
    pub iova: Iova,
    /// First output address of it.
    pub pa: Pa,
    /// Its size in bytes.
    pub size: u64,
    /// Its permissions and memory type.
    pub attrs: Attrs,
    /// Its level, 1 to 3.
    pub level: u8,
    /// The descriptor itself.
    pub desc: u64,
}

/// Input addresses that are mapped to consecutive output addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First input address.
    pub iova: Iova,
    /// First output address.
    pub pa: Pa,
    /// Size in bytes.
    pub size: u64,
}

/// The end of a walk: a leaf or an invalid descriptor, and its level.
#[derive(Clone, Copy)]
struct End {
    table: Table,
    desc: u64,
    shift: u32,
    level: u32,
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// The output address of `iova` (any alignment); `None` if it is not mapped.
    #[must_use]
    #[inline]
    pub fn iova_to_phys(&self, iova: Iova) -> Option<Pa> {
        let input = self.input(iova, 1)?;
        let end = self.walk(input);
        if end.desc & VALID == 0 {
            return None;
        }
        let offset = 1u64.wrapping_shl(end.shift).wrapping_sub(1);
        Some(Pa(end.desc & ADDR & !offset | input & offset))
    }

    /// Translates `size` bytes from `iova` in one walk: the fewest possible extents, in ascending order, within the
    /// range. Addresses that are not mapped are omitted.
    #[must_use]
    pub fn translate(&self, iova: Iova, size: u64) -> Extents<'_, R, M> {
        let last = iova.0.saturating_add(size.saturating_sub(1));
        Extents { leaves: self.leaves(iova, size), pending: None, first: iova.0, last }
    }

    /// The leaf that maps `iova` (any alignment); `None` if it is not mapped.
    #[must_use]
    pub fn lookup(&self, iova: Iova) -> Option<Leaf> {
        let input = self.input(iova, 1)?;
        let end = self.walk(input);
        (end.desc & VALID != 0).then(|| self.leaf(input, &end))
    }

    /// The leaves that map any part of `size` bytes from `iova`, in ascending order; there are none outside the input
    /// space.
    #[must_use]
    pub fn leaves(&self, iova: Iova, size: u64) -> Leaves<'_, R, M> {
        let limit = u64::MAX.wrapping_shr(64u32.wrapping_sub(self.cfg().ias));
        let low = self.low(iova);
        let next = (size != 0 && low <= limit).then_some(low);
        let last = low.saturating_add(size.saturating_sub(1)).min(limit);
        Leaves { table: self, next, last, at: None }
    }

    /// Walks from the root to the leaf or invalid descriptor for `iova`.
    #[inline]
    fn walk(&self, iova: u64) -> End {
        from_start!(self, L => self.descend::<L>(self.root_table(), iova))
    }

    #[inline(always)]
    fn descend<L: Level>(&self, table: Table, iova: u64) -> End {
        let shift = At::<R::Granule, L>::SHIFT;
        let desc = table.load(table.index(iova, shift));
        if L::LAST || desc & desc::TYPE != desc::TABLE {
            return End { table, desc, shift, level: L::N };
        }
        self.descend::<L::Next>(Table::child::<R::Granule, M>(self.memory(), desc), iova)
    }

    /// The valid leaf that a walk for `input` found.
    fn leaf(&self, input: u64, end: &End) -> Leaf {
        let size = 1u64.wrapping_shl(end.shift);
        let offset = size.wrapping_sub(1);
        Leaf {
            iova: self.iova(input & !offset),
            pa: Pa(end.desc & ADDR & !offset),
            size,
            attrs: R::attrs(self.cfg().quirks, end.desc),
            level: u8::try_from(end.level).unwrap_or(3),
            desc: end.desc,
        }
    }
}

/// Iterator over leaves; see [`IoPgtable::leaves`].
pub struct Leaves<'a, R: Regime, M: TableMemory> {
    table: &'a IoPgtable<R, M>,
    next: Option<u64>,
    last: u64,
    /// The end of the previous walk: the next descriptor is usually in the same table.
    at: Option<End>,
}

impl<R: Regime, M: TableMemory> Leaves<'_, R, M> {
    /// The end of the walk for `input`, continued from the previous walk.
    #[inline]
    fn step(&self, input: u64) -> End {
        if let Some(end) = self.at {
            let index = end.table.index(input, end.shift);
            let desc = end.table.load(index);
            // At index 0 another table begins; in the root it is the first descriptor, which is never reached by
            // continuing.
            if index != 0 && (end.level == L3::N || desc & desc::TYPE != desc::TABLE) {
                return End { desc, ..end };
            }
        }
        self.table.walk(input)
    }
}

impl<R: Regime, M: TableMemory> Iterator for Leaves<'_, R, M> {
    type Item = Leaf;

    fn next(&mut self) -> Option<Leaf> {
        while let Some(input) = self.next {
            let end = self.step(input);
            let covered = input | 1u64.wrapping_shl(end.shift).wrapping_sub(1);
            self.next = (covered < self.last).then(|| covered.wrapping_add(1));
            self.at = Some(end);
            if end.desc & VALID != 0 {
                return Some(self.table.leaf(input, &end));
            }
        }
        None
    }
}

/// Iterator over extents; see [`IoPgtable::translate`].
pub struct Extents<'a, R: Regime, M: TableMemory> {
    leaves: Leaves<'a, R, M>,
    pending: Option<Extent>,
    first: u64,
    last: u64,
}

impl<R: Regime, M: TableMemory> Iterator for Extents<'_, R, M> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        for leaf in self.leaves.by_ref() {
            let skipped = self.first.saturating_sub(leaf.iova.0);
            let end = leaf.iova.0.wrapping_add(leaf.size.wrapping_sub(1)).min(self.last);
            let iova = leaf.iova.0.wrapping_add(skipped);
            let found = Extent {
                iova: Iova(iova),
                pa: Pa(leaf.pa.0.wrapping_add(skipped)),
                size: end.wrapping_sub(iova).wrapping_add(1),
            };
            match &mut self.pending {
                Some(run) if run.follows(&found) => run.size = run.size.wrapping_add(found.size),
                pending => {
                    if let Some(done) = pending.replace(found) {
                        return Some(done);
                    }
                }
            }
        }
        self.pending.take()
    }
}

impl Extent {
    /// Whether `next` continues the input and the output addresses.
    fn follows(&self, next: &Self) -> bool {
        self.iova.0.wrapping_add(self.size) == next.iova.0 && self.pa.0.wrapping_add(self.size) == next.pa.0
    }
}
