//! EL2's own event queue: the only one that hardware writes.

use super::hw::{Hw, queue_base};
use crate::features::Coherency;
use crate::platform::{DmaBuffer, Platform};
use crate::smmu::index::{self, EVENT_LOG2, Indices};
use crate::spec::events::{EVENT_SIZE, RawEvent};
use crate::spec::registers::{self as reg, queue_index};
use crate::spec::{get32, union32};

/// log2 of the number of entries: one 4K page.
const LOG2_ENTRIES: u32 = 7;
/// Size of the ring in bytes.
pub(super) const RING_SIZE: usize = 4096;
/// Maximum number of records per trap: a full queue, for any value of PROD.
const MAX_DRAIN: u32 = crate::smmu::budget::MOST_EVENTS;
const _: () = assert!(MAX_DRAIN == 1 << LOG2_ENTRIES);

/// The ring and its consumer index.
#[derive(Clone)]
pub(super) struct Evtq<B> {
    ring: B,
    log2: u32,
    indices: Indices,
    cons: u32,
    /// Number of records counted by [`Evtq::mark`] that were not taken yet.
    marked: u32,
    /// Overflow flag as last acknowledged.
    acknowledged: u32,
    coherent: Coherency,
}

/// Whether hardware dropped records since the last drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// No.
    None,
    /// Yes.
    Happened,
}

impl<B: DmaBuffer> Evtq<B> {
    pub(super) fn new(ring: B, max_log2: u32, coherent: Coherency) -> Self {
        let log2 = LOG2_ENTRIES.min(max_log2);
        Self { ring, log2, indices: Indices::new(log2), cons: 0, marked: 0, acknowledged: 0, coherent }
    }

    /// SMMU_EVENTQ_BASE for this ring.
    pub(super) fn base(&self) -> u64 {
        queue_base(self.ring.pa(), self.log2)
    }

    /// For registers that were just set to 0 with the queue disabled.
    pub(super) fn reset(&mut self) {
        self.cons = 0;
        self.marked = 0;
        self.acknowledged = 0;
    }

    /// Index and wrap bit of `prod` (the register).
    pub(super) fn index(&self, prod: u32) -> u32 {
        self.indices.of(prod)
    }

    /// SMMU_EVENTQ_PROD.
    pub(super) fn prod<P: Platform<Buffer = B>>(&self, hw: &Hw<P>) -> u32 {
        hw.read32(reg::EVENTQ_PROD)
    }

    /// Counts the records in the queue now: at most a full queue, for any value of PROD.
    pub(super) fn mark<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>) {
        let held = self.indices.used(self.prod(hw), self.cons);
        self.marked = held.min(MAX_DRAIN);
    }

    /// Whether all records that [`Evtq::mark`] found were taken.
    pub(super) fn is_past_mark(&self) -> bool {
        self.marked == 0
    }

    /// Whether there is a record before `prod`, an index from [`Evtq::index`].
    pub(super) fn holds(&self, prod: u32) -> bool {
        self.cons != prod
    }

    /// The next record before `prod`, an index from [`Evtq::index`].
    pub(super) fn pop(&mut self, prod: u32) -> Option<RawEvent> {
        if self.cons == prod {
            return None;
        }
        let offset = usize::try_from(self.indices.offset(self.cons, EVENT_LOG2)).ok()?;
        if self.coherent == Coherency::NonCoherent {
            self.ring.invalidate(offset, EVENT_SIZE);
        }
        let word = |at: usize| self.ring.read64(offset.saturating_add(at));
        let record = RawEvent([word(0), word(8), word(16), word(24)]);
        self.cons = self.indices.next(self.cons);
        self.marked = self.marked.saturating_sub(1);
        Some(record)
    }

    /// The overflow flag that was acknowledged last.
    pub(super) fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// Frees the slots and acknowledges an overflow in `prod` (the register).
    pub(super) fn publish<P: Platform<Buffer = B>>(&mut self, hw: &Hw<P>, prod: u32) -> Overflow {
        let flag = get32(queue_index::OVERFLOW, prod);
        let old = core::mem::replace(&mut self.acknowledged, flag);
        // Hardware may overwrite the records after this store: their reads are ordered before it.
        hw.publish32(reg::EVENTQ_CONS, union32([self.cons, index::overflow(flag)]));
        if flag == old { Overflow::None } else { Overflow::Happened }
    }
}
