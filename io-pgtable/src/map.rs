//! Mapping: check, then apply.
//!
//! The check changes nothing and counts the missing tables. They are allocated before the first store, so no step
//! can fail after it. Missing tables are built unlinked, and linked by one store (`build`).

use crate::addr::{Iova, Pa};
use crate::attrs::Attrs;
use crate::build::tables_for;
use crate::chain::TableList;
use crate::desc::{self, VALID};
use crate::error::MapError;
use crate::granule::{At, Granule, Level};
use crate::pte::{Table, TableMemory};
use crate::range::{Run, size_of_leaves};
use crate::regime::Regime;
use crate::table::{IoPgtable, from_start};

/// A checked mapping.
struct MapPlan {
    /// The range; no address of it is mapped.
    run: Run,
    /// Number of missing tables, exact.
    tables: usize,
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Maps `size` bytes from `iova` to `pa`, with the largest leaves that both addresses allow.
    ///
    /// A walker may use the mapping when this returns. No invalidation is needed, since no descriptor of the range was
    /// valid.
    ///
    /// # Errors
    /// [`MapError`]; the table is then unchanged.
    #[inline]
    pub fn map(&mut self, iova: Iova, pa: Pa, size: u64, attrs: Attrs) -> Result<(), MapError> {
        self.map_leaves(iova, pa, size, attrs, self.cfg().page_sizes)
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
        if self.map_fast(iova, pa, size, attrs, sizes) {
            self.memory().publish();
            return Ok(());
        }
        self.map_any(iova, pa, size, attrs, sizes)
    }

    /// Checks the arguments and computes the attributes that all leaves have.
    fn run(&self, iova: Iova, pa: Pa, size: u64, attrs: Attrs, sizes: u64) -> Result<Run, MapError> {
        if size == 0 || (iova.0 | pa.0 | size) & R::Granule::PAGE.wrapping_sub(1) != 0 {
            return Err(MapError::Misaligned);
        }
        let input = self.input(iova, size).ok_or(MapError::OutOfRange)?;
        // The size is within the input space, so the sum wraps around only for an address that is refused anyway.
        if !self.has_output(pa.0 | pa.0.wrapping_add(size.wrapping_sub(1))) {
            return Err(MapError::OutOfRange);
        }
        let bits = R::leaf_bits(self.cfg().quirks, attrs).ok_or(MapError::BadProt)?;
        Ok(Run { iova: input, pa: pa.0, size, bits, sizes })
    }

    /// Maps any range: checks, allocates, applies.
    #[inline(never)]
    pub(crate) fn map_any(&mut self, iova: Iova, pa: Pa, size: u64, attrs: Attrs, sizes: u64) -> Result<(), MapError> {
        let plan = self.plan_map(self.run(iova, pa, size, attrs, sizes)?)?;
        let spares = self.alloc_spares(plan.tables).ok_or(MapError::NoMemory)?;
        self.apply_map(&plan, spares);
        Ok(())
    }

    fn plan_map(&self, run: Run) -> Result<MapPlan, MapError> {
        let (root, mut tables) = (self.root_table(), 0);
        if from_start!(self, L => self.check_map::<L>(root, run, &mut tables)) {
            return Ok(MapPlan { run, tables });
        }
        let iova = self.iova(run.iova);
        let first = self.leaves(iova, run.size).next();
        Err(MapError::Overlap { iova: first.map_or(iova, |leaf| leaf.iova.max(iova)), mapped: 0 })
    }

    /// Whether nothing is mapped in the run; adds the missing tables to `tables`.
    fn check_map<L: Level>(&self, table: Table, mut run: Run, tables: &mut usize) -> bool {
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
                *tables = tables.saturating_add(tables_for::<R::Granule, L::Next>(head));
            } else {
                if L::LAST || desc & desc::TYPE != desc::TABLE {
                    return false;
                }
                let child = Table::child::<R::Granule, M>(self.memory(), desc);
                if !self.check_map::<L::Next>(child, head, tables) {
                    return false;
                }
            }
            run = run.after(head.size);
        }
        true
    }

    /// Maps a checked run with as many spare tables as it needs.
    fn apply_map(&self, plan: &MapPlan, mut spares: TableList) {
        let root = self.root_table();
        from_start!(self, L => self.fill_live::<L>(root, plan.run, &mut spares));
        debug_assert!(spares == TableList::EMPTY, "the check counts the tables exactly");
        self.memory().publish();
    }

    /// Maps a checked run into a live table; returns how many of its descriptors became valid.
    fn fill_live<L: Level>(&self, table: Table, mut run: Run, spares: &mut TableList) -> usize {
        let mut added = 0usize;
        while run.size != 0 {
            let index = table.index(run.iova, At::<R::Granule, L>::SHIFT);
            let n = run.leaves::<R::Granule, L>(table.left(index));
            if n != 0 {
                table.store_run(index, n, run.desc::<L>(), At::<R::Granule, L>::SIZE);
                self.clean(table, index, n);
                added = added.wrapping_add(n);
                run = run.after(size_of_leaves::<R::Granule, L>(n));
                continue;
            }
            let head = run.head::<R::Granule, L>();
            let desc = table.load(index);
            if desc & VALID == 0 {
                // Never `None` after the check.
                let Some(built) = self.build::<L::Next>(head, spares) else { break };
                self.link(table, index, built);
                added = added.wrapping_add(1);
            } else if !L::LAST {
                let child = Table::child::<R::Granule, M>(self.memory(), desc);
                let n = u64::try_from(self.fill_live::<L::Next>(child, head, spares)).unwrap_or(0);
                // Walkers ignore the count, so no cache clean is needed.
                table.store(index, desc::add_count::<R::Granule>(desc, n));
            }
            run = run.after(head.size);
        }
        added
    }
}
