//! EL2's own event queue: the only one that hardware writes.

use crate::features::Coherency;
use crate::hw::Hw;
use crate::platform::{DmaBuffer, Platform};
use crate::spec::events::{EVENT_SIZE, RawEvent};
use crate::spec::registers::{self as reg, queue_base, queue_index};
use crate::spec::{get32, mask64, put32, put64, union32, union64};

/// Log2 of the entries: one 4K page.
const LOG2_ENTRIES: u32 = 7;
/// Bytes of the ring.
pub(crate) const RING_SIZE: usize = 4096;
/// Most records that one trap takes: a full queue, whatever hardware says that it holds.
pub(crate) const MAX_DRAIN: u32 = crate::budget::MOST_EVENTS;
const _: () = assert!(MAX_DRAIN == 1 << LOG2_ENTRIES);

/// The ring and its consumer index.
#[derive(Clone)]
pub(crate) struct Evtq<B> {
    ring: B,
    log2: u32,
    cons: u32,
    /// Records still to be taken of those that [`Evtq::mark`] found.
    marked: u32,
    /// Overflow flag as last acknowledged.
    acknowledged: u32,
    coherent: Coherency,
}

/// Whether the hardware had to drop records since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// No.
    None,
    /// Yes.
    Happened,
}

impl<B: DmaBuffer> Evtq<B> {
    pub(crate) fn new(ring: B, max_log2: u32, coherent: Coherency) -> Self {
        Self { ring, log2: LOG2_ENTRIES.min(max_log2), cons: 0, marked: 0, acknowledged: 0, coherent }
    }

    /// SMMU_EVENTQ_BASE for this ring.
    pub(crate) fn base(&self) -> u64 {
        union64([
            self.ring.pa().0 & mask64(queue_base::ADDR),
            put64(queue_base::LOG2SIZE, u64::from(self.log2)),
            put64(queue_base::ALLOC, 1),
        ])
    }

    /// The registers were just set to 0 with the queue disabled.
    pub(crate) fn reset(&mut self) {
        self.cons = 0;
        self.marked = 0;
        self.acknowledged = 0;
    }

    fn mask(&self) -> u32 {
        u32::MAX >> 31_u32.saturating_sub(self.log2)
    }

    /// Index and wrap bit that `prod` (the register) names.
    pub(crate) fn index(&self, prod: u32) -> u32 {
        get32(queue_index::INDEX, prod) & self.mask()
    }

    /// SMMU_EVENTQ_PROD.
    pub(crate) fn prod<P: Platform<Buffer = B>>(&self, hw: &Hw<P>) -> u32 {
        hw.read32(reg::EVENTQ_PROD)
    }

    /// Remembers which records are in the queue now: no more than it has room for, whatever hardware says.
    pub(crate) fn mark<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) {
        let held = self.index(self.prod(hw)).wrapping_sub(self.cons) & self.mask();
        self.marked = held.min(MAX_DRAIN);
    }

    /// Whether all records that [`Evtq::mark`] found were taken.
    pub(crate) fn is_past_mark(&self) -> bool {
        self.marked == 0
    }

    /// Whether there is a record before `prod`, an index from [`Evtq::index`].
    pub(crate) fn holds(&self, prod: u32) -> bool {
        self.cons != prod
    }

    /// The next record before `prod`, an index from [`Evtq::index`].
    pub(crate) fn pop(&mut self, prod: u32) -> Option<RawEvent> {
        if self.cons == prod {
            return None;
        }
        let slot = self.cons & (self.mask() >> 1);
        let offset = usize::try_from(slot).ok()?.checked_mul(EVENT_SIZE)?;
        if self.coherent == Coherency::NonCoherent {
            self.ring.invalidate(offset, EVENT_SIZE);
        }
        let word = |at: usize| self.ring.read64(offset.saturating_add(at));
        let record = RawEvent([word(0), word(8), word(16), word(24)]);
        self.cons = self.cons.wrapping_add(1) & self.mask();
        self.marked = self.marked.saturating_sub(1);
        Some(record)
    }

    /// The overflow flag that was acknowledged last.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// Gives the slots back and acknowledges an overflow that `prod` (the register) shows.
    pub(crate) fn publish<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>, prod: u32) -> Overflow {
        let flag = get32(queue_index::OVERFLOW, prod);
        let old = core::mem::replace(&mut self.acknowledged, flag);
        // Hardware overwrites the records from here on: their reads come before.
        hw.publish32(reg::EVENTQ_CONS, union32([self.cons, put32(queue_index::OVERFLOW, flag)]));
        if flag == old { Overflow::None } else { Overflow::Happened }
    }
}
