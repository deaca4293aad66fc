//! A cache of the current mappings of a stage 2 table, for the oracle.
//!
//! Most of a table is unchanged since the last query and has no overwritten descriptors. Such a part is decoded once,
//! as long as the stamps of its pages are unchanged. Overwritten descriptors are walked each time
//! (`View::s2_overwritten`).

use std::cell::{RefCell, RefMut};
use std::sync::Arc;

use crate::hash::ByKey;
use crate::reach::{Reachable, Via};
use crate::stages::S2;

/// Adjacent leaves of one size with the same permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) ipa: u64,
    pub(crate) pa: u64,
    /// log2 of the size of a leaf.
    pub(crate) shift: u32,
    pub(crate) count: u64,
    pub(crate) write: bool,
}

impl Run {
    fn size(&self) -> u64 {
        self.count << self.shift
    }

    fn reachable(&self, ipa: u64, pa: u64, size: u64) -> Reachable {
        Reachable { pa, size, ipa, write: self.write, via: Via::Stage2, stale: false }
    }
}

/// Adds `run` to `runs`; extends the last one if it is contiguous.
pub(crate) fn add(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut()
        && (last.shift, last.write) == (run.shift, run.write)
        && (last.ipa + last.size(), last.pa + last.size()) == (run.ipa, run.pa)
    {
        last.count += run.count;
    } else {
        runs.push(run);
    }
}

/// Everything that a stage 2 table maps in memory; cached entries are not included.
#[derive(Debug)]
pub struct Mapped {
    pub(crate) runs: Vec<Run>,
    /// The pages of its tables, with their stamps.
    pub(crate) pages: Vec<(u64, u64)>,
}

impl Mapped {
    /// The mappings as maximal ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Reachable> {
        self.runs.iter().map(|run| run.reachable(run.ipa, run.pa, run.size()))
    }

    /// The mappings as leaves.
    pub fn leaves(&self) -> impl Iterator<Item = Reachable> {
        self.runs.iter().flat_map(|run| {
            let leaf =
                move |n: u64| run.reachable(run.ipa + (n << run.shift), run.pa + (n << run.shift), 1 << run.shift);
            (0..run.count).map(leaf)
        })
    }

    /// Whether all bytes of a leaf of this size at `pa` can be reached, at least with this permission.
    pub(crate) fn covers(&self, pa: u64, shift: u32, write: bool) -> bool {
        let size = 1 << shift;
        let covers = |run: &Run| (run.write || !write) && pa >= run.pa && pa - run.pa + size <= run.size();
        self.runs.iter().any(covers)
    }
}

/// One table of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) table: u64,
    pub(crate) level: u32,
    /// log2 of the number of descriptors.
    pub(crate) width: u32,
}

impl Place {
    pub(crate) fn pages(self) -> impl Iterator<Item = u64> {
        (self.table & !0xfff..self.table + (8 << self.width)).step_by(4096)
    }
}

/// One decoded table; addresses in `runs` are relative to the first address that it maps.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) pages: Vec<(u64, u64)>,
    pub(crate) runs: Vec<Run>,
    /// Table descriptors: their address, the first address that they map, and the next table.
    pub(crate) children: Vec<(u64, u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) tables: ByKey<(S2, Place), Arc<Decoded>>,
    pub(crate) whole: ByKey<S2, Arc<Mapped>>,
}

/// Cache of decoded tables.
#[derive(Debug, Default)]
pub(crate) struct TableCache(RefCell<Known>);

impl TableCache {
    pub(crate) fn known(&self) -> RefMut<'_, Known> {
        self.0.borrow_mut()
    }
}
