//! The transitions on real tables: both stage 2s, caches without eviction, and allocation failures.

use std::{
    boxed::Box,
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    vec::Vec,
};

use io_pgtable::{Attrs, Bbm, Cfg, HeapMemory, IoPgtable, Ipa, MemType, NoTlb, Pa, Prot, S2};
use shadow_s2::{Invalidate, InvalidateError, Plan, ShadowS2, Target};

use super::{range, unchecked};
use crate::{
    Devices, DmaStage2, Error, HostStage2, InUse, Leaf, LeafKind, NoMemory, Owner, Ownership, PAGE_SHIFT, PageInfo,
    PageMap, PageOps, PageRange, TableError,
};

const RAM: u64 = 0x40000;
const PAGES: u64 = 0x2000;
const ITS: u64 = 0x8090;

/// The CPU stage 2, for CPUs that all need break-before-make.
struct Cpu(IoPgtable<S2, HeapMemory>);

fn leaf(leaf: io_pgtable::Leaf, from: Ipa) -> Leaf {
    let skip = from.0.saturating_sub(leaf.iova.0);
    let kind = if leaf.attrs.mem == MemType::Device { LeafKind::Device } else { LeafKind::Normal };
    Leaf { ipa: Ipa(leaf.iova.0 + skip), pa: Pa(leaf.pa.0 + skip), bytes: leaf.size - skip, kind }
}

impl HostStage2 for Cpu {
    fn unmap(&mut self, range: PageRange) -> Result<(), TableError> {
        self.0.unmap(range.ipa().into(), range.bytes(), &mut NoTlb).map_err(TableError::from)
    }

    fn map(&mut self, range: PageRange) -> Result<(), TableError> {
        let attrs = Attrs::normal(Prot::RWX);
        self.0.map(range.ipa().into(), range.pa(), range.bytes(), attrs).map_err(TableError::from)
    }

    fn coalesce(&mut self, range: PageRange) {
        let _ = self.0.coalesce_range(range.ipa().into(), range.bytes(), &mut NoTlb);
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        self.0.leaves(from.into(), (1 << 40) - from.0).next().map(|found| leaf(found, from))
    }
}

/// SMMUs that keep cached translations, and can be set to time out.
#[derive(Clone, Default)]
struct Smmus {
    cached: Rc<RefCell<Vec<(u64, u64)>>>,
    unresponsive: Rc<Cell<bool>>,
}

impl Invalidate for Smmus {
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        if self.unresponsive.get() {
            return Err(InvalidateError);
        }
        let mut cached = self.cached.borrow_mut();
        match plan.target {
            Target::All => cached.clear(),
            Target::Range { start: Ipa(first), bytes, .. } => {
                cached.retain(|&(start, size)| start + size <= first || first + bytes <= start);
            }
        }
        Ok(())
    }
}

struct Dma {
    shadow: ShadowS2<HeapMemory>,
    smmus: Smmus,
}

impl Dma {
    /// A device accesses the page.
    fn touch(&self, pfn: u64) {
        let found = self.shadow.leaf(Ipa(pfn << PAGE_SHIFT));
        self.smmus.cached.borrow_mut().extend(found.map(|leaf| (leaf.iova.0, leaf.size)));
    }

    fn reach(&self, pfn: u64) -> bool {
        let at = pfn << PAGE_SHIFT;
        let cached = self.smmus.cached.borrow().iter().any(|&(start, size)| (start..start + size).contains(&at));
        cached || self.shadow.leaf(Ipa(at)).is_some()
    }
}

impl DmaStage2 for Dma {
    fn revoke(&mut self, range: PageRange) -> Result<(), TableError> {
        self.shadow.revoke(range, &mut self.smmus)
    }

    fn grant(&mut self, range: PageRange) -> Result<(), TableError> {
        self.shadow.grant(range)
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        self.shadow.next_leaf(from).map(|found| leaf(found, from))
    }

    fn coalesce(&mut self, range: PageRange) {
        let _ = self.shadow.coalesce(range, &mut self.smmus);
    }

    fn window(&self) -> PageRange {
        range(0, self.shadow.limit().0 >> PAGE_SHIFT)
    }
}

/// A `PageOps` that implements only the pool.
#[derive(Default)]
struct PoolOps {
    pool: BTreeSet<u64>,
}

impl PageOps for PoolOps {
    fn map(&mut self, _range: PageRange) -> Result<(), NoMemory> {
        Ok(())
    }
    fn unmap(&mut self, _range: PageRange) {}
    fn clean_invalidate(&mut self, _range: PageRange) {}
    fn zero(&mut self, _range: PageRange) {}
    fn add_to_pool(&mut self, range: PageRange) {
        self.pool.extend(range.pfns());
    }
    fn remove_from_pool(&mut self, range: PageRange) -> Result<(), InUse> {
        if !range.pfns().all(|pfn| self.pool.contains(&pfn)) {
            return Err(InUse);
        }
        self.pool.retain(|&pfn| pfn < range.first() || range.end() <= pfn);
        Ok(())
    }
    fn clean_invalidate_bytes(&self, _pa: Pa, _bytes: u64) {}
    fn load64(&self, _pa: Pa) -> u64 {
        0
    }
    fn store64(&mut self, _pa: Pa, _value: u64) {}
    fn store32(&mut self, _pa: Pa, _value: u32) {}
}

type Owned = Ownership<'static, Cpu, Dma, PoolOps>;

struct Machine {
    owned: Owned,
    cpu_memory: HeapMemory,
    dma_memory: HeapMemory,
    smmus: Smmus,
}

fn machine(bbm: Bbm) -> Machine {
    let storage = Box::leak(std::vec![PageInfo::default(); usize::try_from(PAGES).unwrap()].into_boxed_slice());
    let mut map = PageMap::new(storage, &[range(RAM, PAGES)]).unwrap();
    map.reserve(range(RAM + 0x1f00, 0x100), Owner::Hyp);
    let (cpu_memory, dma_memory) = (HeapMemory::new(Pa(0), 1 << 20), HeapMemory::new(Pa(0), 1 << 20));
    let mut cpu = Cpu(IoPgtable::new(&Cfg::new(40, 40), cpu_memory.clone()).unwrap());
    let mut shadow = ShadowS2::new(Cfg { bbm, ..Cfg::new(40, 40) }, dma_memory.clone()).unwrap();
    for run in map.runs_of(Owner::Host) {
        cpu.map(run).unwrap();
    }
    shadow.snapshot(map.runs_of(Owner::Host), [range(ITS, 1)]).unwrap();
    let smmus = Smmus::default();
    let dma = Dma { shadow, smmus: smmus.clone() };
    Machine { owned: Ownership::new(map, cpu, dma, PoolOps::default(), 512), cpu_memory, dma_memory, smmus }
}

fn audit(owned: &Owned) {
    let its = [range(ITS, 1)];
    assert_eq!(owned.audit(Devices { cpu: &[], dma: &its }), Ok(()));
}

#[test]
fn t02_t03_t46_cached_translations_are_invalidated_when_the_call_returns() {
    for bbm in [Bbm::Level0, Bbm::Level2] {
        let Machine { mut owned, cpu_memory, dma_memory, .. } = machine(bbm);
        owned.vm_create().unwrap();
        let level = || (cpu_memory.live_tables(), dma_memory.live_tables());
        let tables = level();
        let blocks = [(RAM, 1), (RAM + 0x200, 0x200), (RAM + 0x3ff, 2), (RAM + 0x801, 0x1ff)];
        for (pfn, count) in blocks {
            for to_guest in [false, true] {
                (pfn..pfn + count).for_each(|page| owned.dma().touch(page));
                let answer = if to_guest {
                    owned.host_donate_guest(unchecked(pfn, count), 0)
                } else {
                    owned.host_donate_hyp(unchecked(pfn, count))
                };
                assert_eq!(answer, Ok(()));
                assert!((pfn..pfn + count).all(|page| !owned.dma().reach(page)), "{bbm:?} {pfn:#x}");
                audit(&owned);
                if to_guest {
                    owned.vm_destroy(0).unwrap();
                    owned.host_reclaim_page(unchecked(pfn, count)).unwrap();
                    owned.vm_create().unwrap();
                } else {
                    owned.hyp_donate_host(unchecked(pfn, count)).unwrap();
                }
                assert!((pfn..pfn + count).all(|page| owned.dma().reach(page)));
                assert_eq!(level(), tables, "{bbm:?}: tables were freed, blocks were coalesced");
                audit(&owned);
            }
        }
    }
}

#[test]
fn t35_memory_that_runs_out_at_any_point_changes_nothing() {
    for (cpu_left, dma_left) in [(0, 9), (9, 0), (9, 1), (1, 1)] {
        let Machine { mut owned, cpu_memory, dma_memory, .. } = machine(Bbm::Level2);
        cpu_memory.fail_after(Some(cpu_left));
        dma_memory.fail_after(Some(dma_left));
        for pfn in (RAM..RAM + 0x1000).step_by(0x1ff) {
            let answer = owned.host_donate_hyp(unchecked(pfn, 3));
            assert!(matches!(answer, Ok(()) | Err(Error::NoMemory)), "{answer:?}");
            audit(&owned);
        }
        cpu_memory.fail_after(None);
        dma_memory.fail_after(None);
        owned.host_donate_hyp(unchecked(RAM + 0x1200, 3)).unwrap();
        audit(&owned);
    }
}

#[test]
fn t47_a_failed_smmu_blocks_only_revocations() {
    let Machine { mut owned, smmus, dma_memory, .. } = machine(Bbm::Level2);
    owned.host_donate_hyp(unchecked(RAM + 5, 1)).unwrap();
    smmus.unresponsive.set(true);
    owned.dma().touch(RAM + 9);
    let level = dma_memory.live_tables();
    for _ in 0..100 {
        assert_eq!(owned.host_donate_hyp(unchecked(RAM + 9, 1)), Err(Error::NotCompleted));
        assert_eq!(owned.map().owner(RAM + 9), Owner::Host);
        audit(&owned);
    }
    assert_eq!(dma_memory.live_tables(), level, "repeated failures use no more memory");
    // Pages can be returned without the SMMU.
    owned.hyp_donate_host(unchecked(RAM + 5, 1)).unwrap();
    owned.host_share_hyp(unchecked(RAM + 6, 1)).unwrap();
    audit(&owned);
    smmus.unresponsive.set(false);
    owned.host_donate_hyp(unchecked(RAM + 9, 1)).unwrap();
    assert!(!owned.dma().reach(RAM + 9));
    audit(&owned);
}

#[test]
fn a_refused_revocation_keeps_no_table() {
    for bbm in [Bbm::Level0, Bbm::Level2] {
        let Machine { mut owned, cpu_memory, dma_memory, .. } = machine(bbm);
        let start = (cpu_memory.live_tables(), dma_memory.live_tables());
        dma_memory.fail_after(Some(0));
        // With 4 KiB leaves the IOMMU stage 2 needs no new table, so it never fails.
        let answer = owned.host_donate_hyp(unchecked(RAM + 5, 1));
        dma_memory.fail_after(None);
        if answer.is_err() {
            assert_eq!(answer, Err(Error::NoMemory));
            assert_eq!((cpu_memory.live_tables(), dma_memory.live_tables()), start);
        } else {
            assert!(bbm == Bbm::Level0, "the block was split without a table");
        }
        audit(&owned);
    }
}

#[test]
fn random_runs_on_real_tables_pass_the_audit_and_leak_nothing() {
    for bbm in [Bbm::Level0, Bbm::Level2] {
        let Machine { mut owned, cpu_memory, dma_memory, smmus } = machine(bbm);
        let start = (cpu_memory.live_tables(), dma_memory.live_tables());
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % limit
        };
        let mut held: Vec<(u64, u64)> = Vec::new();
        for round in 0..1500 {
            smmus.unresponsive.set(below(16) == 0);
            cpu_memory.fail_after((below(8) == 0).then_some(1));
            dma_memory.fail_after((below(8) == 0).then_some(1));
            if below(2) == 0 || held.is_empty() {
                let most = if below(4) == 0 { 512 } else { 6 };
                let (pfn, count) = (RAM + below(0x1c00), 1 + below(most));
                owned.dma().touch(pfn);
                owned.dma().touch(pfn + count - 1);
                if owned.host_donate_hyp(unchecked(pfn, count)).is_ok() {
                    assert!((pfn..pfn + count).all(|page| !owned.dma().reach(page)));
                    held.push((pfn, count));
                }
            } else {
                let (pfn, count) =
                    held.swap_remove(usize::try_from(below(u64::try_from(held.len()).unwrap())).unwrap());
                if owned.hyp_donate_host(unchecked(pfn, count)).is_err() {
                    held.push((pfn, count));
                }
            }
            if round % 8 == 0 && owned.stats().unmapped == 0 {
                audit(&owned);
            }
        }
        smmus.unresponsive.set(false);
        cpu_memory.fail_after(None);
        dma_memory.fail_after(None);
        for (pfn, count) in held {
            owned.hyp_donate_host(unchecked(pfn, count)).unwrap();
        }
        (RAM..RAM + PAGES).for_each(|pfn| {
            let _ = owned.host_fault(pfn);
        });
        audit(&owned);
        let lost = owned.dma().shadow.quarantined() / 4096;
        // Coalescing that failed because of the failed SMMU is retried.
        let all = range(RAM, 0x1f00);
        owned.cpu_mut().coalesce(all);
        owned.dma_mut().coalesce(all);
        assert_eq!((cpu_memory.live_tables(), dma_memory.live_tables()), (start.0, start.1 + lost), "{bbm:?}");
    }
}
