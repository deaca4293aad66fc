//! The environment of one part in unit tests: EL2's memory, registers, and memory of the host. All accesses to them
//! are logged in order.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::vec::Vec;

use io_pgtable::{Ipa, Pa};

use super::budget::Costs;
use super::shadow::Hardware;
use crate::command::Command;
use crate::error::SmmuError;
use crate::features::{Coherency, Features, IdRegisters};
use crate::platform::{ClaimError, DmaBuffer, HostMemory, Platform, Sharing, WiredIrq};
use crate::spec::put32;
use crate::spec::registers::{idr0, idr1, idr5};

/// One access or command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// A word of EL2's memory was stored: its address and value.
    Store(u64, u64),
    /// A barrier.
    Dsb,
    /// A register was written: offset and value.
    Write(u32, u64),
    /// A command was queued.
    Push(Command),
    /// A CMD_SYNC was waited for.
    Sync,
}

#[derive(Default)]
struct State {
    words: RefCell<BTreeMap<u64, u64>>,
    registers: RefCell<BTreeMap<u32, u64>>,
    log: RefCell<Vec<Did>>,
    next: Cell<u64>,
    live: Cell<usize>,
    allocations: Cell<usize>,
    clock: Cell<u64>,
    on_write: RefCell<Option<OnWrite>>,
}

/// How hardware reacts to a write of a register.
pub(super) type OnWrite = fn(&Machine, u32, u64);

/// Memory for tables and queues, registers that store written values, and a clock that advances when it is read.
#[derive(Clone)]
pub(super) struct Machine(Rc<State>);

impl Machine {
    pub(super) fn new() -> Self {
        let state = State::default();
        state.next.set(0x10_0000);
        state.allocations.set(usize::MAX);
        Self(Rc::new(state))
    }

    /// Sets how hardware reacts to writes of registers.
    pub(super) fn reacting(on_write: OnWrite) -> Self {
        let machine = Self::new();
        *machine.0.on_write.borrow_mut() = Some(on_write);
        machine
    }

    /// The word at `address` of EL2's memory.
    pub(super) fn word(&self, address: u64) -> u64 {
        self.0.words.borrow().get(&address).copied().unwrap_or(0)
    }

    /// Stores a word into EL2's memory, as hardware does.
    pub(super) fn put(&self, address: u64, word: u64) {
        self.0.words.borrow_mut().insert(address, word);
    }

    /// The register at `offset`.
    pub(super) fn register(&self, offset: u32) -> u64 {
        self.0.registers.borrow().get(&offset).copied().unwrap_or(0)
    }

    /// Sets the register at `offset`, as hardware does.
    pub(super) fn set(&self, offset: u32, value: u64) {
        self.0.registers.borrow_mut().insert(offset, value);
    }

    /// Sets the number of allocations that still succeed.
    pub(super) fn allow(&self, allocations: usize) {
        self.0.allocations.set(allocations);
    }

    /// Number of allocated buffers.
    pub(super) fn live(&self) -> usize {
        self.0.live.get()
    }

    /// The log since the last call.
    pub(super) fn did(&self) -> Vec<Did> {
        core::mem::take(&mut *self.0.log.borrow_mut())
    }

    fn log(&self, did: Did) {
        self.0.log.borrow_mut().push(did);
    }

    fn write(&self, offset: u32, value: u64) {
        self.log(Did::Write(offset, value));
        self.set(offset, value);
        let on_write = *self.0.on_write.borrow();
        if let Some(on_write) = on_write {
            on_write(self, offset, value);
        }
    }
}

/// Memory of a [`Machine`].
pub(super) struct Block {
    machine: Machine,
    pa: u64,
    size: usize,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.machine.0.live.set(self.machine.0.live.get() - 1);
    }
}

fn at(pa: u64, offset: usize) -> u64 {
    pa + u64::try_from(offset).unwrap()
}

impl DmaBuffer for Block {
    fn pa(&self) -> Pa {
        Pa(self.pa)
    }
    fn size(&self) -> usize {
        self.size
    }
    fn read64(&self, offset: usize) -> u64 {
        if offset < self.size { self.machine.word(at(self.pa, offset)) } else { 0 }
    }
    fn write64(&mut self, offset: usize, value: u64) {
        if offset < self.size {
            self.machine.log(Did::Store(at(self.pa, offset), value));
            self.machine.put(at(self.pa, offset), value);
        }
    }
    fn clean(&self, _: usize, _: usize) {}
    fn invalidate(&self, _: usize, _: usize) {}
}

impl Platform for Machine {
    type Buffer = Block;
    type Place<T: 'static> = std::boxed::Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        u32::try_from(self.register(offset)).unwrap()
    }
    fn write32(&self, offset: u32, value: u32) {
        self.write(offset, u64::from(value));
    }
    fn read64(&self, offset: u32) -> u64 {
        self.register(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.write(offset, value);
    }
    fn alloc(&self, size: usize) -> Option<Block> {
        self.0.allocations.set(self.0.allocations.get().checked_sub(1)?);
        let pa = self.0.next.get().next_multiple_of(u64::try_from(size).unwrap());
        self.0.next.set(at(pa, size));
        self.0.live.set(self.0.live.get() + 1);
        Some(Block { machine: self.clone(), pa, size })
    }
    fn dsb(&self) {
        self.log(Did::Dsb);
    }
    fn now_us(&self) -> u64 {
        self.0.clock.set(self.0.clock.get() + 100);
        self.0.clock.get()
    }
    fn relax(&self) {}
    fn raise(&self, _: WiredIrq) {}
}

/// Hardware for a shadow table: it completes every command, or is failed.
pub(super) struct Queue {
    pub(super) machine: Machine,
    pub(super) failed: Option<SmmuError>,
}

impl Queue {
    pub(super) fn new(machine: &Machine) -> Self {
        Self { machine: machine.clone(), failed: None }
    }

    fn usable(&self) -> Result<(), SmmuError> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Hardware<Block> for Queue {
    type Platform = Machine;

    fn platform(&self) -> &Machine {
        &self.machine
    }
    fn costs(&self) -> Costs {
        Costs { command: super::budget::COMMAND, sync: super::budget::SYNC, queue_sync: 0 }
    }
    fn push(&mut self, command: Command) -> Result<(), SmmuError> {
        self.usable()?;
        self.machine.log(Did::Push(command));
        Ok(())
    }
    fn sync(&mut self) -> Result<(), SmmuError> {
        self.usable()?;
        self.machine.log(Did::Sync);
        Ok(())
    }
}

/// A claimed range: first address and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimed(u64, u64);

/// Memory of the host: its content, the pages that the host does not own, and the claims.
#[derive(Default)]
pub(super) struct FakeHostMemory {
    pub(super) words: BTreeMap<u64, u64>,
    pub(super) foreign: BTreeSet<u64>,
    claims: Vec<Claimed>,
}

impl FakeHostMemory {
    /// Writes `words` from `address` on.
    pub(super) fn put(&mut self, address: u64, words: &[u64]) {
        self.words.extend((address..).step_by(8).zip(words.iter().copied()));
    }

    /// The claimed ranges: first address and size.
    pub(super) fn claimed(&self) -> Vec<(u64, u64)> {
        self.claims.iter().map(|claim| (claim.0, claim.1)).collect()
    }
}

impl HostMemory for FakeHostMemory {
    type Claim = Claimed;

    fn claim(&mut self, ipa: Ipa, size: u64, _: Sharing) -> Result<Claimed, ClaimError> {
        if (ipa.0 >> 12..=(ipa.0 + size - 1) >> 12).any(|page| self.foreign.contains(&page)) {
            return Err(ClaimError::NotOwned);
        }
        self.claims.push(Claimed(ipa.0, size));
        Ok(Claimed(ipa.0, size))
    }
    fn release(&mut self, claim: Claimed) {
        let at = self.claims.iter().position(|held| *held == claim).expect("a claim is released once");
        self.claims.swap_remove(at);
    }
    fn holds(&self, claim: &Claimed) -> bool {
        self.claims.contains(claim)
    }
    fn read64(&self, claim: &Claimed, offset: u64) -> Option<u64> {
        let held = self.claims.contains(claim) && offset + 8 <= claim.1;
        held.then(|| self.words.get(&(claim.0 + offset)).copied().unwrap_or(0))
    }
    fn write64(&mut self, claim: &Claimed, offset: u64, value: u64) -> Option<()> {
        self.read64(claim, offset)?;
        self.words.insert(claim.0 + offset, value);
        Some(())
    }
    fn write32(&mut self, claim: &Claimed, offset: u64, value: u32) -> Option<()> {
        let word = offset & !7;
        let old = self.read64(claim, word)?.to_le_bytes();
        let [a, b, c, d] = value.to_le_bytes();
        let new = match old {
            [.., e, f, g, h] if offset == word => [a, b, c, d, e, f, g, h],
            [e, f, g, h, ..] => [e, f, g, h, a, b, c, d],
        };
        self.words.insert(claim.0 + word, u64::from_le_bytes(new));
        Some(())
    }
}

/// StreamID bits of [`features`]: four blocks.
pub(super) const SID_BITS: u32 = 10;

/// A coherent SMMU with 40-bit addresses and stream tables of `st_level`.
pub(super) fn features(st_level: u32) -> Features {
    let ids = IdRegisters {
        idr0: put32(idr0::ST_LEVEL, st_level)
            | put32(idr0::COHACC, 1)
            | put32(idr0::ASID16, 1)
            | put32(idr0::STALL_MODEL, idr0::STALL_NONE),
        idr1: put32(idr1::SIDSIZE, SID_BITS) | put32(idr1::CMDQS, 8) | put32(idr1::EVENTQS, 7),
        idr3: 0,
        idr5: put32(idr5::OAS, 2) | put32(idr5::GRAN4K, 1),
        iidr: 0,
        aidr: 0,
    };
    Features::decode(ids, Coherency::Coherent)
}
