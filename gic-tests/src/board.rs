//! The platform of a guard in tests: registers of the model, memory, and a clock that advances at each read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use gic_guard::platform::Frame;
use gic_guard::{DmaBuffer, Platform};
use gic_model::{Config, Memory, Model, Place};
use io_pgtable::Pa;

use crate::audits::Input;

/// EL2's memory.
pub const POOL: u64 = 0x1_0000_0000;
const POOL_SIZE: u64 = 0x40_0000_0000;

/// State shared by the guard's platform and the test.
pub struct SharedState {
    /// The GIC.
    pub model: RefCell<Model>,
    memory: Memory,
    /// Stores that are in EL2's cache only, on a GIC that does not snoop.
    cache: RefCell<BTreeMap<u64, u64>>,
    snoops: bool,
    /// The result of [`Platform::snoops`].
    pub reported_snooping: Cell<bool>,
    /// Whether a store to a buffer has not yet been ordered by a barrier.
    unordered: Cell<bool>,
    clock: Cell<u64>,
    next: Cell<u64>,
    /// Bytes of the pool in use.
    pub live: Cell<usize>,
    /// Number of bytes allocated and freed so far.
    pub moved: Cell<usize>,
    /// Number of allocations that still succeed.
    pub allocations: Cell<usize>,
    /// Whether the GIC was quiescent at the first allocation.
    pub was_quiet: Cell<Option<bool>>,
    /// What was read since an audit started.
    audited: RefCell<Option<Input>>,
    /// During an audit, the page that it read last, and whether all of its words are zero.
    page: Cell<Option<(u64, bool)>>,
}

impl SharedState {
    /// Whether `page`, of which an audit reads a word, is zero. `last` is the page that it read before.
    fn is_zero(&self, page: u64, last: (u64, bool)) -> bool {
        if last.0 == page {
            return last.1;
        }
        if let Some(input) = self.audited.borrow_mut().as_mut() {
            input.page(&self.memory, page);
        }
        let cached = self.cache.borrow().range(page..page + 0x1000).next().is_some();
        let zero = !cached && self.memory.is_untouched(page);
        self.page.set(Some((page, zero)));
        zero
    }
}

/// The platform of a guard on the model.
#[derive(Clone)]
pub struct Board(pub Rc<SharedState>);

impl Board {
    /// Creates a machine that has been reset.
    pub fn new(config: Config) -> Self {
        let memory = Memory::new();
        Self(Rc::new(SharedState {
            model: RefCell::new(Model::new(config, memory.clone())),
            memory,
            cache: RefCell::new(BTreeMap::new()),
            snoops: config.shareable,
            reported_snooping: Cell::new(true),
            unordered: Cell::new(false),
            clock: Cell::new(0),
            next: Cell::new(POOL),
            live: Cell::new(0),
            moved: Cell::new(0),
            allocations: Cell::new(usize::MAX),
            was_quiet: Cell::new(None),
            audited: RefCell::new(None),
            page: Cell::new(None),
        }))
    }

    /// The memory of the machine.
    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// What `audit` reads, and its result.
    pub(crate) fn reads<T>(&self, audit: impl FnOnce() -> T) -> (T, Option<Input>) {
        self.0.audited.replace(Some(Input::new(&self.0.memory)));
        self.0.page.set(Some((u64::MAX, false)));
        let result = audit();
        self.0.page.set(None);
        (result, self.0.audited.take())
    }

    /// Number of register accesses so far.
    pub fn work(&self) -> u64 {
        self.0.model.borrow().accesses()
    }

    /// The clock, in microseconds.
    pub fn now(&self) -> u64 {
        self.0.clock.get()
    }
}

fn place(frame: Frame) -> Place {
    match frame {
        Frame::Its(n) => Place::Its(n),
        Frame::Rd(n) => Place::Rd(n),
    }
}

impl Platform for Board {
    type Buffer = Buffer;

    fn read32(&self, frame: Frame, offset: u32) -> u32 {
        let value = self.0.model.borrow_mut().read32(place(frame), offset);
        if let Some(input) = self.0.audited.borrow_mut().as_mut() {
            input.word(frame, offset, value);
        }
        value
    }

    fn write32(&self, frame: Frame, offset: u32, value: u32) {
        let enables = offset == 0 && value & 1 == 1;
        assert!(!enables || !self.0.unordered.get(), "no barrier before an enable");
        self.0.model.borrow_mut().write32(place(frame), offset, value);
    }

    fn read64(&self, frame: Frame, offset: u32) -> u64 {
        let value = self.0.model.borrow_mut().read64(place(frame), offset);
        if let Some(input) = self.0.audited.borrow_mut().as_mut() {
            input.double(frame, offset, value);
        }
        value
    }

    fn write64(&self, frame: Frame, offset: u32, value: u64) {
        let publishes = matches!(frame, Frame::Its(_)) && offset == 0x88;
        assert!(!publishes || !self.0.unordered.get(), "no barrier before GITS_CWRITER");
        self.0.model.borrow_mut().write64(place(frame), offset, value);
    }

    fn snoops(&self) -> bool {
        self.0.reported_snooping.get()
    }

    fn alloc(&self, size: usize) -> Option<Buffer> {
        assert!(size >= 4096 && size.is_power_of_two());
        if self.0.was_quiet.get().is_none() {
            self.0.was_quiet.set(Some(self.0.model.borrow().is_quiet()));
        }
        self.0.allocations.set(self.0.allocations.get().checked_sub(1)?);
        let bytes = size as u64;
        let start = self.0.next.get().next_multiple_of(bytes);
        self.0.next.set(start + bytes);
        assert!(start + bytes < POOL + POOL_SIZE);
        self.0.live.set(self.0.live.get() + size);
        self.0.moved.set(self.0.moved.get() + size);
        self.0.memory.give(start, bytes);
        Some(Buffer { board: self.clone(), start, size })
    }

    fn dsb(&self) {
        self.0.unordered.set(false);
    }

    fn now_us(&self) -> u64 {
        self.0.clock.set(self.0.clock.get() + 100);
        self.0.clock.get()
    }

    fn relax(&self) {}
}

/// EL2 memory that hardware uses. A GIC that does not snoop sees a store only after it is cleaned.
pub struct Buffer {
    board: Board,
    start: u64,
    size: usize,
}

impl DmaBuffer for Buffer {
    fn pa(&self) -> Pa {
        Pa(self.start)
    }

    fn size(&self) -> usize {
        self.size
    }

    fn read64(&self, offset: usize) -> u64 {
        assert!(offset.is_multiple_of(8) && offset < self.size, "offset {offset:#x} of {:#x}", self.size);
        let at = self.start + offset as u64;
        let state = &*self.board.0;
        if state.page.get().is_some_and(|last| state.is_zero(at & !0xfff, last)) {
            return 0;
        }
        let cached = state.cache.borrow().get(&at).copied();
        cached.unwrap_or_else(|| state.memory.read64(at))
    }

    fn write64(&mut self, offset: usize, value: u64) {
        assert!(offset.is_multiple_of(8) && offset < self.size, "offset {offset:#x} of {:#x}", self.size);
        let at = self.start + offset as u64;
        self.board.0.unordered.set(true);
        if self.board.0.snoops {
            self.board.0.memory.write64(at, value);
        } else {
            self.board.0.cache.borrow_mut().insert(at, value);
            self.board.0.memory.touch(at);
        }
    }

    fn clean(&self, offset: usize, len: usize) {
        let (from, to) = (self.start + offset as u64, self.start + (offset + len) as u64);
        let mut cache = self.board.0.cache.borrow_mut();
        let dirty: Vec<u64> = cache.range(from & !63..to).map(|(at, _)| *at).collect();
        for at in dirty {
            let word = cache.remove(&at).unwrap();
            self.board.0.memory.write64(at, word);
        }
        self.board.0.unordered.set(true);
    }

    fn invalidate(&self, _offset: usize, _len: usize) {}
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.board.0.memory.take(self.start);
        self.board.0.live.set(self.board.0.live.get() - self.size);
        self.board.0.moved.set(self.board.0.moved.get() + self.size);
    }
}
