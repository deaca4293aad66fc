//! Blocks of the pool for the queues and tables of devices: SMMUs, and the interrupt controller.
//!
//! One of the modules that may use `unsafe`: it accesses buffers by offset.
#![allow(unsafe_code)]

use crate::{arch, pool};
use host_access::memory::DmaBuffer;
use io_pgtable::Pa;

/// A block of the pool that a device reads or writes; freed when dropped.
pub struct PoolBuffer {
    pa: Pa,
    size: usize,
}

impl PoolBuffer {
    /// A zeroed block of `size` bytes, a power of two; `None` when the pool is empty.
    pub fn alloc(size: usize) -> Option<Self> {
        let pa = pool::alloc(size)?;
        // Cleans the zeroes to memory, so that no dirty line is later written back over data of the device.
        arch::clean_and_invalidate(pa.0, size as u64);
        Some(Self { pa, size })
    }

    fn word(&self, offset: usize) -> Option<*mut u64> {
        let fits = offset.is_multiple_of(8) && offset.checked_add(8)? <= self.size;
        fits.then(|| (self.pa.0 as *mut u64).wrapping_byte_add(offset))
    }

    /// Address and length of `len` bytes at `offset`, cut to the block.
    fn part(&self, offset: usize, len: usize) -> Option<(u64, u64)> {
        let len = len.min(self.size.checked_sub(offset)?);
        Some((self.pa.0.checked_add(offset as u64)?, len as u64))
    }
}

impl DmaBuffer for PoolBuffer {
    fn pa(&self) -> Pa {
        self.pa
    }

    fn size(&self) -> usize {
        self.size
    }

    fn read64(&self, offset: usize) -> u64 {
        // SAFETY: (1) the word is in the block, which this value owns; (2) volatile, since the device may write it.
        self.word(offset).map_or(0, |word| unsafe { word.read_volatile() })
    }

    fn write64(&mut self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            // SAFETY: (1) the word is in the block, which this value owns; (2) volatile, since the device reads it.
            unsafe { word.write_volatile(value) };
        }
    }

    fn clean(&self, offset: usize, len: usize) {
        if let Some((start, len)) = self.part(offset, len) {
            arch::clean_to_poc(start, len);
        }
    }

    fn invalidate(&self, offset: usize, len: usize) {
        // CPU and device never write to the same buffer, so clean-and-invalidate is safe at line boundaries.
        if let Some((start, len)) = self.part(offset, len) {
            arch::clean_and_invalidate(start, len);
        }
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        // SAFETY: (1) the block came from the pool with this size; (2) the driver drops a buffer only after the
        // device cannot access it any more.
        unsafe { pool::free(self.pa, self.size) };
    }
}
