//! Memory: its words, the ranges that are given to the GIC, and the hazards found.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::Hazard;

#[derive(Default)]
struct State {
    words: BTreeMap<u64, u64>,
    /// Start and end of the ranges that the GIC may access.
    given: BTreeMap<u64, u64>,
    hazards: Vec<Hazard>,
}

/// Memory; clones share their contents.
#[derive(Clone, Default)]
pub struct Memory(Rc<RefCell<State>>);

impl Memory {
    /// Zeroed memory; the GIC may access no part of it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The word at `address`, as a CPU reads it.
    pub fn read64(&self, address: u64) -> u64 {
        self.0.borrow().words.get(&(address & !7)).copied().unwrap_or(0)
    }

    /// Stores a word, as a CPU does.
    pub fn write64(&self, address: u64, value: u64) {
        self.0.borrow_mut().words.insert(address & !7, value);
    }

    /// Zeroes `size` bytes.
    pub fn zero(&self, address: u64, size: u64) {
        let mut state = self.0.borrow_mut();
        let inside: Vec<u64> = state.words.range(address..address + size).map(|(at, _)| *at).collect();
        for at in inside {
            state.words.remove(&at);
        }
    }

    /// The addresses and values of words in `[address, address + size)` that are not zero.
    pub fn set(&self, address: u64, size: u64) -> Vec<(u64, u64)> {
        let state = self.0.borrow();
        let words = state.words.range(address..address.saturating_add(size));
        words.filter(|(_, word)| **word != 0).map(|(at, word)| (*at, *word)).collect()
    }

    /// Gives `[address, address + size)` to the GIC.
    pub fn give(&self, address: u64, size: u64) {
        self.0.borrow_mut().given.insert(address, address + size);
    }

    /// Takes back the range that was given at `address`.
    pub fn take(&self, address: u64) {
        self.0.borrow_mut().given.remove(&address);
    }

    /// Whether all of `[address, address + size)` is given to the GIC.
    pub fn is_given(&self, address: u64, size: u64) -> bool {
        let state = self.0.borrow();
        let before = state.given.range(..=address).next_back();
        before.is_some_and(|(_, end)| address.checked_add(size).is_some_and(|last| last <= *end))
    }

    /// Records an error.
    pub(crate) fn report(&self, hazard: Hazard) {
        self.0.borrow_mut().hazards.push(hazard);
    }

    pub(crate) fn hazards(&self) -> Vec<Hazard> {
        self.0.borrow().hazards.clone()
    }

    /// Reads a word for the GIC.
    pub(crate) fn device_read(&self, address: u64, why: &'static str) -> u64 {
        if !self.is_given(address & !7, 8) {
            self.report(Hazard::Foreign(address, why));
        }
        self.read64(address)
    }

    /// Writes a word for the GIC.
    pub(crate) fn device_write(&self, address: u64, value: u64, why: &'static str) {
        if !self.is_given(address & !7, 8) {
            self.report(Hazard::Foreign(address, why));
        }
        self.write64(address, value);
    }

    /// Reads a byte for the GIC.
    pub(crate) fn device_byte(&self, address: u64, why: &'static str) -> u8 {
        self.device_read(address & !7, why).to_le_bytes()[(address & 7) as usize]
    }
}
