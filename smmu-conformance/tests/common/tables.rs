//! Memory for tables that violates one contract. A walker reads data that was cleaned and published.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr::NonNull;

use io_pgtable::{HeapMemory, Pa, TableMemory};
use smmu_conformance::Observer;

/// The contract that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    NoMemory,
    NotAligned,
    Overlap,
    PointerChanges,
    NoClean,
    NoPublish,
}

pub struct Tables {
    pub heap: HeapMemory,
    how: Broken,
    calls: Cell<u64>,
    last: Cell<Option<Pa>>,
    /// The words that a walker reads.
    pub published: RefCell<BTreeMap<u64, u64>>,
}

impl Tables {
    pub fn new(how: Broken) -> Self {
        let heap = HeapMemory::new(Pa(0x8000_0000), 4 << 20);
        Self { heap, how, calls: Cell::new(0), last: Cell::new(None), published: RefCell::default() }
    }

    fn complete(&self) {
        for page in self.heap.touched() {
            for pa in (page.0..page.0 + 4096).step_by(8) {
                self.published.borrow_mut().insert(pa, self.heap.read64_poc(Pa(pa)).unwrap());
            }
        }
    }
}

// SAFETY: (1) blocks, pointers and cleans are those of `HeapMemory`, which upholds the contract; where a contract is
// violated the check ends before the memory is used as a table, and nothing is accessed.
unsafe impl TableMemory for Tables {
    fn alloc(&self, size: usize) -> Option<Pa> {
        let last = self.last.get();
        let pa = match (self.how, last) {
            (Broken::NoMemory, _) => None,
            (Broken::Overlap, Some(_)) => last,
            (Broken::NotAligned, _) if size > 0x1000 => self.heap.alloc(size * 2).map(|pa| Pa(pa.0 + 0x1000)),
            _ => self.heap.alloc(size),
        };
        self.last.set(pa);
        pa
    }
    fn free(&self, table: Pa, size: usize) {
        self.heap.free(table, size);
    }
    fn ptr(&self, table: Pa) -> NonNull<u64> {
        self.calls.set(self.calls.get() + 1);
        let shift = if self.how == Broken::PointerChanges { self.calls.get() % 2 * 8 } else { 0 };
        self.heap.ptr(Pa(table.0 + shift))
    }
    fn clean(&self, ptr: NonNull<u64>, bytes: usize) {
        if self.how != Broken::NoClean {
            self.heap.clean(ptr, bytes);
        }
    }
    fn publish(&self) {
        if self.how != Broken::NoPublish {
            self.complete();
        }
    }
}

/// The memory as a walker reads it.
pub struct Walker<'a>(pub &'a Tables);

impl Observer for Walker<'_> {
    fn device_read64(&mut self, pa: Pa) -> u64 {
        self.0.published.borrow().get(&pa.0).copied().unwrap_or(0)
    }
    fn device_write64(&mut self, _: Pa, _: u64) {}
    fn barrier(&mut self) {
        self.0.complete();
    }
    fn write_back(&mut self) {}
}
