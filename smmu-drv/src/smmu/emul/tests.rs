//! The virtual SMMU alone: stores of a host, and their effects, without a device and a shadow table.

mod commands;
mod registers;

use std::vec::Vec;

use super::table::AccessSize;
use super::*;
use crate::platform::WiredIrq;
use crate::smmu::budget::Budget;
use crate::smmu::budget::Unfinished;
use crate::smmu::fake::{Claimed, FakeHostMemory, features};
use crate::spec::commands::{self as cmd, Opcode, RawCmd};
use crate::spec::registers::{self as reg, gbpa, gerror::Gerror, idr0, queue_base};
use crate::spec::{low32, put32, put64};

/// VMID of the host's streams.
const VMID: u16 = 7;
/// The host's command queue: 2^5 commands.
const CMDQ: u64 = 0x8000;
const CMDQ_LOG2: u32 = 5;
/// The host's event queue: 2^2 records.
const EVENTQ: u64 = 0x9000;
/// The host's stream table.
const STRTAB: u64 = 0xa000;

struct Host {
    smmu: VirtualSmmu<Claimed>,
    memory: FakeHostMemory,
}

impl Host {
    /// A virtual SMMU after reset.
    fn new() -> Self {
        let features = features(idr0::ST_TWO_LEVEL);
        let ids = HostIds::new(&features, ids::MsiAdvert::WhenCoherent, 40);
        let rules = SteRules::new(&features, &ids);
        Self { smmu: VirtualSmmu::new(ids, rules, VMID, &features, 0), memory: FakeHostMemory::default() }
    }

    /// The same with its command queue enabled.
    fn running() -> Self {
        let mut host = Self::new();
        host.store64(reg::CMDQ_BASE, CMDQ | put64(queue_base::LOG2SIZE, u64::from(CMDQ_LOG2)));
        host.store64(reg::EVENTQ_BASE, EVENTQ | put64(queue_base::LOG2SIZE, 2));
        host.store(reg::CR0, Cr0::CMDQEN.bits());
        host
    }

    /// Executes a store and all its effects, as `Smmu` does if the device and the shadow table succeed immediately.
    /// Returns the effects.
    fn store(&mut self, offset: u32, value: u32) -> Vec<Effect> {
        self.store_sized(offset, AccessSize::Word, u64::from(value))
    }

    fn store64(&mut self, offset: u32, value: u64) -> Vec<Effect> {
        self.store_sized(offset, AccessSize::Double, value)
    }

    fn store_sized(&mut self, offset: u32, size: AccessSize, value: u64) -> Vec<Effect> {
        let store = self.smmu.store(offset, size, value).expect("a register");
        let mut effects = Vec::new();
        while effects.len() < 10 {
            let effect = self.ask(store).unwrap();
            effects.push(effect);
            match effect {
                Effect::Done | Effect::Commands | Effect::Events => return effects,
                Effect::DrainBeforeChange => {
                    self.smmu.begin_draining();
                    self.smmu.end_draining();
                }
                Effect::Interrupts => {}
                Effect::ChangeMode => self.smmu.streams_changed(),
                Effect::ContinueChange => {
                    self.smmu.streams_changed();
                    return effects;
                }
            }
        }
        panic!("the store does not end: {effects:?}");
    }

    fn ask(&mut self, store: Store) -> Result<Effect, Unfinished> {
        self.smmu.write_register(&mut self.memory, &mut Budget::for_one_trap(), store)
    }

    fn load(&mut self, offset: u32) -> u32 {
        low32(self.smmu.load(offset, AccessSize::Word).unwrap())
    }

    fn interrupts(&mut self) -> Vec<WiredIrq> {
        self.smmu.take_interrupts().collect()
    }
}

fn op(opcode: Opcode) -> u64 {
    put64(cmd::OPCODE, opcode.bits())
}

fn for_stream(opcode: Opcode, sid: u64) -> RawCmd {
    RawCmd([op(opcode) | put64(cmd::SID, sid), 0])
}
