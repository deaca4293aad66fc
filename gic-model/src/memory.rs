//! Memory: its words, the ranges that are given to the GIC, and the hazards found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::Hazard;

/// Bytes of a page.
const PAGE: u64 = 0x1000;
const WORDS: usize = 512;

/// The words of a page, and the number of the last store to it.
struct Page {
    words: [u64; WORDS],
    stamp: u64,
}

#[derive(Default)]
struct State {
    /// Pages that were stored to. All other words are zero.
    pages: Vec<Page>,
    /// For the address of each of them, its index in `pages`.
    index: BTreeMap<u64, usize>,
    /// The page of the last access, and its index in `pages`.
    last: Cell<Option<(u64, Option<usize>)>>,
    /// Number of stores, and of changes of `given`, so far.
    changes: u64,
    /// Start and end of the ranges that the GIC may access.
    given: BTreeMap<u64, u64>,
    /// Number of the last change of `given`.
    given_stamp: u64,
    hazards: Vec<Hazard>,
}

impl State {
    /// The page at `address`, unless it was never stored to.
    fn page(&self, address: u64) -> Option<&Page> {
        let page = address & !(PAGE - 1);
        let index = match self.last.get() {
            Some((last, index)) if last == page => index,
            _ => {
                let index = self.index.get(&page).copied();
                self.last.set(Some((page, index)));
                index
            }
        };
        Some(&self.pages[index?])
    }

    /// The page at `address`, for a store.
    fn stored(&mut self, address: u64) -> &mut Page {
        let index = *self.index.entry(address & !(PAGE - 1)).or_insert_with(|| {
            self.last.set(None);
            self.pages.push(Page { words: [0; WORDS], stamp: 0 });
            self.pages.len() - 1
        });
        self.changes += 1;
        self.pages[index].stamp = self.changes;
        &mut self.pages[index]
    }

    fn give(&mut self) -> &mut BTreeMap<u64, u64> {
        self.changes += 1;
        self.given_stamp = self.changes;
        &mut self.given
    }
}

/// The index of the word at `address` in its page.
fn word(address: u64) -> usize {
    ((address & (PAGE - 1)) / 8) as usize
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
        self.0.borrow().page(address).map_or(0, |page| page.words[word(address)])
    }

    /// Stores a word, as a CPU does.
    pub fn write64(&self, address: u64, value: u64) {
        self.0.borrow_mut().stored(address).words[word(address)] = value;
    }

    /// Zeroes `size` bytes.
    pub fn zero(&self, address: u64, size: u64) {
        for (at, _) in self.set(address, size) {
            self.write64(at, 0);
        }
    }

    /// The addresses and values of words in `[address, address + size)` that are not zero.
    pub fn set(&self, address: u64, size: u64) -> Vec<(u64, u64)> {
        let state = self.0.borrow();
        let range = address..address.saturating_add(size);
        let pages = state.index.range(range.start & !(PAGE - 1)..range.end);
        let words = pages.flat_map(|(page, index)| (*page..).step_by(8).zip(&state.pages[*index].words));
        words.filter(|(at, word)| **word != 0 && range.contains(at)).map(|(at, word)| (at, *word)).collect()
    }

    /// A number that differs after a store to the page at `address`, or after [`Memory::touch`].
    pub fn stamp(&self, address: u64) -> u64 {
        self.0.borrow().page(address).map_or(0, |page| page.stamp)
    }

    /// Whether the page at `address` was never stored to.
    pub fn is_untouched(&self, address: u64) -> bool {
        self.0.borrow().page(address).is_none()
    }

    /// A number that differs after a change of the ranges that are given to the GIC.
    pub fn given_stamp(&self) -> u64 {
        self.0.borrow().given_stamp
    }

    /// Changes the stamp of the page at `address`, and nothing else.
    pub fn touch(&self, address: u64) {
        self.0.borrow_mut().stored(address);
    }

    /// Gives `[address, address + size)` to the GIC.
    pub fn give(&self, address: u64, size: u64) {
        self.0.borrow_mut().give().insert(address, address + size);
    }

    /// Takes back the range that was given at `address`.
    pub fn take(&self, address: u64) {
        self.0.borrow_mut().give().remove(&address);
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
