//! The mock machine for the transitions.

use std::{
    boxed::Box,
    cell::{RefCell, RefMut},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    vec::Vec,
};

use io_pgtable::{Ipa, Pa};

use super::range;
use crate::{
    DmaStage2, GuestId, GuestTables, HostStage2, InUse, Leaf, LeafKind, NoMemory, Owner, Ownership, PAGE_BYTES,
    PAGE_SHIFT, PFN_LIMIT, PageInfo, PageMap, PageOps, PageRange, TableError,
};

/// One call into the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    CpuUnmap,
    CpuMap,
    DmaRevoke,
    DmaGrant,
    GuestCreate,
    GuestEnd,
    GuestGrant,
    GuestRevoke,
    El2Map,
    El2Unmap,
    CleanInvalidate,
    Zero,
    AddToPool,
    RemoveFromPool,
}

/// The state of the machine, comparable before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Pages that the host's CPUs reach.
    pub(super) cpu: BTreeSet<u64>,
    /// Pages that the host's streams reach, through the table or a cached translation.
    pub(super) dma: BTreeSet<u64>,
    /// Pages that the devices of each guest reach, by table or by a cached translation.
    pub(super) guests: BTreeMap<u8, BTreeSet<u64>>,
    /// Pages that EL2 maps.
    pub(super) el2: BTreeSet<u64>,
    /// Pages in EL2's pool.
    pub(super) pool: BTreeSet<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) state: State,
    /// Pages written since they were last zeroed.
    pub(super) dirty: BTreeSet<u64>,
    /// Pages that were cleaned and invalidated after the last write.
    pub(super) cleaned: BTreeSet<u64>,
    /// Calls of [`PageOps::clean_invalidate_bytes`].
    pub(super) cleans: u32,
    /// Memory content, as seen by non-cacheable accesses of the host.
    pub(super) words: BTreeMap<u64, u64>,
    /// Lines of eight words in EL2's cache, and whether they are dirty.
    pub(super) lines: BTreeMap<u64, ([u64; 8], bool)>,
    pub(super) steps: Vec<Step>,
    /// Steps that fail, by their number since the last `fail_steps`.
    pub(super) fail: Vec<usize>,
    /// The error of a failing IOMMU step.
    pub(super) dma_error: Option<TableError>,
    /// Devices in both tables, outside RAM.
    pub(super) devices: Vec<PageRange>,
    /// Wrong leaves of both tables: the page, its output address, and its memory type.
    pub(super) wrong: BTreeMap<u64, (u64, LeafKind)>,
    /// A page whose leaf begins one page early.
    pub(super) early: Option<u64>,
}

impl Machine {
    /// The line of `pa`, fetched if it is not in the cache.
    fn line(&mut self, pa: Pa) -> &mut ([u64; 8], bool) {
        let (line, words) = (pa.0 & !63, &self.words);
        self.lines.entry(line).or_insert_with(|| {
            let mut memory = (line..).step_by(8).map(|word| words.get(&word).copied().unwrap_or_default());
            ([(); 8].map(|()| memory.next().unwrap()), false)
        })
    }

    /// Records a step; returns whether it must fail.
    fn fails(&mut self, step: Step) -> bool {
        let number = self.steps.len();
        self.steps.push(step);
        self.fail.contains(&number)
    }

    /// Clears the recorded steps and sets which steps fail from now on.
    pub(super) fn fail_steps(&mut self, fail: &[usize]) {
        self.steps.clear();
        self.fail = fail.to_vec();
    }

    fn next_leaf(&self, set: &BTreeSet<u64>, from: Ipa) -> Option<Leaf> {
        let first = from.0.div_ceil(PAGE_BYTES);
        let ram = set.range(first..).next().map(|&pfn| (pfn, 1, LeafKind::Normal));
        let device = self
            .devices
            .iter()
            .filter(|device| device.end() > first)
            .map(|device| (device.first().max(first), device.end() - device.first().max(first), LeafKind::Device))
            .min_by_key(|&(pfn, ..)| pfn);
        let (pfn, count, kind) = [ram, device].into_iter().flatten().min_by_key(|&(pfn, ..)| pfn)?;
        let (to, kind) = self.wrong.get(&pfn).copied().unwrap_or((pfn, kind));
        Some(Leaf {
            ipa: Ipa((pfn - u64::from(self.early == Some(pfn))) << PAGE_SHIFT),
            pa: Pa(to << PAGE_SHIFT),
            bytes: count << PAGE_SHIFT,
            kind,
        })
    }
}

/// A handle to the machine, with the three traits.
#[derive(Clone, Debug, Default)]
pub(super) struct World(Rc<RefCell<Machine>>);

impl World {
    pub(super) fn get(&self) -> RefMut<'_, Machine> {
        self.0.borrow_mut()
    }

    pub(super) fn state(&self) -> State {
        self.get().state.clone()
    }
}

impl HostStage2 for World {
    fn unmap(&mut self, range: PageRange) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::CpuUnmap) {
            return Err(TableError::NoMemory);
        }
        if !range.pfns().all(|pfn| m.state.cpu.contains(&pfn)) {
            return Err(TableError::Unmappable);
        }
        range.pfns().for_each(|pfn| assert!(m.state.cpu.remove(&pfn)));
        Ok(())
    }

    fn map(&mut self, range: PageRange) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::CpuMap) {
            return Err(TableError::NoMemory);
        }
        for pfn in range.pfns() {
            // Either the page never changed owner, or it was zeroed and cleaned before the host could access it.
            let back_from_elsewhere = !m.state.dma.contains(&pfn);
            assert!(!back_from_elsewhere || !m.dirty.contains(&pfn), "page {pfn:#x} still has its old content");
            assert!(!back_from_elsewhere || m.cleaned.contains(&pfn), "page {pfn:#x} has lines in caches");
            assert!(m.state.cpu.insert(pfn), "page {pfn:#x} mapped twice");
        }
        Ok(())
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        let m = self.0.borrow();
        m.next_leaf(&m.state.cpu, from)
    }
}

impl DmaStage2 for World {
    fn revoke(&mut self, range: PageRange) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::DmaRevoke) {
            return Err(m.dma_error.unwrap_or(TableError::NoMemory));
        }
        for pfn in range.pfns() {
            assert!(!m.state.cpu.contains(&pfn), "page {pfn:#x} is revoked from devices before CPUs");
        }
        if !range.pfns().all(|pfn| m.state.dma.contains(&pfn)) {
            return Err(TableError::Unmappable);
        }
        range.pfns().for_each(|pfn| assert!(m.state.dma.remove(&pfn)));
        Ok(())
    }

    fn grant(&mut self, range: PageRange) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::DmaGrant) {
            return Err(m.dma_error.unwrap_or(TableError::NoMemory));
        }
        range.pfns().for_each(|pfn| assert!(m.state.dma.insert(pfn), "page {pfn:#x} mapped twice"));
        Ok(())
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        let m = self.0.borrow();
        m.next_leaf(&m.state.dma, from)
    }

    fn window(&self) -> PageRange {
        range(0, PFN_LIMIT)
    }
    fn guest_tables(&self) -> GuestTables {
        GuestTables::Each
    }
    fn create_guest(&mut self, guest: GuestId) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::GuestCreate) {
            return Err(TableError::NoMemory);
        }
        assert_eq!(m.state.guests.insert(guest.handle(), BTreeSet::new()), None, "a guest has two tables");
        Ok(())
    }

    fn end_guest(&mut self, guest: GuestId) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::GuestEnd) {
            return Err(TableError::NotCompleted);
        }
        assert_eq!(m.state.guests.remove(&guest.handle()), Some(BTreeSet::new()), "the guest ends while it has pages");
        Ok(())
    }

    fn grant_guest(&mut self, guest: GuestId, range: PageRange) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::GuestGrant) {
            return Err(m.dma_error.unwrap_or(TableError::NoMemory));
        }
        for pfn in range.pfns() {
            assert!(!m.state.cpu.contains(&pfn) && !m.state.dma.contains(&pfn), "host and guest reach {pfn:#x}");
            assert!(m.state.guests.get_mut(&guest.handle()).unwrap().insert(pfn), "page {pfn:#x} mapped twice");
        }
        Ok(())
    }

    fn revoke_guest(&mut self, guest: GuestId, range: PageRange) -> Result<(), TableError> {
        let mut m = self.get();
        if m.fails(Step::GuestRevoke) {
            return Err(m.dma_error.unwrap_or(TableError::NoMemory));
        }
        m.state.guests.get_mut(&guest.handle()).unwrap().retain(|&pfn| pfn < range.first() || range.end() <= pfn);
        Ok(())
    }

    fn next_guest_leaf(&self, guest: GuestId, from: Ipa) -> Option<Leaf> {
        let m = self.0.borrow();
        let first = from.0.div_ceil(PAGE_BYTES);
        let pfn = *m.state.guests.get(&guest.handle())?.range(first..).next()?;
        let (to, kind) = m.wrong.get(&pfn).copied().unwrap_or((pfn, LeafKind::Normal));
        Some(Leaf { ipa: Ipa(pfn << PAGE_SHIFT), pa: Pa(to << PAGE_SHIFT), bytes: PAGE_BYTES, kind })
    }
}

/// Index of the word of `pa` in its cache line.
fn index(pa: Pa) -> usize {
    usize::try_from(pa.0 % 64 / 8).unwrap()
}

impl PageOps for World {
    fn map(&mut self, range: PageRange) -> Result<(), NoMemory> {
        let mut m = self.get();
        if m.fails(Step::El2Map) {
            return Err(NoMemory);
        }
        range.pfns().for_each(|pfn| assert!(m.state.el2.insert(pfn), "page {pfn:#x} mapped twice"));
        Ok(())
    }

    fn unmap(&mut self, range: PageRange) {
        let mut m = self.get();
        m.fails(Step::El2Unmap);
        range.pfns().for_each(|pfn| assert!(m.state.el2.remove(&pfn), "page {pfn:#x} not mapped"));
    }

    fn clean_invalidate(&mut self, range: PageRange) {
        let mut m = self.get();
        m.fails(Step::CleanInvalidate);
        for pfn in range.pfns() {
            assert!(m.state.el2.contains(&pfn));
            assert!(!m.state.cpu.contains(&pfn) && !m.state.dma.contains(&pfn), "the host can write to it again");
            m.cleaned.insert(pfn);
        }
    }

    fn zero(&mut self, range: PageRange) {
        let mut m = self.get();
        m.fails(Step::Zero);
        for pfn in range.pfns() {
            assert!(m.state.el2.contains(&pfn));
            assert!(!m.state.cpu.contains(&pfn) && !m.state.dma.contains(&pfn), "the host still has access");
            assert!(m.state.guests.values().all(|pages| !pages.contains(&pfn)), "a device still has access");
            m.dirty.remove(&pfn);
            m.cleaned.insert(pfn);
        }
    }

    fn add_to_pool(&mut self, range: PageRange) {
        let mut m = self.get();
        m.fails(Step::AddToPool);
        for pfn in range.pfns() {
            assert!(m.state.el2.contains(&pfn) && m.cleaned.contains(&pfn));
            assert!(!m.state.cpu.contains(&pfn) && !m.state.dma.contains(&pfn), "the host reaches pool pages");
            assert!(m.state.pool.insert(pfn));
        }
    }

    fn remove_from_pool(&mut self, range: PageRange) -> Result<(), InUse> {
        let mut m = self.get();
        if m.fails(Step::RemoveFromPool) || !range.pfns().all(|pfn| m.state.pool.contains(&pfn)) {
            return Err(InUse);
        }
        range.pfns().for_each(|pfn| assert!(m.state.pool.remove(&pfn)));
        Ok(())
    }

    fn clean_invalidate_bytes(&self, pa: Pa, bytes: u64) {
        assert!(bytes <= 32 && pa.0.is_multiple_of(bytes), "the access may cross a cache line");
        let mut m = self.0.borrow_mut();
        m.cleans += 1;
        let line = pa.0 & !63;
        // A dirty line is written to memory completely, and no line is left.
        if let Some((words, true)) = m.lines.remove(&line) {
            m.words.extend((line..).step_by(8).zip(words));
        }
    }

    fn load64(&self, pa: Pa) -> u64 {
        let mut m = self.0.borrow_mut();
        assert!(m.state.el2.contains(&(pa.0 >> PAGE_SHIFT)));
        m.line(pa).0[index(pa)]
    }

    fn store64(&mut self, pa: Pa, value: u64) {
        let mut m = self.get();
        assert!(m.state.el2.contains(&(pa.0 >> PAGE_SHIFT)));
        let line = m.line(pa);
        line.0[index(pa)] = value;
        line.1 = true;
    }

    fn store32(&mut self, pa: Pa, value: u32) {
        let (word, shift) = (pa.0 & !7, (pa.0 & 4) * 8);
        let old = self.load64(Pa(word));
        self.store64(Pa(word), old & !(0xffff_ffff << shift) | u64::from(value) << shift);
    }
}

pub(super) type Owned = Ownership<'static, World, World, World>;

/// First page of the RAM of [`machine`].
pub(super) const RAM: u64 = 0x40000;
/// Pages of its first RAM range.
pub(super) const PAGES: u64 = 64;
/// First page of its second, smaller RAM range.
pub(super) const HIGH: u64 = 0x10_0000;
/// Memory that EL2 reserved at boot.
pub(super) const BOOT: u64 = RAM + 60;
/// Memory in RAM that firmware reserves.
pub(super) const FIRMWARE: u64 = RAM + 56;
/// Maximum number of pages of one call.
pub(super) const CAP: u64 = 16;

/// A machine with two ranges of RAM after boot.
pub(super) fn machine() -> (Owned, World) {
    let ram = [range(RAM, PAGES), range(HIGH, 8)];
    let storage = Box::leak(std::vec![PageInfo::default(); 72].into_boxed_slice());
    let mut map = PageMap::new(storage, &ram).unwrap();
    map.reserve(range(BOOT, 4), Owner::Hyp);
    map.reserve(range(FIRMWARE, 1), Owner::Device);
    let world = World::default();
    let host: BTreeSet<u64> = map.runs_of(Owner::Host).flat_map(PageRange::pfns).collect();
    world.get().dirty = host.clone();
    world.get().state = State { cpu: host.clone(), dma: host, ..State::default() };
    (Ownership::new(map, world.clone(), world.clone(), world.clone(), CAP), world)
}

/// Every page record of the machine.
pub(super) fn records(owned: &Owned) -> Vec<(u64, PageInfo)> {
    let ram: Vec<_> = owned.map().ram().collect();
    ram.into_iter().flat_map(PageRange::pfns).map(|pfn| (pfn, owned.map().page(pfn).unwrap())).collect()
}

/// Checks the invariants that must hold between any two calls.
pub(super) fn check(owned: &Owned, world: &World) {
    let state = world.state();
    for (pfn, page) in records(owned) {
        let host = page.owner() == Owner::Host;
        assert_eq!(state.cpu.contains(&pfn), host, "CPU, page {pfn:#x} {page:?}");
        assert_eq!(state.dma.contains(&pfn), host, "DMA, page {pfn:#x} {page:?}");
        for (&guest, pages) in &state.guests {
            let own = matches!(page.owner(), Owner::Guest(id) if id.handle() == guest);
            assert_eq!(pages.contains(&pfn), own, "devices of guest {guest}, page {pfn:#x} {page:?}");
        }
        let donated = page.hyp_use() == Some(crate::HypUse::Donated);
        assert_eq!(state.el2.contains(&pfn), donated || page.claims() > 0, "EL2, page {pfn:#x} {page:?}");
        assert!(!state.pool.contains(&pfn) || donated, "pool, page {pfn:#x} {page:?}");
        assert!(page.claims() == 0 || host, "page {pfn:#x} {page:?}");
    }
}
