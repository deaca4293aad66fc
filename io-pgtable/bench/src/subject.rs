//! The compared subjects: page tables that map and unmap ranges, with counters of their TLB maintenance.

use std::sync::atomic::{AtomicU64, Ordering};

/// A page table under test. Addresses and sizes in bytes; a failure is a panic, since it would falsify the figures.
pub(crate) trait Subject {
    /// Name in reports.
    const NAME: &'static str;
    /// Whether a part of a block can be unmapped.
    const SPLITS: bool;
    /// Size of a page.
    const PAGE: u64 = 0x1000;
    /// Size of a block.
    const BLOCK: u64 = 0x20_0000;
    /// An empty table with this input size in bits: 40 or 48.
    fn new(bits: u32) -> Self;
    /// Maps a range. Its alignment allows leaves of `leaf` bytes and no larger ones.
    fn map(&mut self, iova: u64, pa: u64, size: u64, leaf: u64);
    /// Unmaps a range of whole leaves of `leaf` bytes.
    fn unmap(&mut self, iova: u64, size: u64, leaf: u64);
    /// Unmaps one page of a block.
    fn hole(&mut self, iova: u64);
    /// Translates an address; 0 if it is not mapped.
    fn translate(&self, iova: u64) -> u64;
}

/// Number of requested TLB invalidations.
pub(crate) static TLBI: AtomicU64 = AtomicU64::new(0);
/// Number of requested TLB syncs.
pub(crate) static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Adds one without a locked instruction: the benchmark has one thread.
#[inline]
pub(crate) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}
