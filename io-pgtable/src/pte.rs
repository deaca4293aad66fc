//! The only module with `unsafe`: it turns table addresses into memory and loads and stores descriptors.
//!
//! Everything rests on one invariant, kept by this crate: **a [`Table`] names memory that was allocated from the
//! [`TableMemory`] at hand and is not freed yet.** Tables come from [`Table::at`] with the root, with the address in a
//! descriptor that this crate linked, or with a table just allocated; they are freed when no descriptor names them.

#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::Pa;
use crate::desc::{ADDR, VALID};
use crate::granule::Granule;

#[cfg(any(test, feature = "heap"))]
pub(crate) mod heap;
#[cfg(test)]
pub(crate) mod observer;

/// Memory for tables. All methods take `&self`: an implementation that is shared does its own locking.
///
/// # Safety
/// While a table returned by [`alloc`](Self::alloc) is not passed to [`free`](Self::free):
/// 1. `ptr` of it points to `size` bytes that are initialised, readable, writable and aligned to 8;
/// 2. nothing else in the program accesses these bytes, except by atomic 64-bit loads;
/// 3. `ptr` gives the same answer each time.
pub unsafe trait TableMemory {
    /// Allocates a table of `size` bytes (a power of two, at least 4096), aligned to `size`; its content is arbitrary.
    /// `None` when there is no memory.
    fn alloc(&self, size: usize) -> Option<Pa>;

    /// Takes back a table of `size` bytes that `alloc` returned for the same `size`.
    fn free(&self, table: Pa, size: usize);

    /// Where this program accesses the table.
    fn ptr(&self, table: Pa) -> NonNull<u64>;

    /// Cleans `bytes` bytes at `ptr` to the point of coherency, complete at the next [`publish`](Self::publish).
    /// Called only when [`coherent_walk`](crate::Cfg::coherent_walk) is off.
    fn clean(&self, ptr: NonNull<u64>, bytes: usize);

    /// Completes all earlier descriptor stores and cleans before any later store, walk or TLB invalidation
    /// (at EL2: `dsb ishst`, or `dsb osh` for walkers outside the inner shareable domain).
    fn publish(&self);
}

// SAFETY: (1)-(3) hold because every call is passed on to an implementation that upholds them.
unsafe impl<M: TableMemory + ?Sized> TableMemory for &M {
    fn alloc(&self, size: usize) -> Option<Pa> {
        (**self).alloc(size)
    }

    fn free(&self, table: Pa, size: usize) {
        (**self).free(table, size);
    }

    fn ptr(&self, table: Pa) -> NonNull<u64> {
        (**self).ptr(table)
    }

    fn clean(&self, ptr: NonNull<u64>, bytes: usize) {
        (**self).clean(ptr, bytes);
    }

    fn publish(&self) {
        (**self).publish();
    }
}

/// A live table: every access is one relaxed 64-bit atomic.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    base: NonNull<u64>,
    /// Number of descriptors less one; the number is a power of two.
    mask: usize,
}

impl Table {
    /// The table at `pa` with `mask + 1` descriptors. See the invariant of the module.
    #[inline]
    pub(crate) fn at<M: TableMemory>(mem: &M, pa: Pa, mask: usize) -> Self {
        Self { base: mem.ptr(pa), mask }
    }

    /// The next-level table that a table descriptor names.
    #[inline]
    pub(crate) fn child<G: Granule, M: TableMemory>(mem: &M, desc: u64) -> Self {
        Self::at(mem, Pa(desc & ADDR), G::ENTRIES.wrapping_sub(1))
    }

    /// Index of the descriptor of `iova`, for descriptors that cover `1 << shift` bytes.
    #[inline]
    pub(crate) fn index(self, iova: u64, shift: u32) -> usize {
        // Truncation is harmless: the mask keeps low bits only.
        usize::try_from(iova.wrapping_shr(shift) & u64::try_from(self.mask).unwrap_or(0)).unwrap_or(0)
    }

    /// Descriptors from `index` to the end of the table.
    #[inline]
    pub(crate) fn left(self, index: usize) -> usize {
        self.mask.wrapping_sub(index & self.mask).wrapping_add(1)
    }

    #[inline]
    fn slot(&self, index: usize) -> &AtomicU64 {
        // SAFETY: (1) the table is live by the invariant of the module, so `base` points to `mask + 1` initialised words
        // aligned to 8; (2) the masked index is one of them; (3) other accesses are atomic by the contract of
        // `TableMemory`, and `Fresh::words` is used only before a table is linked or after it is not reachable.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(index & self.mask)) }
    }

    /// Loads descriptor `index` (taken modulo the table size).
    #[inline]
    pub(crate) fn load(self, index: usize) -> u64 {
        self.slot(index).load(Ordering::Relaxed)
    }

    /// Stores a descriptor that links no new table.
    #[inline]
    pub(crate) fn store(self, index: usize, desc: u64) {
        self.slot(index).store(desc, Ordering::Relaxed);
        #[cfg(test)]
        observer::stored();
    }

    /// Stores a table descriptor; the content of the table it names is visible before it.
    #[inline]
    pub(crate) fn link(self, index: usize, desc: u64) {
        self.slot(index).store(desc, Ordering::Release);
        #[cfg(test)]
        observer::stored();
    }

    /// Number of leading valid descriptors among the `n` from `first`.
    #[inline]
    pub(crate) fn valid_run(self, first: usize, n: usize) -> usize {
        (0..n).take_while(|&i| self.load(first.wrapping_add(i)) & VALID != 0).count()
    }

    /// Whether all of the `n` descriptors from `first` are valid.
    #[inline]
    pub(crate) fn all_valid(self, first: usize, n: usize) -> bool {
        let all = (0..n).fold(VALID, |all, i| all & self.load(first.wrapping_add(i)));
        all != 0
    }

    /// Whether none of the `n` descriptors from `first` is valid.
    #[inline]
    pub(crate) fn vacant(self, first: usize, n: usize) -> bool {
        let all = (0..n).fold(0, |all, i| all | self.load(first.wrapping_add(i)));
        all & VALID == 0
    }

    /// Cleans `n` descriptors from `first` to the point of coherency.
    #[inline]
    pub(crate) fn clean<M: TableMemory>(self, mem: &M, first: usize, n: usize) {
        // SAFETY: the masked index lies inside the table, which is one allocation.
        let ptr = unsafe { self.base.add(first & self.mask) };
        mem.clean(ptr, n.min(self.left(first)).wrapping_mul(size_of::<u64>()));
    }
}

/// A table that nothing refers to yet: it is filled with plain stores.
pub(crate) struct Fresh {
    table: Table,
    /// Its address.
    pub(crate) pa: Pa,
}

impl Fresh {
    /// Takes possession of the unlinked table at `pa`. See the invariant of the module.
    #[inline]
    pub(crate) fn at<M: TableMemory>(mem: &M, pa: Pa, mask: usize) -> Self {
        Self { table: Table::at(mem, pa, mask), pa }
    }

    /// Its descriptors.
    #[inline]
    pub(crate) fn words(&mut self) -> &mut [u64] {
        let len = self.table.mask.wrapping_add(1);
        // SAFETY: (1) the table is live, so these are `len` initialised and aligned words; (2) it is not linked, so no
        // walker and no `Table` access happens while the exclusive borrow of the only `Fresh` for it lasts.
        unsafe { core::slice::from_raw_parts_mut(self.table.base.as_ptr(), len) }
    }

    /// Cleans all of it to the point of coherency.
    pub(crate) fn clean<M: TableMemory>(&self, mem: &M) {
        self.table.clean(mem, 0, self.table.mask.wrapping_add(1));
    }
}
