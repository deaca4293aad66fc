//! Coalescing: a live table whose leaves form one larger leaf is replaced by a block.
//!
//! It is the reverse of a split. It is not part of `map`, so that other callers do not have its cost.

use crate::addr::{Iova, Pa};
use crate::cfg::Bbm;
use crate::chain::Disposal;
use crate::desc::{self, ADDR};
use crate::granule::{At, Granule, L2, Level};
use crate::pte::{Table, TableMemory};
use crate::regime::Regime;
use crate::table::{IoPgtable, from_start};
use crate::tlb::{TlbError, TlbOps, TlbRange, TlbScope};

/// The result of one step.
struct Merged {
    /// Tables that were unlinked. Walkers may use them until the sync, so they are not changed until then.
    tables: [Option<Pa>; 3],
    /// Size of the largest new block; 0 if nothing was replaced.
    size: u64,
    /// A descriptor to be made valid again after the sync (break-before-make).
    broken: Option<Broken>,
}

/// An invalid descriptor of a break-before-make sequence.
struct Broken {
    table: Table,
    index: usize,
    old: u64,
    block: u64,
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Replaces the tables on the walk to `iova` by blocks, from the last level up, wherever all leaves of a table are
    /// valid, contiguous and have the same attributes. Returns the size of the largest new block in bytes, 0 if there
    /// is none.
    ///
    /// With [`Bbm::Level2`] translations never change, and at most one range is invalidated, with one
    /// sync. At lower levels each block takes a complete break-before-make sequence: accesses to it may
    /// fault during it, as during a split. Tables are freed after the sync.
    ///
    /// # Errors
    /// [`TlbError`]; every translation is unchanged. With [`Bbm::Level2`] the blocks stay and the replaced tables are
    /// never freed (see [`IoPgtable::quarantined`]); at lower levels the last table is linked again.
    pub fn coalesce(&mut self, iova: Iova, tlb: &mut impl TlbOps) -> Result<u64, TlbError> {
        let Some(input) = self.input(iova, 1) else { return Ok(0) };
        let mut size = 0;
        loop {
            match self.coalesce_step(input, tlb)? {
                0 => return Ok(size),
                bytes => size = bytes,
            }
            // Each step replaces a table nearer to the root; with level 2 one step replaces all of them.
            if self.cfg().bbm == Bbm::Level2 {
                return Ok(size);
            }
        }
    }

    /// As [`coalesce`](Self::coalesce), for every table on the walk to any address of the `size` bytes from `iova`.
    /// Returns how many bytes the new blocks cover. One range is invalidated for each of them.
    ///
    /// # Errors
    /// [`TlbError`] from the first block that fails; earlier blocks stay.
    pub fn coalesce_range(&mut self, iova: Iova, size: u64, tlb: &mut impl TlbOps) -> Result<u64, TlbError> {
        // The smallest block covers as much as one table of pages.
        let smallest = At::<R::Granule, L2>::SIZE;
        let Some(last) = size.checked_sub(1).and_then(|offset| iova.0.checked_add(offset)) else { return Ok(0) };
        let (mut covered, mut next) = (0_u64, Some(iova.0));
        while let Some(at) = next.filter(|&at| at <= last) {
            let bytes = self.coalesce(Iova(at), tlb)?;
            covered = covered.saturating_add(bytes);
            next = (at | bytes.max(smallest).wrapping_sub(1)).checked_add(1);
        }
        Ok(covered)
    }

    /// Replaces tables as far as one invalidation covers them; returns the size of the largest new block.
    fn coalesce_step(&mut self, input: u64, tlb: &mut impl TlbOps) -> Result<u64, TlbError> {
        let root = self.root_table();
        let mut merged = Merged { tables: [None; 3], size: 0, broken: None };
        from_start!(self, L => self.merge::<L>(root, input, &mut merged));
        if merged.size == 0 {
            return Ok(0);
        }
        self.memory().publish();
        let start = self.iova(input & !merged.size.wrapping_sub(1));
        let granule = R::Granule::PAGE;
        tlb.invalidate(TlbRange { iova: start, size: merged.size, granule, scope: TlbScope::Table });
        let synced = tlb.sync();
        if let Some(Broken { table, index, old, block }) = merged.broken {
            table.link(self.memory(), index, if synced.is_ok() { block } else { old });
            self.clean(table, index, 1);
            self.memory().publish();
            // The invalidation failed: the table is linked again.
            synced?;
        }
        // The invalidation failed: a walker may still use them, so even a list link is not written to them.
        let disposal = if synced.is_ok() { Disposal::Free } else { Disposal::Quarantine };
        for pa in merged.tables.into_iter().flatten() {
            self.dispose_table(pa, disposal);
        }
        synced.map(|()| merged.size)
    }

    /// Coalesces below the descriptor of level `L` that covers `iova`, then replaces its table if all leaves form one
    /// leaf.
    fn merge<L: Level>(&self, table: Table, iova: u64, merged: &mut Merged) {
        if L::LAST {
            return;
        }
        let index = table.index(iova, At::<R::Granule, L>::SHIFT);
        let old = table.load(index);
        if old & desc::TYPE != desc::TABLE {
            return;
        }
        let child = Table::child::<R::Granule, M>(self.memory(), old);
        self.merge::<L::Next>(child, iova, merged);
        let full = desc::count::<R::Granule>(old) == u64::try_from(R::Granule::ENTRIES).unwrap_or(u64::MAX);
        if !full || !At::<R::Granule, L>::LEAF || self.cfg().page_sizes & At::<R::Granule, L>::SIZE == 0 {
            return;
        }
        // A child table with an invalid descriptor does not form one leaf, so no descriptor above it is
        // made invalid.
        let Some(block) = one_leaf::<R::Granule, L>(child) else { return };
        let Some(slot) = merged.tables.iter_mut().find(|slot| slot.is_none()) else { return };
        *slot = Some(Pa(old & ADDR));
        merged.size = At::<R::Granule, L>::SIZE;
        match self.cfg().bbm {
            Bbm::Level2 => table.store(index, block),
            Bbm::Level0 | Bbm::Level1 => {
                table.store(index, 0);
                merged.broken = Some(Broken { table, index, old, block });
            }
        }
        self.clean(table, index, 1);
    }
}

/// The block descriptor of level `L` equivalent to all leaves of `child`; `None` if there is none.
fn one_leaf<G: Granule, L: Level>(child: Table) -> Option<u64> {
    let kind = if L::Next::LAST { desc::PAGE } else { desc::BLOCK };
    let first = child.load(0);
    if first & desc::TYPE != kind || first & ADDR & At::<G, L>::OFFSET != 0 {
        return None;
    }
    let mut expected = first;
    for index in 0..G::ENTRIES {
        if child.load(index) != expected {
            return None;
        }
        expected = expected.wrapping_add(At::<G, L::Next>::SIZE);
    }
    Some(first & !desc::TYPE | desc::BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attrs, Cfg, HeapMemory, NoTlb, Prot, S2};
    use std::vec::Vec;

    const RW: Attrs = Attrs::normal(Prot::RW);
    const BASE: u64 = 0x4000_0000;
    const GIB: u64 = 1 << 30;
    const MIB2: u64 = 2 << 20;

    fn table(bbm: Bbm, page_sizes: u64) -> (IoPgtable<S2, HeapMemory>, HeapMemory) {
        let mem = HeapMemory::new(Pa(0x8000_0000), 1 << 20);
        let cfg = Cfg { bbm, page_sizes, ..Cfg::new(40, 40) };
        (IoPgtable::new(&cfg, mem.clone()).unwrap(), mem)
    }

    /// A gigabyte with one page unmapped and mapped again.
    fn refilled(bbm: Bbm) -> (IoPgtable<S2, HeapMemory>, HeapMemory) {
        let (mut table, mem) = table(bbm, 0);
        table.map(Iova(BASE), Pa(BASE), GIB, RW).unwrap();
        table.unmap(Iova(BASE + 5 * MIB2), 0x1000, &mut NoTlb).unwrap();
        table.map(Iova(BASE + 5 * MIB2), Pa(BASE + 5 * MIB2), 0x1000, RW).unwrap();
        (table, mem)
    }

    /// Checks the table during the invalidation.
    struct TableCheck<F: FnMut(TlbRange) -> Result<(), TlbError>>(F, Option<TlbRange>);

    impl<F: FnMut(TlbRange) -> Result<(), TlbError>> TlbOps for TableCheck<F> {
        fn invalidate(&mut self, range: TlbRange) {
            assert_eq!(self.1.replace(range), None);
        }
        fn sync(&mut self) -> Result<(), TlbError> {
            (self.0)(self.1.take().unwrap())
        }
    }

    #[test]
    fn a_refilled_gigabyte_is_coalesced() {
        let (mut table, mem) = refilled(Bbm::Level2);
        let desc = table.lookup(Iova(BASE)).unwrap().desc;
        assert_eq!(mem.live_tables(), 3);
        let mut syncs = 0;
        let mut tlb = TableCheck(
            |range| {
                syncs += 1;
                let whole = TlbRange { iova: Iova(BASE), size: GIB, granule: 0x1000, scope: TlbScope::Table };
                assert_eq!(range, whole);
                assert_eq!(mem.live_tables(), 3, "walkers may still use them");
                Ok(())
            },
            None,
        );
        assert_eq!(table.coalesce(Iova(BASE + 5 * MIB2 + 0x123), &mut tlb), Ok(GIB));
        assert_eq!((syncs, mem.live_tables()), (1, 1));
        let leaf = table.lookup(Iova(BASE + 7)).unwrap();
        assert_eq!((leaf.size, leaf.pa, leaf.attrs), (GIB, Pa(BASE), RW));
        assert_eq!(leaf.desc, desc, "the same descriptor as a fresh mapping");
        table.unmap(Iova(BASE), GIB, &mut NoTlb).unwrap();
        assert_eq!(table.leaves(Iova(0), 1 << 40).count(), 0);
    }

    #[test]
    fn walkers_may_use_replaced_tables_until_the_sync() {
        let (mut table, mem) = refilled(Bbm::Level2);
        let l1 = mem.read64(Pa(table.config().ttb.0 + 8)).unwrap();
        let l2 = mem.read64(Pa((l1 & ADDR) + 5 * 8)).unwrap();
        let words = |table: u64| (0..512).map(|i| mem.read64(Pa((table & ADDR) + i * 8)).unwrap()).all(|d| d & 1 == 1);
        assert!(words(l1) && words(l2));
        let mut tlb = TableCheck(
            |_| {
                assert!(words(l1) && words(l2), "a walker that cached the table descriptor would fault");
                Ok(())
            },
            None,
        );
        assert_eq!(table.coalesce(Iova(BASE + 5 * MIB2), &mut tlb), Ok(GIB));
    }

    #[test]
    fn tables_that_do_not_form_one_leaf_are_kept() {
        // A hole, different attributes, another order, a leaf size that is not allowed.
        let none = |table: &mut IoPgtable<S2, HeapMemory>, iova| {
            let bytes = table.table_bytes();
            let mut tlb = TableCheck(|_| Err(TlbError), None);
            assert_eq!(table.coalesce(Iova(iova), &mut tlb), Ok(0));
            assert_eq!(table.table_bytes(), bytes);
        };
        let (mut hole, _) = table(Bbm::Level2, 0);
        hole.map(Iova(BASE), Pa(BASE), MIB2 - 0x1000, RW).unwrap();
        none(&mut hole, BASE);
        none(&mut hole, BASE + GIB);
        none(&mut hole, 1 << 50);
        hole.map(Iova(BASE + MIB2 - 0x1000), Pa(BASE + MIB2 - 0x1000), 0x1000, Attrs::normal(Prot::READ)).unwrap();
        none(&mut hole, BASE);
        let (mut swapped, _) = table(Bbm::Level2, 0);
        swapped.map(Iova(BASE), Pa(BASE + 0x1000), MIB2, RW).unwrap();
        none(&mut swapped, BASE);
        let (mut pages, _) = table(Bbm::Level2, 0x1000);
        pages.map(Iova(BASE), Pa(BASE), MIB2, RW).unwrap();
        none(&mut pages, BASE);
        let (mut two, _) = table(Bbm::Level2, 0x20_1000);
        two.map(Iova(BASE), Pa(BASE), GIB - MIB2, RW).unwrap();
        for page in 0..512 {
            let at = BASE + GIB - MIB2 + page * 0x1000;
            two.map(Iova(at), Pa(at), 0x1000, RW).unwrap();
        }
        assert_eq!(two.coalesce(Iova(BASE + GIB - 1), &mut NoTlb), Ok(MIB2), "2 MiB, since 1 GiB is not allowed");
    }

    #[test]
    fn after_a_timeout_the_tables_are_quarantined_and_the_block_is_kept() {
        let (mut table, mem) = refilled(Bbm::Level2);
        let mut tlb = TableCheck(|_| Err(TlbError), None);
        assert_eq!(table.coalesce(Iova(BASE + 5 * MIB2), &mut tlb), Err(TlbError));
        assert_eq!((table.quarantined(), mem.live_tables()), (8192, 3));
        assert_eq!(table.lookup(Iova(BASE)).unwrap().size, GIB);
    }

    #[test]
    fn a_range_is_coalesced_block_by_block() {
        let (mut table, mem) = table(Bbm::Level2, 0);
        table.map(Iova(BASE), Pa(BASE), GIB, RW).unwrap();
        table.map(Iova(BASE + 2 * GIB), Pa(BASE), GIB, RW).unwrap();
        for at in [BASE + 0x1000, BASE + 7 * MIB2, BASE + GIB - 0x1000, BASE + 2 * GIB + 5 * MIB2] {
            table.unmap(Iova(at), 0x1000, &mut NoTlb).unwrap();
            table.map(Iova(at), Pa(at & (GIB - 1) | BASE), 0x1000, RW).unwrap();
        }
        assert_eq!(mem.live_tables(), 7);
        let (mut plans, whole) = (0, 3 * GIB);
        let mut tlb = TableCheck(
            |_| {
                plans += 1;
                Ok(())
            },
            None,
        );
        // The first gigabyte: two 2 MiB blocks, then the last one together with the 1 GiB block.
        assert_eq!(table.coalesce_range(Iova(BASE), whole, &mut tlb), Ok(2 * MIB2 + 2 * GIB));
        assert_eq!((plans, mem.live_tables()), (4, 1));
        for (iova, size) in [(0, 0), (u64::MAX, 1), (u64::MAX, 2), (1 << 41, GIB)] {
            assert_eq!(table.coalesce_range(Iova(iova), size, &mut NoTlb), Ok(0));
        }
    }

    #[test]
    fn below_level_2_each_block_is_replaced_by_break_before_make() {
        for bbm in [Bbm::Level0, Bbm::Level1] {
            let (mut table, mem) = refilled(bbm);
            let root = table.config().ttb.0;
            let l1 = mem.read64(Pa(root + 8)).unwrap();
            let mut sizes = Vec::new();
            let mut tlb = TableCheck(
                |range| {
                    sizes.push(range.size);
                    let level2 = mem.read64(Pa((l1 & ADDR) + 5 * 8));
                    let broken = if range.size == GIB { mem.read64(Pa(root + 8)) } else { level2 };
                    assert_eq!(broken, Some(0), "invalid during the TLB invalidation");
                    Ok(())
                },
                None,
            );
            assert_eq!(table.coalesce(Iova(BASE + 5 * MIB2), &mut tlb), Ok(GIB));
            assert_eq!((sizes, mem.live_tables()), (Vec::from([MIB2, GIB]), 1));
            assert_eq!(
                table.lookup(Iova(BASE)).map(|leaf| (leaf.size, leaf.pa, leaf.attrs)),
                Some((GIB, Pa(BASE), RW))
            );
        }
    }

    #[test]
    fn below_level_2_the_table_is_linked_again_after_a_timeout() {
        let (mut table, mem) = refilled(Bbm::Level0);
        let before: Vec<_> = table.leaves(Iova(0), 1 << 40).collect();
        let mut tlb = TableCheck(|_| Err(TlbError), None);
        assert_eq!(table.coalesce(Iova(BASE + 5 * MIB2), &mut tlb), Err(TlbError));
        assert_eq!((table.quarantined(), mem.live_tables()), (0, 3));
        assert_eq!(table.leaves(Iova(0), 1 << 40).collect::<Vec<_>>(), before);
        table.unmap(Iova(BASE), GIB, &mut NoTlb).unwrap();
        assert_eq!(mem.live_tables(), 1, "counts are still right");
    }
}
