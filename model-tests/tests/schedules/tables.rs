//! The ownership map's traits: the CPU stage 2, the IOMMU stage 2 with its plans, and page operations.

use io_pgtable::{HeapMemory, Ipa, MemType, Pa};
use mem_protect::{DmaStage2, HostStage2, InUse, Leaf, LeafKind, NoMemory, PAGE_BYTES, PageOps, PageRange, TableError};
use shadow_s2::{Invalidate, InvalidateError, Plan, ShadowS2, Target};
use smmu_drv::{Stage2Cfg, Stale};

use crate::faults::{Fault, fault};
use crate::world::{TABLES, TABLES_BYTES, VMID, scheduling_point, world};

/// The CPU stage 2, in [`crate::world::World::cpu_pages`].
pub(crate) struct Cpu;

impl HostStage2 for Cpu {
    fn unmap(&mut self, range: PageRange) -> Result<(), TableError> {
        scheduling_point();
        let world = world();
        let mut pages = world.cpu_pages.borrow_mut();
        if range.pfns().any(|pfn| !pages.contains(&pfn)) {
            return Err(TableError::Unmappable);
        }
        pages.retain(|pfn| !range.pfns().any(|gone| gone == *pfn));
        Ok(())
    }

    fn map(&mut self, range: PageRange) -> Result<(), TableError> {
        scheduling_point();
        let world = world();
        let mut pages = world.cpu_pages.borrow_mut();
        if range.pfns().any(|pfn| pages.contains(&pfn)) {
            return Err(TableError::Unmappable);
        }
        pages.extend(range.pfns());
        Ok(())
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        let pfn = *world().cpu_pages.borrow().range(from.0 / PAGE_BYTES..).next()?;
        let at = pfn * PAGE_BYTES;
        Some(Leaf { ipa: Ipa(at), pa: Pa(at), bytes: PAGE_BYTES, kind: LeafKind::Normal })
    }
}

/// The IOMMU stage 2, and a copy of its tables in the model's memory.
pub(crate) struct Dma {
    shadow: ShadowS2<HeapMemory>,
    mirror: Mirror,
}

struct Mirror {
    heap: HeapMemory,
    seen: Vec<u64>,
}

impl Mirror {
    /// Copies all earlier stores at the same time: io-pgtable's own tests cover their order.
    fn update(&mut self) {
        let mut changed = Vec::new();
        for (pa, seen) in (TABLES..TABLES + TABLES_BYTES).step_by(8).zip(&mut self.seen) {
            let word = self.heap.read64(Pa(pa)).unwrap_or(0);
            if word != *seen {
                *seen = word;
                changed.push((pa, word));
            }
        }
        world().mem.store_at_once(&changed);
    }
}

/// All SMMUs, one after the other.
struct Smmus<'m>(&'m mut Mirror);

fn invalidate_all(stale: Stale, count: usize) -> Result<(), InvalidateError> {
    let mut result = Ok(());
    for smmu in world().smmus().iter().take(count) {
        if smmu.lock().tlb_invalidate_host(stale).is_err() {
            result = Err(InvalidateError);
        }
    }
    result
}

impl Invalidate for Smmus<'_> {
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        self.0.update();
        scheduling_point();
        let stale = match plan.target {
            Target::All => Stale::All,
            Target::Range { start, bytes } => Stale::Range { ipa: start, size: bytes },
        };
        match fault() {
            // It was already invalidated, while the page was still mapped.
            Fault::InvalidateFirst => Ok(()),
            Fault::OneSmmu => invalidate_all(stale, 1),
            _ => invalidate_all(stale, usize::MAX),
        }
    }
}

impl Dma {
    /// An IOMMU stage 2 with its tables in `heap`.
    pub(crate) fn new(shadow: ShadowS2<HeapMemory>, heap: HeapMemory) -> Self {
        let words = usize::try_from(TABLES_BYTES / 8).unwrap_or(0);
        let mut mirror = Mirror { heap, seen: vec![0; words] };
        mirror.update();
        Self { shadow, mirror }
    }

    /// The stage-2 fields of every STE.
    pub(crate) fn config(&self) -> Stage2Cfg {
        let config = self.shadow.config();
        Stage2Cfg {
            ttb: config.ttb,
            t0sz: config.t0sz,
            sl0: config.sl0,
            irgn: config.walk.irgn,
            orgn: config.walk.orgn,
            sh: config.walk.sh,
            tg: config.tg,
            ps: config.ps,
            vmid: VMID,
        }
    }
}

impl DmaStage2 for Dma {
    fn revoke(&mut self, range: PageRange) -> Result<(), TableError> {
        if fault() == Fault::InvalidateFirst {
            let _ = invalidate_all(Stale::Range { ipa: range.ipa(), size: range.bytes() }, usize::MAX);
            scheduling_point();
        }
        let result = self.shadow.revoke(range, &mut Smmus(&mut self.mirror));
        self.mirror.update();
        result
    }

    fn grant(&mut self, range: PageRange) -> Result<(), TableError> {
        let result = self.shadow.grant(range);
        self.mirror.update();
        scheduling_point();
        result
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        let leaf = self.shadow.next_leaf(from)?;
        let start = leaf.iova.0.max(from.0);
        let skipped = start - leaf.iova.0;
        let kind = if leaf.attrs.mem == MemType::Normal { LeafKind::Normal } else { LeafKind::Device };
        Some(Leaf { ipa: Ipa(start), pa: Pa(leaf.pa.0 + skipped), bytes: leaf.size - skipped, kind })
    }

    fn coalesce(&mut self, range: PageRange) {
        let _ = self.shadow.coalesce(range, &mut Smmus(&mut self.mirror));
        self.mirror.update();
    }

    fn window(&self) -> PageRange {
        PageRange::covering(Ipa(0), self.shadow.limit().0).unwrap_or_else(|| panic!("the shadow maps nothing"))
    }
}

/// Page operations; donated pages are added to the pool.
pub(crate) struct Pages;

impl PageOps for Pages {
    fn map(&mut self, _range: PageRange) -> Result<(), NoMemory> {
        scheduling_point();
        Ok(())
    }

    fn unmap(&mut self, _range: PageRange) {
        scheduling_point();
    }

    fn clean_invalidate(&mut self, _range: PageRange) {
        scheduling_point();
    }

    fn zero(&mut self, range: PageRange) {
        let start = range.pa().0;
        let words: Vec<_> = (start..start + range.bytes()).step_by(8).map(|word| (word, 0)).collect();
        world().mem.store_at_once(&words);
        scheduling_point();
    }

    fn add_to_pool(&mut self, range: PageRange) {
        world().pool.lock().donated.extend(range.pfns());
    }

    fn remove_from_pool(&mut self, range: PageRange) -> Result<(), InUse> {
        let world = world();
        let mut pool = world.pool.lock();
        if range.pfns().any(|pfn| !pool.donated.contains(&pfn)) {
            return Err(InUse);
        }
        pool.donated.retain(|pfn| !range.pfns().any(|gone| gone == *pfn));
        Ok(())
    }

    fn clean_invalidate_bytes(&self, _: Pa, _: u64) {
        scheduling_point();
    }

    fn load64(&self, pa: Pa) -> u64 {
        scheduling_point();
        world().mem.cpu_read64(pa.0)
    }

    fn store64(&mut self, pa: Pa, value: u64) {
        scheduling_point();
        world().mem.cpu_write64(pa.0, value);
    }

    fn store32(&mut self, pa: Pa, value: u32) {
        scheduling_point();
        world().mem.cpu_write32(pa.0, value);
    }
}
