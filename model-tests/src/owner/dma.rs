//! The IOMMU stage 2 with its invalidation on every SMMU, connected as in the hypervisor; a [`Defect`] omits a step.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use io_pgtable::{HeapMemory, Ipa, MemType, Pa};
use mem_protect::{DmaStage2, Leaf, LeafKind, PAGE_BYTES, PageRange, TableError};
use shadow_s2::{Invalidate, InvalidateError, Plan, ShadowS2, Target};
use smmu_drv::{HostedSmmu, Stage2Cfg, Stale};
use smmu_model::{Memory, Model};

use super::Owner;
use crate::bus::Bus;
use crate::defects::Defect;
use crate::layout;

/// Drivers of all SMMUs.
pub(crate) type Drivers = Rc<RefCell<Vec<HostedSmmu<Bus, Owner>>>>;

/// The IOMMU stage 2, its memory and its SMMUs.
pub struct Dma {
    shadow: ShadowS2<HeapMemory>,
    mirror: Mirror,
    smmus: Smmus,
}

/// Copies table memory into the model's memory whenever stores are ordered before a walk.
pub(crate) struct Mirror {
    heap: HeapMemory,
    mem: Memory,
    seen: Vec<u64>,
    /// Number of changes.
    changes: u64,
    snooping: bool,
}

/// The SMMUs that share the table.
struct Smmus {
    drivers: Drivers,
    defect: Rc<Cell<Defect>>,
    models: Vec<Rc<RefCell<Model>>>,
}

/// Copies, then invalidates.
struct Step<'a> {
    smmus: &'a Smmus,
    mirror: &'a mut Mirror,
}

impl Mirror {
    /// A mirror without any copied words.
    pub(crate) fn new(mem: Memory, snooping: bool) -> Self {
        let heap = HeapMemory::new(Pa(layout::TABLES), usize::try_from(layout::TABLES_BYTES).unwrap_or(0));
        Self { heap, mem, seen: Vec::new(), changes: 0, snooping }
    }

    /// Resets the memory for tables and returns it: earlier tables are gone.
    pub(crate) fn reset(&mut self) -> HeapMemory {
        let used = self.heap.used();
        assert!(self.heap.reset(), "a table is still in use");
        self.read(used);
        self.heap.clone()
    }

    /// Copies the tables before any SMMU walks them.
    pub(crate) fn begin(&mut self) {
        if self.seen.is_empty() {
            self.seen = vec![0; usize::try_from(layout::TABLES_BYTES / 8).unwrap_or(0)];
            self.read(layout::TABLES_BYTES);
            self.mem.preset((layout::TABLES..).step_by(8).zip(self.seen.iter().copied()));
        } else {
            self.changes = 0;
            // The memory was restored to the state in which it contains these tables.
            self.read(self.heap.used());
        }
    }

    /// Records the words of the first `bytes` bytes, without copying them.
    fn read(&mut self, bytes: u64) {
        for (index, pa) in (layout::TABLES..layout::TABLES + bytes).step_by(8).enumerate() {
            let word = self.word(pa);
            if let Some(seen) = self.seen.get_mut(index) {
                *seen = word;
            }
        }
    }

    /// The word that walkers read at `pa`.
    fn word(&self, pa: u64) -> u64 {
        let word = if self.snooping { self.heap.read64(Pa(pa)) } else { self.heap.read64_poc(Pa(pa)) };
        word.unwrap_or(0)
    }

    /// Copies all stores since the last call at once: their order is tested in io-pgtable.
    fn update(&mut self) {
        let mut changed = Vec::new();
        for page in self.heap.touched() {
            for pa in (page.0..page.0 + PAGE_BYTES).step_by(8) {
                let word = self.word(pa);
                let seen = usize::try_from((pa - layout::TABLES) / 8).ok().and_then(|index| self.seen.get_mut(index));
                if let Some(seen) = seen.filter(|seen| **seen != word) {
                    *seen = word;
                    changed.push((pa, word));
                }
            }
        }
        if !changed.is_empty() {
            self.changes += 1;
        }
        self.mem.store_at_once(&changed);
    }

    /// Whether the copy has every store to the tables.
    fn is_current(&self) -> bool {
        let words = |page: Pa| (page.0..page.0 + PAGE_BYTES).step_by(8);
        let seen =
            |pa: u64| usize::try_from((pa - layout::TABLES) / 8).ok().and_then(|index| self.seen.get(index).copied());
        let all = self.heap.touched().into_iter().flat_map(words).all(|pa| seen(pa) == self.heap.read64(Pa(pa)));
        if all {
            self.heap.clear_touched();
        }
        all
    }
}

/// The plan with a defect, and the number of SMMUs that receive it.
pub(crate) fn narrowed(defect: Defect, stale: Stale) -> (Stale, usize) {
    match (defect, stale) {
        (Defect::None | Defect::NoUnmap, stale) => (stale, usize::MAX),
        (Defect::NoInvalidate, stale) => (stale, 0),
        (Defect::FirstSmmuOnly, stale) => (stale, 1),
        (Defect::WrongPage, _) => (Stale::Range { ipa: Ipa(layout::RAM), size: 4096 }, usize::MAX),
        (Defect::OnePage, Stale::Range { ipa, .. }) => (Stale::Range { ipa, size: 4096 }, usize::MAX),
        (Defect::OnePage, Stale::All) => (Stale::All, usize::MAX),
    }
}

impl Invalidate for Step<'_> {
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        self.mirror.update();
        let stale = match plan.target {
            Target::All => Stale::All,
            Target::Range { start, bytes, .. } => Stale::Range { ipa: start, size: bytes },
        };
        let (stale, count) = narrowed(self.smmus.defect.get(), stale);
        let mut result = Ok(());
        for smmu in self.smmus.drivers.borrow_mut().iter_mut().take(count) {
            if smmu.tlb_invalidate_host(stale).is_err() {
                result = Err(InvalidateError);
            }
        }
        result
    }
}

impl Dma {
    /// An IOMMU stage 2 whose tables `mirror` copies.
    #[must_use]
    pub(crate) fn new(
        shadow: ShadowS2<HeapMemory>,
        mirror: Mirror,
        drivers: Drivers,
        defect: Rc<Cell<Defect>>,
        models: Vec<Rc<RefCell<Model>>>,
    ) -> Self {
        Self { shadow, mirror, smmus: Smmus { drivers, defect, models } }
    }

    /// Returns the copier; the tables are dropped.
    #[must_use]
    pub(crate) fn into_mirror(self) -> Mirror {
        self.mirror
    }

    /// The stamp of the table; `None` while the copy lacks a store.
    #[must_use]
    pub fn content(&self) -> Option<u64> {
        self.mirror.is_current().then_some(self.mirror.changes)
    }

    /// The stage-2 fields of every STE.
    #[must_use]
    pub fn config(&self, vmid: u16) -> Stage2Cfg {
        Stage2Cfg::of(&self.shadow.config(), vmid)
    }

    /// The IOMMU stage 2.
    #[must_use]
    pub fn shadow(&self) -> &ShadowS2<HeapMemory> {
        &self.shadow
    }

    /// Makes table allocations fail after `n` more; `None` makes them succeed again.
    pub fn fail_tables_after(&self, n: Option<usize>) {
        self.mirror.heap.fail_after(n);
    }

    /// The models behind the drivers.
    #[must_use]
    pub fn models(&self) -> &[Rc<RefCell<Model>>] {
        &self.smmus.models
    }
}

impl DmaStage2 for Dma {
    fn revoke(&mut self, range: PageRange) -> Result<(), TableError> {
        if self.smmus.defect.get() == Defect::NoUnmap {
            return Ok(());
        }
        self.mirror.heap.clear_touched();
        let mut step = Step { smmus: &self.smmus, mirror: &mut self.mirror };
        let result = self.shadow.revoke(range, &mut step);
        self.mirror.update();
        result
    }

    fn grant(&mut self, range: PageRange) -> Result<(), TableError> {
        if self.smmus.defect.get() == Defect::NoUnmap {
            return Ok(());
        }
        self.mirror.heap.clear_touched();
        let result = self.shadow.grant(range);
        self.mirror.update();
        result
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        let mut leaves = self.shadow.table().leaves(from.into(), self.shadow.limit().0.checked_sub(from.0)?);
        let leaf = leaves.next()?;
        // Adjacent leaves with the same attributes are merged into one for the audit.
        let mut end = leaf.iova.0 + leaf.size;
        for next in leaves {
            if next.iova.0 != end
                || next.pa.0.wrapping_sub(leaf.pa.0) != end - leaf.iova.0
                || next.attrs.mem != leaf.attrs.mem
            {
                break;
            }
            end += next.size;
        }
        let start = leaf.iova.0.max(from.0);
        let pa = leaf.pa.0 + (start - leaf.iova.0);
        let kind = if leaf.attrs.mem == MemType::Normal { LeafKind::Normal } else { LeafKind::Device };
        Some(Leaf { ipa: Ipa(start), pa: Pa(pa), bytes: end - start, kind })
    }

    fn coalesce(&mut self, range: PageRange) {
        self.mirror.heap.clear_touched();
        let mut step = Step { smmus: &self.smmus, mirror: &mut self.mirror };
        let _ = self.shadow.coalesce(range, &mut step);
        self.mirror.update();
    }

    fn window(&self) -> PageRange {
        match PageRange::covering(Ipa(0), self.shadow.limit().0) {
            Some(range) => range,
            None => panic!("the shadow maps nothing"),
        }
    }
}
