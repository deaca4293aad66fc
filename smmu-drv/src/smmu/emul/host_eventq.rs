//! The host's event queue: filled from hardware's records, with the same flags as on hardware.

use super::VirtualSmmu;
use super::convert::{HostEvent, convert};
use super::queue::HostQueue;
use super::strtab::Walk;
use crate::fault::FaultRecord;
use crate::platform::{HostMemory, WiredIrq};
use crate::smmu::budget::Budget;
use crate::smmu::index::{EVENT_LOG2, HOST_EVENTQS, OVERFLOW};
use crate::spec::events::RawEvent;
use crate::spec::registers::{cr0::Cr0, gerror::Gerror, irq_ctrl::IrqCtrl};
use crate::stats::bump;

/// Whether the host must be notified of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notify {
    /// No.
    Nothing,
    /// Yes: its queue was empty and got a record.
    First,
}

const _: () = assert!(1 << (HOST_EVENTQS + EVENT_LOG2) <= 4096, "the host's queue is one page");

impl<C> VirtualSmmu<C> {
    /// Raises the host's event interrupt, if it is enabled.
    #[cold]
    pub(crate) fn interrupt_for_events(&mut self) {
        if self.regs.irq_ctrl.contains(IrqCtrl::EVENTQ_IRQEN) {
            self.interrupts.add(WiredIrq::Eventq);
        }
    }

    /// Whether the host's queue has no record.
    pub(crate) fn host_queue_is_empty(&self) -> bool {
        let indices = self.eventq.geometry().map(|geometry| geometry.indices());
        indices.is_none_or(|indices| indices.is_empty(self.regs.eventq_prod, self.regs.eventq_cons))
    }

    /// Counts records that hardware dropped as an overflow of the host's queue.
    pub(super) fn events_were_lost(&mut self) {
        if self.host_sees_events() {
            self.overflow_host_queue();
        }
    }

    /// The host gets events only while its translation and its queue are enabled [S 7.2.1].
    fn host_sees_events(&self) -> bool {
        self.regs.cr0ack.contains(Cr0::SMMUEN.union(Cr0::EVENTQEN))
            && !self.active_gerror().contains(Gerror::EVENTQ_ABT_ERR)
    }

    /// Converts a record of hardware, and writes the result, if there is one, to the host's queue. One `walk` serves all records: those
    /// of one device need the same page of the host's table.
    pub(super) fn record<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        record: &FaultRecord,
    ) -> Notify {
        if !self.host_sees_events() {
            return Notify::Nothing;
        }
        let event = match convert(record, !self.oas_mask) {
            HostEvent::Hidden => return Notify::Nothing,
            HostEvent::Show(event) => Some(event),
            HostEvent::Configuration => self.reclassify(host_mem, walk, budget, record),
        };
        match event {
            Some(event) => self.deliver(host_mem, budget, event),
            None => Notify::Nothing,
        }
    }

    fn deliver<H: HostMemory<Claim = C>>(&mut self, host_mem: &mut H, budget: &mut Budget, event: RawEvent) -> Notify {
        let Some(geometry) = self.eventq.geometry() else {
            return Notify::Nothing;
        };
        let indices = geometry.indices();
        let (prod, cons) = (indices.of(self.regs.eventq_prod), indices.of(self.regs.eventq_cons));
        if indices.is_full(prod, cons) {
            bump(&mut self.stats.host_events_lost);
            self.overflow_host_queue();
            return Notify::Nothing;
        }
        let offset = u64::from(indices.offset(prod, EVENT_LOG2));
        if self.write_event(host_mem, budget, offset, event).is_none() {
            bump(&mut self.stats.host_events_lost);
            self.raise_gerror(Gerror::EVENTQ_ABT_ERR);
            return Notify::Nothing;
        }
        bump(&mut self.stats.host_events);
        self.regs.eventq_prod = (self.regs.eventq_prod & OVERFLOW) | indices.next(prod);
        if prod == cons { Notify::First } else { Notify::Nothing }
    }

    fn write_event<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        offset: u64,
        event: RawEvent,
    ) -> Option<()> {
        if let HostQueue::Unreachable(geometry) = self.eventq {
            budget.charge(geometry.cost()).ok()?;
            let (queue, result) = HostQueue::enable(host_mem, geometry, self.queue_sharing());
            self.eventq = queue;
            self.count_claim(result);
        }
        let HostQueue::On(_, claim) = &self.eventq else {
            return None;
        };
        host_mem.write_record(claim, offset, event.0)
    }

    /// Sets the overflow condition, unless one is pending [S 7.4].
    fn overflow_host_queue(&mut self) {
        let pending = (self.regs.eventq_prod ^ self.regs.eventq_cons) & OVERFLOW != 0;
        if !pending {
            self.regs.eventq_prod ^= OVERFLOW;
        }
    }
}
