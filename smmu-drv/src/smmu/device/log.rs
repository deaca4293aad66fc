//! The first fault records, kept whole for the console; later ones are only counted.

use crate::fault::{FAULT_LOG, FaultRecord};

/// Keeps records until they are taken, oldest first; records that arrive when [`FAULT_LOG`] are kept are dropped.
#[derive(Clone, Debug)]
pub(super) struct FaultLog {
    records: [Option<FaultRecord>; FAULT_LOG],
    first: usize,
    len: usize,
}

impl FaultLog {
    pub(super) const fn new() -> Self {
        Self { records: [None; FAULT_LOG], first: 0, len: 0 }
    }

    /// Keeps `record`; `false` when the log is full and it was not kept.
    pub(super) fn push(&mut self, record: FaultRecord) -> bool {
        if self.len == FAULT_LOG {
            return false;
        }
        let at = self.first.wrapping_add(self.len) % FAULT_LOG;
        if let Some(slot) = self.records.get_mut(at) {
            *slot = Some(record);
        }
        self.len = self.len.wrapping_add(1);
        true
    }

    /// Nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the oldest record.
    pub(super) fn take(&mut self) -> Option<FaultRecord> {
        let record = self.records.get_mut(self.first).and_then(Option::take)?;
        self.first = self.first.wrapping_add(1) % FAULT_LOG;
        self.len = self.len.wrapping_sub(1);
        Some(record)
    }
}
