//! The host's event queue: filled from EL2's, with the flags that hardware would show.

use super::convert::{HostEvent, convert};
use super::cr0::EVENT_LOG2;
use super::queue::HostQueue;
use crate::budget::{self, Unfinished};
use crate::error::SmmuError;
use crate::evtq::{MAX_DRAIN, Overflow};
use crate::fault::FaultRecord;
use crate::platform::{HostMemory, Platform, WiredIrq};
use crate::smmu::Smmu;
use crate::spec::events::RawEvent;
use crate::spec::registers::{self as reg, cr0::Cr0, gerror::Gerror, irq_ctrl::IrqCtrl, queue_index};
use crate::spec::{get32, mask32, put32, union32};
use crate::stats::bump;
use crate::strtab::host::Walk;

/// What a look at hardware's queue left for the host to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// Nothing.
    Quiet,
    /// Its queue got a record while it was empty.
    HostMustLook,
    /// Records are left behind in hardware's queue, which raises no interrupt for them: the host has to look again.
    LeftBehind,
}

const _: () = assert!(1 << (super::ids::HOST_EVENTQS + EVENT_LOG2) <= 4096, "the host's queue is one page");

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Empties EL2's event queue into fault records, counters and the host's queue.
    ///
    /// At most one budget of records per call. When the host's queue became non-empty its interrupt is raised: hardware's own
    /// may have been taken for a queue that was already drained.
    pub fn poll_events(&mut self, host: &mut H) {
        let _ = self.check_alive();
        self.start_trap();
        if self.drain(host) != Drained::Quiet {
            self.interrupt_for_events();
        }
    }

    /// As [`Smmu::poll_events`] from an access of the host to its own queue, which looks anyway.
    pub(super) fn drain_events(&mut self, host: &mut H) {
        if self.drain(host) == Drained::LeftBehind {
            self.interrupt_for_events();
        }
    }

    /// Takes what hardware recorded before an edge of EVENTQEN or SMMUEN, or before an abort is acknowledged, to be judged by what
    /// holds up to there: committed records are visible before an update completes, and those of a queue that was not writable never
    /// are [S 6.3.9.4, 7.2.1].
    ///
    /// What is recorded from the first of these calls on may be of either side, so that a device that does not stop holds nothing up:
    /// there is an end after the records of one full queue.
    ///
    /// # Errors
    /// The budget is used up; the next trap goes on.
    pub(super) fn drain_before_edge(&mut self, host: &mut H) -> Result<(), Unfinished> {
        if !core::mem::replace(&mut self.regs.edge_waits, true) && self.failed.is_none() {
            self.evtq.mark(&self.hw);
        }
        if self.drain(host) == Drained::LeftBehind {
            self.interrupt_for_events();
            if !self.evtq.is_past_mark() {
                return Err(Unfinished::Budget);
            }
        }
        self.regs.edge_waits = false;
        Ok(())
    }

    /// Hardware's interrupt, or the host's, was just enabled. The interrupt comes when a queue becomes non-empty [S 3.18.2]:
    /// what is in hardware's by now would silence it for good, so it is emptied, and the host is told of what it finds.
    pub(super) fn events_can_interrupt(&mut self, host: &mut H) {
        let left = self.drain(host) == Drained::LeftBehind;
        if left || !self.host_queue_is_empty() {
            self.interrupt_for_events();
        }
    }

    #[cold]
    fn interrupt_for_events(&self) {
        if self.regs.irq_ctrl.contains(IrqCtrl::EVENTQ_IRQEN) {
            self.hw.platform().raise(WiredIrq::Eventq);
        }
    }

    fn host_queue_is_empty(&self) -> bool {
        self.regs
            .eventq
            .geometry()
            .is_none_or(|geometry| (self.regs.eventq_prod ^ self.regs.eventq_cons) & geometry.mask() == 0)
    }

    fn drain(&mut self, host: &mut H) -> Drained {
        if self.failed.is_some() {
            return Drained::Quiet;
        }
        // One for all records: those of one device mean the same page of the host's table.
        let mut walk = Walk::new();
        let outcome = self.drain_records(host, &mut walk);
        self.end_walk(host, walk);
        outcome
    }

    fn drain_records(&mut self, host: &mut H, walk: &mut Walk<H::Claim>) -> Drained {
        let mut outcome = Drained::Quiet;
        let mut left = MAX_DRAIN;
        loop {
            // Before each look: an error that is left active stops hardware's queue, and its interrupt with it.
            self.fold_hardware_errors();
            let prod = self.evtq.prod(&self.hw);
            let end = self.evtq.index(prod);
            // Orders the read of PROD before the reads of the records that it announced.
            self.hw.dsb();
            let mut took = false;
            // Charged before a record is taken: it may need both levels of the host's table, and the host's queue.
            while left > 0 && self.evtq.holds(end) && self.budget.covers(budget::RECORD) {
                let charged = self.budget.charge(budget::EVENT);
                let Some(raw) = self.evtq.pop(end).filter(|_| charged.is_ok()) else { break };
                left = left.saturating_sub(1);
                took = true;
                if self.record(host, walk, raw) == Drained::HostMustLook {
                    outcome = Drained::HostMustLook;
                }
            }
            let remain = self.evtq.holds(end);
            if !took && !remain && get32(queue_index::OVERFLOW, prod) == self.overflow_seen() {
                return outcome;
            }
            if self.evtq.publish(&self.hw, prod) == Overflow::Happened {
                self.events_were_lost();
            }
            if remain || left == 0 {
                return Drained::LeftBehind;
            }
        }
    }

    /// What hardware dropped, the host's queue lost.
    fn events_were_lost(&mut self) {
        bump(&mut self.stats.event_overflows);
        if self.host_sees_events() {
            self.overflow_host_queue();
        }
    }

    /// Acknowledges what stops hardware's event queue [S 7.2.1]. Errors of EL2's command queue are handled where it is waited
    /// for; MSIs are never configured.
    fn fold_hardware_errors(&mut self) {
        let gerrorn = self.hw.read32(reg::GERRORN);
        let active = Gerror::from_bits_truncate(self.hw.read32(reg::GERROR) ^ gerrorn);
        if active.contains(Gerror::SFM_ERR) {
            self.fail(SmmuError::ServiceFailure);
        }
        let acknowledged = active & Gerror::EVENTQ_ABT_ERR;
        if !acknowledged.is_empty() {
            self.hw.write32(reg::GERRORN, gerrorn ^ acknowledged.bits());
            self.events_were_lost();
        }
    }

    fn overflow_seen(&self) -> u32 {
        self.evtq.acknowledged()
    }

    /// Events exist for the host only while its translation and its queue are on [S 7.2.1].
    fn host_sees_events(&self) -> bool {
        self.regs.cr0ack.contains(Cr0::SMMUEN.union(Cr0::EVENTQEN))
            && !self.active_gerror().contains(Gerror::EVENTQ_ABT_ERR)
    }

    fn record(&mut self, host: &mut H, walk: &mut Walk<H::Claim>, raw: RawEvent) -> Drained {
        let record = FaultRecord::decode(raw);
        bump(&mut self.stats.faults);
        if !self.faults.push(record) {
            bump(&mut self.stats.faults_not_logged);
        }
        if !self.host_sees_events() {
            return Drained::Quiet;
        }
        let event = match convert(&record, !self.regs.ids.oas_mask()) {
            HostEvent::Hidden => return Drained::Quiet,
            HostEvent::Show(event) => Some(event),
            HostEvent::Configuration => self.reclassify(host, walk, &record),
        };
        match event {
            Some(event) => self.deliver(host, event),
            None => Drained::Quiet,
        }
    }

    fn deliver(&mut self, host: &mut H, event: RawEvent) -> Drained {
        let Some(geometry) = self.regs.eventq.geometry() else {
            return Drained::Quiet;
        };
        let mask = geometry.mask();
        let prod = get32(queue_index::INDEX, self.regs.eventq_prod) & mask;
        let cons = get32(queue_index::INDEX, self.regs.eventq_cons) & mask;
        // Full: same index, other wrap bit.
        if prod ^ cons == mask & !(mask >> 1) {
            bump(&mut self.stats.host_events_lost);
            self.overflow_host_queue();
            return Drained::Quiet;
        }
        let offset = geometry.offset(prod, EVENT_LOG2);
        if self.write_event(host, offset, event).is_none() {
            bump(&mut self.stats.host_events_lost);
            self.raise_gerror(Gerror::EVENTQ_ABT_ERR);
            return Drained::Quiet;
        }
        bump(&mut self.stats.host_events);
        let flag = self.regs.eventq_prod & mask32(queue_index::OVERFLOW);
        self.regs.eventq_prod = union32([flag, prod.wrapping_add(1) & mask]);
        if prod == cons { Drained::HostMustLook } else { Drained::Quiet }
    }

    fn write_event(&mut self, host: &mut H, offset: u64, event: RawEvent) -> Option<()> {
        if let HostQueue::Unreachable(geometry) = self.regs.eventq {
            self.budget.charge(geometry.cost()).ok()?;
            let (queue, result) = HostQueue::enable(host, geometry, self.queue_sharing());
            self.regs.eventq = queue;
            self.note_claim(result);
        }
        let HostQueue::On(_, claim) = &self.regs.eventq else {
            return None;
        };
        for (word, at) in event.0.into_iter().zip([0_u64, 8, 16, 24]) {
            host.write64(claim, offset.checked_add(at)?, word)?;
        }
        Some(())
    }

    /// Sets the overflow condition, unless one is pending [S 7.4].
    fn overflow_host_queue(&mut self) {
        let pending = (self.regs.eventq_prod ^ self.regs.eventq_cons) & mask32(queue_index::OVERFLOW) != 0;
        if !pending {
            self.regs.eventq_prod ^= put32(queue_index::OVERFLOW, 1);
        }
    }
}
