//! Physical memory with history: every 64-bit word keeps its earlier values with their times.
//!
//! A cache of an SMMU may hold any value that a word had since the last invalidation. The model has no particular
//! cache; it gets all these values from memory. There are two views: the one of the CPUs, and the point of coherency.
//! In a coherent system they are the same. An SMMU that does not snoop sees a CPU store only after [`Memory::clean`],
//! and a CPU sees the SMMU's writes only after [`Memory::invalidate`]. Stores that no barrier has ordered yet have
//! their own methods ([`Memory::store_unordered`]).
//!
//! A test that starts from the same state many times uses [`Saved`]. Pages are copy-on-write, so restoring costs only
//! the changed pages.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use page::index_of;
use pages::Pages;

pub use saved::Saved;

/// Logical time: it advances with every store, command and register write that changes state.
pub type Time = u64;

/// A value that a word had during `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The 64-bit word.
    pub value: u64,
    /// First moment at which it could be read.
    pub start: Time,
    /// Moment at which it was overwritten; `None` while it is the current value.
    pub end: Option<Time>,
}

/// Type of region at a physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Memory.
    Ram,
    /// A device: writes are logged, reads give zero.
    Mmio,
}

/// A write that reached a device's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioWrite {
    /// Physical address of the first byte.
    pub pa: u64,
    /// The value of the (up to eight) bytes, little-endian.
    pub value: u64,
    /// Number of bytes.
    pub size: u64,
}

/// No region at this address: the interconnect returns an external abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalAbort;

/// Whether device and walker accesses snoop the CPU's caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snoop {
    /// CPU and device see the same memory.
    Coherent,
    /// The device sees the point of coherency only.
    NonCoherent,
}

/// Shared handle to one machine's physical memory.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Clone)]
struct Inner {
    now: Time,
    snoop: Snoop,
    regions: Arc<BTreeMap<u64, (u64, Region)>>,
    cpu: Pages,
    poc: Pages,
    mmio: Vec<MmioWrite>,
    /// For each SMMU, the time before which it needs no history.
    floors: Vec<Time>,
    /// History before this time was dropped.
    dropped_before: Time,
    /// The latest [`page::Page::stamp`]. It only increases.
    stamp: u64,
    /// The words with stores not yet ordered by a barrier.
    pending: Vec<u64>,
}

const PAGE: u64 = 4096;

impl Memory {
    /// Empty memory: every access aborts until a region is added.
    #[must_use]
    pub fn new(snoop: Snoop) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 1,
            snoop,
            regions: Arc::default(),
            cpu: Pages::default(),
            poc: Pages::default(),
            mmio: Vec::new(),
            floors: Vec::new(),
            dropped_before: 0,
            stamp: 0,
            pending: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `size` bytes of zeroed RAM, or a device, at `base` (both multiples of 4096).
    pub fn add(&self, base: u64, size: u64, region: Region) {
        assert!(base.is_multiple_of(PAGE) && size.is_multiple_of(PAGE), "regions are whole pages");
        let mut m = self.lock();
        Arc::make_mut(&mut m.regions).insert(base, (size, region));
        if region == Region::Ram {
            m.cpu.add(base, size);
            m.poc.add(base, size);
        }
    }

    /// The type of region at `pa`.
    #[must_use]
    pub fn region(&self, pa: u64) -> Option<Region> {
        self.lock().region(pa)
    }

    /// The current moment.
    #[must_use]
    pub fn now(&self) -> Time {
        self.lock().now
    }

    /// Lets time pass, and returns the new moment.
    pub fn tick(&self) -> Time {
        let mut m = self.lock();
        m.now += 1;
        m.now
    }

    /// Reads one byte as a CPU does; zero outside RAM.
    #[must_use]
    pub fn cpu_read8(&self, pa: u64) -> u8 {
        let word = self.cpu_read64(pa & !7);
        word.to_le_bytes()[byte_of(pa)]
    }

    /// Reads the aligned 64-bit word at `pa` as a CPU does; zero outside RAM.
    #[must_use]
    pub fn cpu_read64(&self, pa: u64) -> u64 {
        self.lock().cpu_get(pa & !7)
    }

    /// Reads the aligned 32-bit word at `pa` as a CPU does.
    #[must_use]
    pub fn cpu_read32(&self, pa: u64) -> u32 {
        let word = self.cpu_read64(pa & !7);
        u32::try_from((word >> ((pa & 4) * 8)) & 0xffff_ffff).unwrap_or(0)
    }

    /// Stores the aligned 64-bit word at `pa` as a CPU does; ignored outside RAM.
    pub fn cpu_write64(&self, pa: u64, value: u64) {
        let mut m = self.lock();
        if m.region(pa) == Some(Region::Ram) {
            m.cpu_set(pa & !7, value);
        }
    }

    /// Stores `value` to each of these aligned words as a CPU does.
    pub fn cpu_fill(&self, words: impl Iterator<Item = u64>, value: u64) {
        let mut m = self.lock();
        for word in words {
            if m.region(word) == Some(Region::Ram) {
                m.cpu_set(word & !7, value);
            }
        }
    }

    /// Stores the aligned 32-bit word at `pa` as a CPU does.
    pub fn cpu_write32(&self, pa: u64, value: u32) {
        let shift = (pa & 4) * 8;
        let old = self.cpu_read64(pa & !7);
        let word = (old & !(0xffff_ffff << shift)) | (u64::from(value) << shift);
        self.cpu_write64(pa & !7, word);
    }

    /// Stores bytes as a CPU does; those of one aligned word in a single store.
    pub fn cpu_write(&self, pa: u64, bytes: &[u8]) {
        let mut at = pa;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = byte_of(at);
            let (now, later) = rest.split_at(rest.len().min(8 - within));
            let mut word = self.cpu_read64(at & !7).to_le_bytes();
            word[within..within + now.len()].copy_from_slice(now);
            self.cpu_write64(at & !7, u64::from_le_bytes(word));
            at += wide(now.len());
            rest = later;
        }
    }

    /// Changes aligned words for every observer at the same time, and cleans them.
    pub fn store_at_once(&self, words: &[(u64, u64)]) {
        let mut m = self.lock();
        m.now += 1;
        let now = m.now;
        for &(word, value) in words {
            m.cpu_store(word & !7, value);
            m.poc_set_at(word & !7, value, now);
        }
    }

    /// Sets the initial value of aligned words: no cache can hold older values.
    pub fn preset(&self, words: impl IntoIterator<Item = (u64, u64)>) {
        let mut m = self.lock();
        for (word, value) in words {
            m.stamp += 1;
            let stamp = m.stamp;
            if let Some(page) = m.poc.change(word, stamp) {
                page.set(index_of(word), value);
            }
            if m.snoop == Snoop::NonCoherent {
                m.cpu_store(word & !7, value);
            }
        }
    }

    /// Cleans `range` to the point of coherency: a non-snooping device now reads the CPU's values. Also lines that are
    /// not dirty are written, over what a device has written since: use it for ranges that only the CPU writes.
    pub fn clean(&self, range: Range<u64>) {
        let mut m = self.lock();
        if m.snoop == Snoop::Coherent {
            return;
        }
        m.each_word_of_lines(range, |m, word| {
            let value = m.cpu_get(word);
            m.poc_set(word, value);
        });
    }

    /// Invalidates the CPU's cached copy of `range`.
    pub fn invalidate(&self, range: Range<u64>) {
        let mut m = self.lock();
        if m.snoop == Snoop::Coherent {
            return;
        }
        m.each_word_of_lines(range, |m, word| {
            let value = m.poc_get(word);
            if m.cpu_get(word) != value {
                m.cpu_store(word, value);
            }
        });
    }

    /// Registers another SMMU as an observer; returns its number.
    #[must_use]
    pub fn attach(&self) -> usize {
        let mut m = self.lock();
        m.floors.push(0);
        m.floors.len() - 1
    }

    /// Records that SMMU `observer` caches nothing older than `before`, and drops history that no SMMU needs.
    pub fn drop_history(&self, observer: usize, before: Time) {
        let mut m = self.lock();
        if let Some(floor) = m.floors.get_mut(observer) {
            *floor = before.max(*floor);
        }
        let before = m.floors.iter().copied().min().unwrap_or(0);
        if before <= m.dropped_before {
            return;
        }
        let m = &mut *m;
        m.dropped_before = before;
        m.poc.each_mut(
            |page| page.has_history_before(before),
            |page| {
                m.stamp += 1;
                page.stamp = m.stamp;
                page.drop_history(before);
            },
        );
    }

    /// Writes that reached devices since the last call.
    #[must_use]
    pub fn take_mmio_writes(&self) -> Vec<MmioWrite> {
        std::mem::take(&mut self.lock().mmio)
    }
}

impl Inner {
    fn region(&self, pa: u64) -> Option<Region> {
        if self.poc.is_ram(pa) {
            return Some(Region::Ram);
        }
        let (base, (size, region)) = self.regions.range(..=pa).next_back()?;
        (pa - base < *size).then_some(*region)
    }

    /// Calls `act` for the words of the lines of `range`, but not for pages without stores.
    fn each_word_of_lines(&mut self, range: Range<u64>, act: impl Fn(&mut Self, u64)) {
        let mut word = range.start & !63;
        let end = range.end.next_multiple_of(64);
        while word < end {
            let page = word / PAGE;
            let next = ((page + 1) * PAGE).min(end);
            if self.cpu.get(word).is_some() || self.poc.get(word).is_some() {
                (word..next).step_by(8).for_each(|word| act(self, word));
            }
            word = next;
        }
    }

    /// The stamp of `page` at the point of coherency.
    fn stamp_of(&self, page: u64) -> u64 {
        self.poc.get(page).map_or(0, |page| page.stamp)
    }

    fn value_stamp(&self, page: u64) -> u64 {
        self.poc.get(page).map_or(0, |page| page.value_stamp)
    }

    fn cpu_stamp(&self, page: u64) -> u64 {
        self.cpu_view().get(page).map_or(0, |page| page.value_stamp)
    }

    fn cpu_view(&self) -> &Pages {
        if self.snoop == Snoop::Coherent { &self.poc } else { &self.cpu }
    }

    fn cpu_get(&self, word: u64) -> u64 {
        self.cpu_view().load(word)
    }

    fn poc_get(&self, word: u64) -> u64 {
        self.poc.load(word)
    }

    fn cpu_set(&mut self, word: u64, value: u64) {
        if self.snoop == Snoop::Coherent {
            self.poc_set(word, value);
        } else {
            self.cpu_store(word, value);
        }
    }

    fn cpu_store(&mut self, word: u64, value: u64) {
        self.stamp += 1;
        if let Some(page) = self.cpu.change(word, self.stamp) {
            page.set(index_of(word), value);
        }
    }

    fn dev_set(&mut self, word: u64, value: u64) {
        self.assert_no_pending_store(word);
        self.poc_set(word, value);
    }

    fn poc_set(&mut self, word: u64, value: u64) {
        let old = self.poc_get(word);
        if old == value {
            return;
        }
        self.now += 1;
        self.poc_set_at(word, value, self.now);
    }

    fn poc_set_at(&mut self, word: u64, value: u64, now: Time) {
        let old = self.poc_get(word);
        if old == value {
            return;
        }
        self.stamp += 1;
        if let Some(page) = self.poc.change(word, self.stamp) {
            page.set_at(index_of(word), value, now);
        }
    }
}

fn byte_of(pa: u64) -> usize {
    usize::try_from(pa & 7).unwrap_or(0)
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

mod device;
mod page;
mod pages;
mod pending;
mod saved;
#[cfg(test)]
mod tests;
