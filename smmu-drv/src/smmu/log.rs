//! Fault records kept for the console.

use arrayvec::ArrayVec;

use crate::fault::{FAULT_LOG, FaultRecord};
use crate::stats::bump;

/// Records, oldest first; later ones are only counted.
#[derive(Clone)]
pub(super) struct FaultLog {
    records: ArrayVec<FaultRecord, FAULT_LOG>,
    not_kept: u64,
}

impl FaultLog {
    /// No record.
    pub(super) const fn new() -> Self {
        Self { records: ArrayVec::new_const(), not_kept: 0 }
    }

    /// As new.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.not_kept = 0;
    }

    /// Keeps `record`, or counts it.
    pub(super) fn add(&mut self, record: &FaultRecord) {
        if self.records.try_push(*record).is_err() {
            bump(&mut self.not_kept);
        }
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the oldest.
    pub(super) fn take(&mut self) -> Option<FaultRecord> {
        self.records.pop_at(0)
    }

    /// Records that were not kept, since take-over.
    pub(super) fn not_kept(&self) -> u64 {
        self.not_kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::events::{self as ev, EventType, RawEvent};
    use crate::spec::put64;

    fn record(sid: u64) -> FaultRecord {
        FaultRecord::decode(RawEvent([put64(ev::ID, EventType::BadSte.bits()) | put64(ev::SID, sid), 0, 0, 0]))
    }

    #[test]
    fn the_first_records_are_kept_and_later_ones_counted() {
        let mut log = FaultLog::new();
        assert!(log.is_empty());
        for sid in 0..u64::try_from(FAULT_LOG).unwrap() + 3 {
            log.add(&record(sid));
        }
        assert_eq!((log.take().map(|record| record.sid), log.not_kept()), (Some(0), 3));
        log.add(&record(100));
        let last = core::iter::from_fn(|| log.take()).last();
        assert_eq!((last.map(|record| record.sid), log.not_kept()), (Some(100), 3));
        log.add(&record(1));
        log.clear();
        assert_eq!((log.take(), log.not_kept()), (None, 0));
    }
}
