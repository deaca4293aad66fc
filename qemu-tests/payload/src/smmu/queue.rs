//! The two queues [IHI 0070 3.5]: rings whose index registers have a wrap bit above the index.

use super::spec::{BASE_ALLOCATE, Cmd};
use crate::mem::alloc;
use crate::mmio;
use crate::num::low32;

const CMD_BYTES: u64 = 16;
const EVENT_BYTES: u64 = 32;

/// Index and wrap bits of an index register.
fn mask(log2: u32) -> u32 {
    (2 << log2) - 1
}

/// The command queue; the driver never makes it full.
#[derive(Debug)]
pub struct CommandQueue {
    /// Address of the ring.
    pub base: u64,
    /// log2 of its entries.
    pub log2: u32,
    prod: u32,
}

impl CommandQueue {
    /// Allocates a ring of 2^`log2` entries.
    pub fn new(log2: u32) -> Self {
        let bytes = CMD_BYTES << log2;
        Self { base: alloc(bytes, bytes), log2, prod: 0 }
    }

    /// Restarts at index 0.
    pub fn reset(&mut self) {
        self.prod = 0;
    }

    /// Continues at `prod`.
    pub fn set_prod(&mut self, prod: u32) {
        self.prod = prod & mask(self.log2);
    }

    /// CMDQ_PROD.
    pub fn prod(&self) -> u32 {
        self.prod
    }

    /// CMDQ_BASE.
    pub fn base_register(&self) -> u64 {
        self.base | BASE_ALLOCATE | u64::from(self.log2)
    }

    /// Writes one entry at the producer index.
    pub fn push(&mut self, cmd: Cmd) {
        self.overwrite(self.prod, cmd);
        self.prod = (self.prod + 1) & mask(self.log2);
    }

    /// Writes the entry of `index` (a register value).
    pub fn overwrite(&self, index: u32, cmd: Cmd) {
        let slot = self.base + u64::from(index & ((1 << self.log2) - 1)) * CMD_BYTES;
        mmio::write64(slot, cmd.0[0]);
        mmio::write64(slot + 8, cmd.0[1]);
    }

    /// Address of the entry of `index`.
    pub fn slot(&self, index: u32) -> u64 {
        self.base + u64::from(index & ((1 << self.log2) - 1)) * CMD_BYTES
    }

    /// Whether all commands are consumed if CMDQ_CONS is `cons`.
    pub fn is_drained(&self, cons: u32) -> bool {
        cons & mask(self.log2) == self.prod
    }
}

/// One event record [IHI 0070 7.3].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub [u64; 4]);

impl Event {
    /// Type.
    pub fn kind(&self) -> u32 {
        low32(self.0[0] & 0xff)
    }

    /// StreamID.
    pub fn sid(&self) -> u32 {
        low32(self.0[0] >> 32)
    }

    /// Whether a stage-2 fault is reported.
    pub fn is_stage2(&self) -> bool {
        self.0[1] >> 39 & 1 != 0
    }

    /// CLASS: 0 is a CD fetch, 1 a table walk, 2 the transaction's own address.
    pub fn class(&self) -> u64 {
        self.0[1] >> 40 & 3
    }

    /// Input address.
    pub fn address(&self) -> u64 {
        self.0[2]
    }
}

/// The event queue.
#[derive(Debug)]
pub struct EventQueue {
    /// Address of the ring.
    pub base: u64,
    /// log2 of its entries.
    pub log2: u32,
    cons: u32,
}

impl EventQueue {
    /// Allocates a ring of 2^`log2` entries.
    pub fn new(log2: u32) -> Self {
        let bytes = EVENT_BYTES << log2;
        Self { base: alloc(bytes, bytes.max(4096)), log2, cons: 0 }
    }

    /// Restarts at index 0.
    pub fn reset(&mut self) {
        self.cons = 0;
    }

    /// EVENTQ_BASE.
    pub fn base_register(&self) -> u64 {
        self.base | BASE_ALLOCATE | u64::from(self.log2)
    }

    /// EVENTQ_CONS.
    pub fn cons(&self) -> u32 {
        self.cons
    }

    /// Takes one record, if there is one with EVENTQ_PROD = `prod`.
    pub fn pop(&mut self, prod: u32) -> Option<Event> {
        if prod & mask(self.log2) == self.cons & mask(self.log2) {
            return None;
        }
        let slot = self.base + u64::from(self.cons & ((1 << self.log2) - 1)) * EVENT_BYTES;
        let event = Event([0, 8, 16, 24].map(|offset| mmio::read64(slot + offset)));
        // The overflow flag is acknowledged as Linux does: by copying OVFLG to OVACKFLG.
        self.cons = ((self.cons + 1) & mask(self.log2)) | prod & (1 << 31);
        Some(event)
    }
}
