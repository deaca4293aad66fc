//! Memory of the hypervisor that an SMMU of the model reads or writes.

use std::rc::Rc;

use io_pgtable::Pa;
use smmu_drv::DmaBuffer;

use crate::{LINE, Shared};

/// A block of the pool.
pub struct Buffer {
    shared: Rc<Shared>,
    pa: u64,
    size: usize,
}

impl Buffer {
    pub(crate) fn new(shared: Rc<Shared>, pa: u64, size: usize) -> Self {
        Self { shared, pa, size }
    }

    /// Address of the word at `offset`.
    fn word(&self, offset: usize) -> Option<u64> {
        let fits = offset.is_multiple_of(8) && offset.checked_add(8)? <= self.size;
        if fits { self.pa.checked_add(u64::try_from(offset).ok()?) } else { None }
    }

    /// Addresses of the lines with the `len` bytes at `offset`.
    fn lines(&self, offset: usize, len: usize) -> std::ops::Range<u64> {
        let [offset, len] = [offset, len].map(|n| u64::try_from(n).unwrap_or(0));
        let start = self.pa + offset;
        start & !(LINE - 1)..(start + len).next_multiple_of(LINE)
    }
}

impl DmaBuffer for Buffer {
    fn pa(&self) -> Pa {
        Pa(self.pa)
    }

    fn size(&self) -> usize {
        self.size
    }

    fn read64(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| self.shared.stores.read64(word))
    }

    fn write64(&mut self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            self.shared.stores.write64(word, value);
            self.shared.dirty.borrow_mut().insert(word & !(LINE - 1));
        }
    }

    fn clean(&self, offset: usize, len: usize) {
        let lines = self.lines(offset, len);
        self.shared.dirty.borrow_mut().retain(|line| !lines.contains(line));
        self.shared.stores.clean(lines);
    }

    fn invalidate(&self, offset: usize, len: usize) {
        let lines = self.lines(offset, len);
        self.shared.dirty.borrow_mut().retain(|line| !lines.contains(line));
        self.shared.mem.invalidate(lines);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = self.lines(0, self.size);
        self.shared.dirty.borrow_mut().retain(|line| !lines.contains(line));
        self.shared.stores.discard(&lines);
    }
}
