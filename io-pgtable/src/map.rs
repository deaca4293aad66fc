//! Mapping: the entry points, and the fast paths for existing tables. The slow path, which allocates tables, is in
//! `build`.

use crate::desc::{self, VALID};
use crate::error::MapError;
use crate::granule::{At, Granule, L0, Level};
use crate::pte::{Table, TableMemory};
use crate::regime::Regime;
use crate::run::Run;
use crate::table::{IoPgtable, from_start};
use crate::{Attrs, Iova, Pa};

/// A descriptor of a live table, and its value when the walk read it.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) table: Table,
    pub(crate) index: usize,
    pub(crate) desc: u64,
}

/// Result of the fast path.
pub(crate) enum FastPath {
    Done,
    Overlap,
    /// A table is missing, or leaves of several levels are needed.
    NeedsSlowPath,
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Maps `size` bytes from `iova` to `pa`, with the largest leaves that both addresses allow.
    ///
    /// A walker may use the mapping when this returns; nothing has to be invalidated, since nothing was valid before.
    ///
    /// # Errors
    /// [`MapError`]; the table is then unchanged.
    #[inline]
    pub fn map(&mut self, iova: Iova, pa: Pa, size: u64, attrs: Attrs) -> Result<(), MapError> {
        self.map_leaves(iova, pa, size, attrs, self.cfg.page_sizes)
    }

    /// Maps with leaves of the given sizes only.
    #[inline]
    pub(crate) fn map_leaves(
        &mut self,
        iova: Iova,
        pa: Pa,
        size: u64,
        attrs: Attrs,
        sizes: u64,
    ) -> Result<(), MapError> {
        if size & sizes == size && self.map_single(iova, pa, size, attrs) {
            self.mem.publish();
            return Ok(());
        }
        self.map_run(iova, pa, size, attrs, sizes)
    }

    /// Maps one leaf if a table for it exists. Out of line, as `map_run` is, so that choosing between them is cheap.
    #[inline(never)]
    fn map_single(&self, iova: Iova, pa: Pa, size: u64, attrs: Attrs) -> bool {
        from_start!(self, L => self.map_one::<L>(iova, pa, size, attrs))
    }

    /// Maps one leaf into a table that exists. `false`: not done; the other paths determine why.
    ///
    /// It calls no function, so it needs few registers: half of all calls take this path.
    #[inline(always)]
    fn map_one<L: Level>(&self, iova: Iova, pa: Pa, size: u64, attrs: Attrs) -> bool {
        let input = iova.0 ^ self.top;
        let high = (input & self.input_high) | (pa.0 & self.output_high);
        let Some(bits) = R::leaf_bits(self.cfg.quirks, attrs) else { return false };
        if high != 0 || (iova.0 | pa.0) & size.wrapping_sub(1) != 0 {
            return false;
        }
        self.map_one_below::<L>(self.root_table(), None, input, size, pa.0 | bits)
    }

    #[inline(always)]
    fn map_one_below<L: Level>(&self, table: Table, parent: Option<Slot>, iova: u64, size: u64, leaf: u64) -> bool {
        let index = table.index(iova, At::<R::Granule, L>::SHIFT);
        let desc = table.load(index);
        if !L::LAST && desc & desc::TYPE == desc::TABLE {
            let child = Table::child::<R::Granule, M>(&self.mem, desc);
            return self.map_one_below::<L::Next>(child, Some(Slot { table, index, desc }), iova, size, leaf);
        }
        if desc & VALID != 0 || size != At::<R::Granule, L>::SIZE || !At::<R::Granule, L>::LEAF {
            return false;
        }
        table.store(index, leaf | if L::LAST { desc::PAGE } else { desc::BLOCK });
        self.clean(table, index, 1);
        if let Some(above) = parent {
            above.table.store(above.index, desc::add_count::<R::Granule>(above.desc, 1));
        }
        true
    }

    /// Maps any range.
    #[inline(never)]
    fn map_run(&mut self, iova: Iova, pa: Pa, size: u64, attrs: Attrs, sizes: u64) -> Result<(), MapError> {
        let mut run = self.run(iova, pa, size, attrs)?;
        run.sizes = sizes;
        match self.map_fast::<L0>(self.root_table(), None, run) {
            FastPath::Done => {}
            FastPath::Overlap => return Err(self.overlap(iova, size)),
            FastPath::NeedsSlowPath => self.map_slow(iova, run.iova, run.pa, run.size, run.bits, run.sizes)?,
        }
        self.mem.publish();
        Ok(())
    }

    /// Checks the arguments and hoists what all leaves share.
    #[inline]
    fn run(&self, iova: Iova, pa: Pa, size: u64, attrs: Attrs) -> Result<Run, MapError> {
        if size == 0 || (iova.0 | pa.0 | size) & R::Granule::PAGE.wrapping_sub(1) != 0 {
            return Err(MapError::Misaligned);
        }
        let input = self.input(iova, size).ok_or(MapError::OutOfRange)?;
        // The size is inside the input space: this wraps around only where the address alone is refused.
        if (pa.0 | pa.0.wrapping_add(size.wrapping_sub(1))) & self.output_high != 0 {
            return Err(MapError::OutOfRange);
        }
        let bits = R::leaf_bits(self.cfg.quirks, attrs).ok_or(MapError::BadProt)?;
        Ok(Run { iova: input, pa: pa.0, size, bits, sizes: 0 })
    }

    /// The error for a range in which something is mapped.
    #[cold]
    #[inline(never)]
    pub(crate) fn overlap(&self, iova: Iova, size: u64) -> MapError {
        let first = self.leaves(iova, size).next();
        MapError::Overlap { iova: first.map_or(iova, |leaf| leaf.iova.max(iova)), mapped: 0 }
    }

    /// Maps leaves of one level into one table that exists: no allocation, no second pass.
    #[inline(always)]
    fn map_fast<L: Level>(&self, mut table: Table, mut parent: Option<Slot>, run: Run) -> FastPath {
        if self.has_level::<L>() {
            let shift = At::<R::Granule, L>::SHIFT;
            let index = table.index(run.iova, shift);
            let desc = table.load(index);
            if L::LAST || desc & desc::TYPE != desc::TABLE {
                return self.map_here::<L>(Slot { table, index, desc }, parent, run);
            }
            let last = run.iova.wrapping_add(run.size.wrapping_sub(1));
            if (run.iova ^ last).wrapping_shr(shift) != 0 {
                return self.map_across::<L>(Slot { table, index, desc }, run);
            }
            parent = Some(Slot { table, index, desc });
            table = Table::child::<R::Granule, M>(&self.mem, desc);
        }
        self.map_fast::<L::Next>(table, parent, run)
    }

    /// Maps leaves of level `L` from `at` on, which all are in one table.
    #[inline(always)]
    fn map_here<L: Level>(&self, at: Slot, parent: Option<Slot>, run: Run) -> FastPath {
        if at.desc & VALID != 0 {
            return FastPath::Overlap;
        }
        // Pages are always possible.
        let possible = At::<R::Granule, L>::LEAF && run.sizes & At::<R::Granule, L>::SIZE != 0;
        let aligned = (run.iova | run.pa | run.size) & At::<R::Granule, L>::OFFSET == 0;
        if !(L::LAST || possible && aligned) {
            return FastPath::NeedsSlowPath;
        }
        let n = usize::try_from(run.size.wrapping_shr(At::<R::Granule, L>::SHIFT)).unwrap_or(0);
        let stored = at.table.store_vacant(at.index, n, run.desc::<L>(), At::<R::Granule, L>::SIZE);
        if !stored {
            return FastPath::Overlap;
        }
        self.clean(at.table, at.index, n);
        if let Some(above) = parent {
            let n = u64::try_from(n).unwrap_or(0);
            above.table.store(above.index, desc::add_count::<R::Granule>(above.desc, n));
        }
        FastPath::Done
    }
}
