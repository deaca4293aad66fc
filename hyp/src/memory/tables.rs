//! Table memory: pages of the pool, at their physical addresses, since EL2's own map is an identity map.
//!
//! One of the modules that may use `unsafe`: it implements the unsafe trait `TableMemory`.
#![allow(unsafe_code)]

use crate::{arch, pool};
use aarch64_cpu::asm::barrier;
use core::ptr::NonNull;
use io_pgtable::{Pa, TableMemory};

/// The pool as a source of tables.
#[derive(Clone, Copy, Debug)]
pub struct PoolTables;

// SAFETY: (1) blocks of the pool are mapped, initialised memory, aligned to their size, until they are freed; (2) the
// pool allocates a block only once at a time; (3) EL2's map is an identity map.
unsafe impl TableMemory for PoolTables {
    fn alloc(&self, size: usize) -> Option<Pa> {
        pool::alloc(size)
    }

    fn free(&self, table: Pa, size: usize) {
        // SAFETY: (1) `io-pgtable` frees each block that it allocated once, after the invalidation that covers it.
        unsafe { pool::free(table, size) };
    }

    fn ptr(&self, table: Pa) -> NonNull<u64> {
        NonNull::new(table.0 as *mut u64).unwrap_or(NonNull::dangling())
    }

    fn clean(&self, ptr: NonNull<u64>, bytes: usize) {
        arch::clean_to_poc(ptr.addr().get() as u64, bytes as u64);
    }

    fn publish(&self) {
        // Orders descriptor stores before walks by this CPU, by other CPUs and by an SMMU.
        barrier::dsb(barrier::SY);
        barrier::isb(barrier::SY);
    }
}
