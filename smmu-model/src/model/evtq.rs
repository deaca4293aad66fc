//! Output queues (events, page requests), global errors and interrupts [IHI 0070G 7.2 to 7.5, 8.1, 3.18].

use super::regs::IrqCfg;
use super::{Injection, Irq, Model};
use crate::arch::event::Event;
use crate::arch::{bits, regs as r, truncate};

/// Whether a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is in the queue.
    Yes,
    /// The queue was full; the overflow flag is set.
    Overflow,
    /// The queue is disabled or in error.
    Discarded,
}

/// A page request of a PCIe endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// StreamID.
    pub sid: u32,
    /// Page address.
    pub address: u64,
    /// PRG index.
    pub group: u16,
}

impl Model {
    pub(crate) fn record(&mut self, event: Event) -> Recorded {
        self.events.push(event);
        self.report(event.words())
    }

    /// Writes a record with any content into the event queue: implementations may define event types, and values of
    /// fields, that the model never writes.
    pub fn report(&mut self, words: [u64; 4]) -> Recorded {
        let base = self.regs.eventq_base;
        let log2 = queue_log2(base, self.config().eventq_bits);
        if !self.regs.cr0.is(r::CR0_EVENTQEN) || self.active(r::GERROR_EVENTQ_ABT) {
            return Recorded::Discarded;
        }
        let (prod, cons) = (self.regs.eventq_prod, self.regs.eventq_cons);
        if full(prod, cons, log2) {
            if (prod ^ cons) & r::QUEUE_OVERFLOW == 0 {
                self.regs.eventq_prod ^= r::QUEUE_OVERFLOW;
            }
            return Recorded::Overflow;
        }
        let slot = slot(base, prod, log2, 32, self.config().oas_bits());
        let aborted = self.take_injection(|i| matches!(i, Injection::EventqAbort)).is_some();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        if aborted || self.mem().dev_write(slot, &bytes).is_err() {
            self.raise_gerror(r::GERROR_EVENTQ_ABT);
            return Recorded::Discarded;
        }
        let empty = (prod ^ cons) & ((2 << log2) - 1) == 0;
        self.regs.eventq_prod = advance(prod, log2);
        if empty && self.regs.irq_ctrl.maybe(r::IRQ_EVENTQ) {
            let target = self.regs.eventq_irq;
            self.interrupt(Irq::Eventq, target, r::GERROR_MSI_EVENTQ);
        }
        Recorded::Yes
    }

    /// A page request arrives from a PCIe endpoint.
    pub fn page_request(&mut self, request: PageRequest) -> Recorded {
        let log2 = queue_log2(self.regs.priq_base, self.config().priq_bits);
        let enabled = self.regs.cr0.is(r::CR0_PRIQEN) && self.regs.cr0.is(r::CR0_SMMUEN);
        if !self.config().pri || !enabled || self.active(r::GERROR_PRIQ_ABT) {
            return Recorded::Discarded;
        }
        let (prod, cons) = (self.regs.priq_prod, self.regs.priq_cons);
        if full(prod, cons, log2) {
            if (prod ^ cons) & r::QUEUE_OVERFLOW == 0 {
                self.regs.priq_prod ^= r::QUEUE_OVERFLOW;
            }
            return Recorded::Overflow;
        }
        let slot = slot(self.regs.priq_base, prod, log2, 16, self.config().oas_bits());
        let words = [u64::from(request.sid), (request.address & !0xfff) | u64::from(request.group & 0x1ff)];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        if self.mem().dev_write(slot, &bytes).is_err() {
            self.raise_gerror(r::GERROR_PRIQ_ABT);
            return Recorded::Discarded;
        }
        self.regs.priq_prod = advance(prod, log2);
        if self.regs.irq_ctrl.maybe(r::IRQ_PRIQ) {
            let target = self.regs.priq_irq;
            self.interrupt(Irq::Priq, target, r::GERROR_MSI_PRIQ);
        }
        Recorded::Yes
    }

    fn active(&self, error: u32) -> bool {
        (self.regs.gerror ^ self.regs.gerrorn) & error != 0
    }

    /// Activates a global error, unless it is active.
    pub(crate) fn raise_gerror(&mut self, error: u32) {
        if self.active(error) {
            return;
        }
        self.regs.gerror ^= error;
        if error != r::GERROR_MSI_GERROR && self.regs.irq_ctrl.maybe(r::IRQ_GERROR) {
            let target = self.regs.gerror_irq;
            self.interrupt(Irq::Gerror, target, r::GERROR_MSI_GERROR);
        }
    }

    fn interrupt(&mut self, irq: Irq, target: IrqCfg, aborted: u32) {
        self.raise_irq(irq);
        if self.config().msi && target.address != 0 {
            let address = truncate(target.address, self.config().oas_bits());
            if self.message(address, target.data).is_err() {
                self.raise_gerror(aborted);
            }
        }
    }
}

pub(crate) fn queue_log2(base: u64, most: u32) -> u32 {
    u32::try_from(bits(base, 4, 0)).unwrap_or(0).min(most)
}

/// Base address of a queue whose entries have `entry` bytes: aligned to the queue's size.
pub(crate) fn queue_base(base: u64, log2: u32, entry: u64, oas: u32) -> u64 {
    truncate(base & 0x00ff_ffff_ffff_ffe0 & !((entry << log2) - 1), oas)
}

fn slot(base: u64, index: u32, log2: u32, entry: u64, oas: u32) -> u64 {
    queue_base(base, log2, entry, oas) + u64::from(index & ((1 << log2) - 1)) * entry
}

fn full(prod: u32, cons: u32, log2: u32) -> bool {
    let mask = (2u32 << log2) - 1;
    prod.wrapping_sub(cons) & mask >= 1 << log2
}

fn advance(prod: u32, log2: u32) -> u32 {
    let mask = (2u32 << log2) - 1;
    (prod & r::QUEUE_OVERFLOW) | ((prod + 1) & mask)
}
