//! Destroys a table: detaches all child tables, invalidates, then frees.

use crate::chain::{Disposal, TableList};
use crate::desc;
use crate::granule::{Granule, Level};
use crate::pte::TableMemory;
use crate::regime::Regime;
use crate::table::{IoPgtable, from_start};
use crate::tlb::{TlbError, TlbOps, TlbRange, TlbScope};

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Removes every mapping, invalidates, and frees all memory, the root last.
    ///
    /// The caller ensures that no walker uses the root any more, or that faults are acceptable.
    ///
    /// # Errors
    /// [`TlbError`]: the tables are leaked.
    pub fn destroy(mut self, tlb: &mut impl TlbOps) -> Result<(), TlbError> {
        let root = self.root_table();
        let mut detached = TableList::EMPTY;
        for index in 0..root.left(0) {
            let desc = root.load(index);
            root.store(index, 0);
            from_start!(self, L => self.push_detached_below::<L>(desc, &mut detached));
        }
        if !self.cfg().coherent_walk {
            root.clean(self.memory(), 0, root.left(0));
        }
        self.memory().publish();
        let size = 1u64.wrapping_shl(self.cfg().ias);
        tlb.invalidate(TlbRange { iova: self.iova(0), size, granule: R::Granule::PAGE, scope: TlbScope::Table });
        tlb.sync()?;
        self.dispose(detached, Disposal::Free);
        self.free_root();
        Ok(())
    }

    /// Adds the table that a descriptor of level `L` points to, if any, to the list.
    fn push_detached_below<L: Level>(&self, desc: u64, detached: &mut TableList) {
        if !L::LAST && desc & desc::TYPE == desc::TABLE {
            detached.push_detached::<R::Granule, M, L::Next>(self.memory(), desc);
        }
    }
}
