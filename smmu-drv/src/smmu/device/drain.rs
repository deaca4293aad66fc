//! Hardware's fault records: counted, and given to a [`Sink`], which logs them and converts them for the host.

use super::Device;
use super::el2_eventq::Overflow;
use crate::error::SmmuError;
use crate::fault::FaultRecord;
use crate::platform::Platform;
use crate::smmu::budget::{self, Budget};
use crate::spec::get32;
use crate::spec::registers::{self as reg, gerror::Gerror, queue_index};
use crate::stats::bump;

/// Takes the records.
pub(crate) trait Sink {
    /// Handles a record that hardware wrote.
    fn record(&mut self, budget: &mut Budget, record: &FaultRecord);
    /// Called when hardware has dropped records.
    fn lost(&mut self);
}

/// Whether records remain in hardware's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// No record remains.
    Nothing,
    /// Records remain, for which hardware raises no interrupt.
    Records,
}

/// State of hardware's event queue when it was read.
struct Records {
    /// SMMU_EVENTQ_PROD.
    prod: u32,
    /// Index after the last record.
    end: u32,
    /// Whether records were lost because a write of hardware to the queue was aborted.
    lost: Overflow,
}

impl<P: Platform> Device<P> {
    /// Takes hardware's records one by one while the budget is sufficient; at most one full queue.
    pub(crate) fn drain(&mut self, budget: &mut Budget, sink: &mut impl Sink) -> Remaining {
        if self.failed.is_some() {
            return Remaining::Nothing;
        }
        let mut left = budget::MOST_EVENTS;
        loop {
            let records = self.records();
            if records.lost == Overflow::Happened {
                sink.lost();
            }
            let mut took = false;
            // Charged before a record is taken: its conversion may need both levels of the host's table, and the
            // host's queue.
            while left > 0 && self.evtq.holds(records.end) && budget.covers(budget::RECORD) {
                let charged = budget.charge(budget::EVENT);
                let Some(record) = self.take_record(&records).filter(|_| charged.is_ok()) else { break };
                left = left.saturating_sub(1);
                took = true;
                sink.record(budget, &record);
            }
            let remain = self.evtq.holds(records.end);
            if !took && !remain && !self.has_overflowed(&records) {
                return Remaining::Nothing;
            }
            if self.free_records(&records) == Overflow::Happened {
                sink.lost();
            }
            if remain || left == 0 {
                return Remaining::Records;
            }
        }
    }

    /// Reads the state of hardware's queue. An active error stops hardware's queue and its interrupt, so it is
    /// acknowledged first [S 7.2.1]. Errors of the command queue are handled during waits for it; MSIs are never
    /// configured.
    fn records(&mut self) -> Records {
        let gerrorn = self.hw.read32(reg::GERRORN);
        let active = Gerror::from_bits_truncate(self.hw.read32(reg::GERROR) ^ gerrorn);
        if active.contains(Gerror::SFM_ERR) {
            self.fail(SmmuError::ServiceFailure);
        }
        let acknowledged = active & Gerror::EVENTQ_ABT_ERR;
        let lost = if acknowledged.is_empty() { Overflow::None } else { Overflow::Happened };
        if lost == Overflow::Happened {
            self.hw.write32(reg::GERRORN, gerrorn ^ acknowledged.bits());
            bump(&mut self.counters.event_overflows);
        }
        let prod = self.evtq.prod(&self.hw);
        // Orders the read of PROD before the reads of the records before it.
        self.hw.dsb();
        Records { prod, end: self.evtq.index(prod), lost }
    }

    /// Takes the next record, and counts it.
    fn take_record(&mut self, records: &Records) -> Option<FaultRecord> {
        let record = FaultRecord::decode(self.evtq.pop(records.end)?);
        bump(&mut self.counters.faults);
        Some(record)
    }

    /// Whether hardware has dropped records that were not reported yet.
    fn has_overflowed(&self, records: &Records) -> bool {
        get32(queue_index::OVERFLOW, records.prod) != self.evtq.acknowledged()
    }

    /// Frees the slots of the taken records. Returns whether hardware has dropped records.
    fn free_records(&mut self, records: &Records) -> Overflow {
        let overflow = self.evtq.publish(&self.hw, records.prod);
        if overflow == Overflow::Happened {
            bump(&mut self.counters.event_overflows);
        }
        overflow
    }
}
