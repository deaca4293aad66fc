//! The board of the examples, which violates one contract.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use example_board::{Board, Buffer};
use io_pgtable::Pa;
use smmu_conformance::Observer;
use smmu_drv::{DmaBuffer, Platform, WiredIrq};

/// The contract that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    NotZeroed,
    NotZeroedInMemory,
    NotAligned,
    OtherSize,
    Overlap,
    DirtyLines,
    NoClean,
    NoInvalidate,
    NoBarrier,
    ReadsOutside,
    WritesOutside,
    TimeBackwards,
    ClockStopped,
}

pub struct BrokenBoard {
    pub board: Board,
    how: Broken,
    last: RefCell<Option<Rc<RefCell<Buffer>>>>,
    readings: Cell<u64>,
}

impl BrokenBoard {
    pub fn new(board: Board, how: Broken) -> Self {
        Self { board, how, last: RefCell::default(), readings: Cell::new(0) }
    }
}

pub struct BrokenBuffer {
    inner: Rc<RefCell<Buffer>>,
    /// Offset of the buffer in the inner block.
    shift: usize,
    size: usize,
    how: Broken,
}

impl Platform for BrokenBoard {
    type Buffer = BrokenBuffer;
    type Place<T: 'static> = Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        self.board.read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.board.write32(offset, value);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.board.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.board.write64(offset, value);
    }
    fn alloc(&self, size: usize) -> Option<BrokenBuffer> {
        let shifted = self.how == Broken::NotAligned && size > 0x1000;
        let (shift, bytes) = if shifted { (0x1000, size * 2) } else { (0, size) };
        let again = self.last.borrow().clone().filter(|_| self.how == Broken::Overlap);
        let inner = match again {
            Some(last) => last,
            None => Rc::new(RefCell::new(self.board.alloc(bytes)?)),
        };
        *self.last.borrow_mut() = Some(inner.clone());
        match self.how {
            Broken::NotZeroed => inner.borrow_mut().write64(size - 8, 1),
            Broken::NotZeroedInMemory => {
                let pa = inner.borrow().pa().0;
                self.board.mem().dev_write(pa + 8, &[1]).unwrap();
            }
            Broken::DirtyLines => (0..size).step_by(8).for_each(|offset| inner.borrow_mut().write64(offset, 0)),
            _ => {}
        }
        let size = if self.how == Broken::OtherSize { size - 8 } else { size };
        Some(BrokenBuffer { inner, shift, size, how: self.how })
    }
    fn dsb(&self) {
        if self.how != Broken::NoBarrier {
            self.board.dsb();
        }
    }
    fn now_us(&self) -> u64 {
        self.readings.set(self.readings.get() + 1);
        match self.how {
            Broken::TimeBackwards if self.readings.get() == 500 => 1,
            Broken::ClockStopped => 7,
            _ => self.board.now_us(),
        }
    }
    fn relax(&self) {
        self.board.relax();
    }
    fn raise(&self, irq: WiredIrq) {
        self.board.raise(irq);
    }
}

impl BrokenBuffer {
    fn offset(&self, offset: usize, broken: Broken) -> usize {
        let offset = if self.how == broken { (offset % self.size) & !7 } else { offset };
        offset.saturating_add(self.shift)
    }
}

impl DmaBuffer for BrokenBuffer {
    fn pa(&self) -> Pa {
        Pa(self.inner.borrow().pa().0 + self.shift as u64)
    }
    fn size(&self) -> usize {
        self.size
    }
    fn read64(&self, offset: usize) -> u64 {
        self.inner.borrow().read64(self.offset(offset, Broken::ReadsOutside))
    }
    fn write64(&mut self, offset: usize, value: u64) {
        let offset = self.offset(offset, Broken::WritesOutside);
        self.inner.borrow_mut().write64(offset, value);
    }
    fn clean(&self, offset: usize, len: usize) {
        if self.how != Broken::NoClean {
            self.inner.borrow().clean(offset + self.shift, len);
        }
    }
    fn invalidate(&self, offset: usize, len: usize) {
        if self.how != Broken::NoInvalidate {
            self.inner.borrow().invalidate(offset + self.shift, len);
        }
    }
}

/// The board's memory as its SMMU sees it.
pub struct Seen(pub Board);

impl Observer for Seen {
    fn device_read64(&mut self, pa: Pa) -> u64 {
        self.0.mem().dev_read64(pa.0).unwrap_or(0)
    }
    fn device_write64(&mut self, pa: Pa, value: u64) {
        self.0.device_write64(pa, value);
    }
    fn barrier(&mut self) {
        self.0.barrier();
    }
    fn write_back(&mut self) {
        self.0.write_back();
    }
}
