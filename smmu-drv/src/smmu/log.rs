//! Fault records kept for the console, each with the owner that its stream had when it was read.
//!
//! A record that hardware has written before a stream changes its owner is read before the change: see `streams`.

use core::fmt;

use arrayvec::ArrayVec;

use super::shadow::owners::StreamOwner;

use crate::fault::{FAULT_LOG, FaultRecord};
use crate::stats::bump;

/// A fault record, and the owner of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The owner of the stream when the record was read. The current owner may be another one.
    pub owner: StreamOwner,
    /// The record of hardware.
    pub record: FaultRecord,
}

/// The record; then the owner, unless it is the host.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)?;
        match self.owner {
            StreamOwner::Host => Ok(()),
            StreamOwner::Blocked => f.write_str(" blocked"),
            StreamOwner::Domain(vmid) => write!(f, " vmid={vmid}"),
        }
    }
}

/// Records, oldest first; later ones are only counted.
#[derive(Clone)]
pub(super) struct FaultLog {
    records: ArrayVec<Fault, FAULT_LOG>,
    not_kept: u64,
}

impl FaultLog {
    /// An empty log.
    pub(super) const fn new() -> Self {
        Self { records: ArrayVec::new_const(), not_kept: 0 }
    }

    /// Removes all records and clears the counter.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.not_kept = 0;
    }

    /// Keeps a record about a stream of `owner`, or counts it.
    pub(super) fn add(&mut self, owner: StreamOwner, record: &FaultRecord) {
        if self.records.try_push(Fault { owner, record: *record }).is_err() {
            bump(&mut self.not_kept);
        }
    }

    /// Whether there is no record.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the oldest record.
    pub(super) fn take(&mut self) -> Option<Fault> {
        self.records.pop_at(0)
    }

    /// Number of records that were not kept since take-over.
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
            log.add(StreamOwner::Host, &record(sid));
        }
        assert_eq!((log.take().map(|fault| fault.record.sid), log.not_kept()), (Some(0), 3));
        log.add(StreamOwner::Domain(3), &record(100));
        let last = core::iter::from_fn(|| log.take()).last();
        assert_eq!(last.map(|fault| (fault.record.sid, fault.owner)), Some((100, StreamOwner::Domain(3))));
        assert_eq!(log.not_kept(), 3);
        log.add(StreamOwner::Host, &record(1));
        log.clear();
        assert_eq!((log.take(), log.not_kept()), (None, 0));
    }

    #[test]
    fn a_line_has_the_owner_unless_it_is_the_host() {
        let line = |owner| std::format!("{}", Fault { owner, record: record(5) });
        assert_eq!(line(StreamOwner::Host), "C_BAD_STE sid=0x5");
        assert_eq!(line(StreamOwner::Blocked), "C_BAD_STE sid=0x5 blocked");
        assert_eq!(line(StreamOwner::Domain(7)), "C_BAD_STE sid=0x5 vmid=7");
    }
}
