//! The only module with `unsafe` code: it accesses the memory of tables, and loads and stores descriptors.
//!
//! The safety of this module depends on one invariant of the crate: **a [`Table`] refers to memory that was allocated
//! from the same [`TableMemory`] and is not freed yet.** Tables come from [`Table::at`] with the root, with the
//! address in a descriptor that this crate linked, or with a table just allocated; they are freed when no descriptor
//! points to them.

#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::Pa;
use crate::desc::{ADDR, TYPE, VALID};
use crate::granule::Granule;

#[cfg(any(test, feature = "heap"))]
pub(crate) mod heap;
#[cfg(test)]
pub(crate) mod observer;

/// Memory for tables. All methods take `&self`: a shared implementation does its own locking.
///
/// # Caches
/// [`ptr`](Self::ptr) accesses the memory as normal, write-back and inner shareable. For a walker that snoops
/// ([`coherent_walk`](crate::Cfg::coherent_walk)) that is sufficient. For a walker that does not, each descriptor is
/// cleaned after its store and before the next [`publish`](Self::publish), and each word of a new table before it is
/// linked. So memory from [`alloc`](Self::alloc), and memory passed to [`free`](Self::free), may have dirty lines.
///
/// # Safety
/// While a table returned by [`alloc`](Self::alloc) is not passed to [`free`](Self::free):
/// 1. `ptr` of it points to `size` bytes that are initialised, readable, writable and aligned to 8;
/// 2. nothing else in the program accesses these bytes, except by atomic 64-bit loads;
/// 3. `ptr` returns the same pointer each time.
pub unsafe trait TableMemory {
    /// Allocates a table of `size` bytes (a power of two, at least 4096), aligned to `size`; its content is arbitrary.
    /// `None` when there is no memory.
    fn alloc(&self, size: usize) -> Option<Pa>;

    /// Frees a table of `size` bytes that `alloc` returned for the same `size`.
    fn free(&self, table: Pa, size: usize);

    /// The address at which this program accesses the table.
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

/// Stores a descriptor into a live table, without a barrier: see [`Table::link`].
#[inline(always)]
fn set(slot: &AtomicU64, desc: u64) {
    slot.store(desc, Ordering::Relaxed);
    #[cfg(test)]
    observer::notify(observer::Event::Stored(slot.as_ptr().addr()));
}

/// A live table: every access is one relaxed 64-bit atomic.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    base: NonNull<u64>,
    /// Number of descriptors less one; the number is a power of two.
    mask: usize,
}

impl Table {
    /// The table at `pa` with `mask + 1` descriptors. The invariant of the module must hold.
    #[inline]
    pub(crate) fn at<M: TableMemory>(mem: &M, pa: Pa, mask: usize) -> Self {
        Self { base: mem.ptr(pa), mask }
    }

    /// The next-level table that a table descriptor points to.
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

    /// The `n` descriptors from `first`, or fewer at the end of the table.
    #[inline]
    fn slots(&self, first: usize, n: usize) -> &[AtomicU64] {
        let first = first & self.mask;
        let n = n.min(self.left(first));
        // SAFETY: (1) the table is live by the invariant of the module, so `base` points to `mask + 1` initialised
        // words aligned to 8, as `AtomicU64` is; (2) `first` and `n` were cut to them; (3) other accesses are atomic by
        // the contract of `TableMemory`, and `Fresh::words` is used only while a table is not linked.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr().add(first).cast::<AtomicU64>(), n) }
    }

    /// Address of descriptor `index` (taken modulo the table size).
    #[inline]
    pub(crate) fn slot(self, index: usize) -> Slot {
        // SAFETY: (1) the masked index is inside the live table, which is one allocation.
        Slot(unsafe { self.base.add(index & self.mask) })
    }

    /// Loads descriptor `index` (taken modulo the table size).
    #[inline]
    pub(crate) fn load(self, index: usize) -> u64 {
        self.slot(index).load()
    }

    /// Stores a descriptor that links no new table.
    #[inline]
    pub(crate) fn store(self, index: usize, desc: u64) {
        self.slot(index).store(desc);
    }

    /// Stores a descriptor that points to a table. The barrier before the store makes the table's content visible
    /// first; snooping walkers need it too, since they may see two stores in another order.
    #[inline]
    pub(crate) fn link<M: TableMemory>(self, mem: &M, index: usize, desc: u64) {
        mem.publish();
        self.slot(index).store(desc);
    }

    /// Stores `n` descriptors from `first`, one after the other, each `step` higher than the previous one.
    #[inline]
    pub(crate) fn store_run(self, first: usize, n: usize, desc: u64, step: u64) {
        store_all(self.slots(first, n), desc, step);
    }

    /// Makes `n` descriptors from `first` invalid, one after the other.
    #[inline]
    pub(crate) fn clear_run(self, first: usize, n: usize) {
        clear_all(self.slots(first, n));
    }

    /// Number of leading valid descriptors among the `n` from `first`.
    #[inline]
    pub(crate) fn valid_run(self, first: usize, n: usize) -> usize {
        let valid = |slot: &&AtomicU64| slot.load(Ordering::Relaxed) & VALID != 0;
        self.slots(first, n).iter().take_while(valid).count()
    }

    /// The `n` descriptors from `first`, for one pass of plain loads.
    ///
    /// The table has one writer, which is the caller; hardware that manages the dirty state changes no bit that is read
    /// here.
    #[inline]
    fn snapshot(&self, first: usize, n: usize) -> &[u64] {
        let slots = self.slots(first, n);
        // SAFETY: (1) the slice is valid as in `slots`, and `AtomicU64` has the layout of `u64`; (2) no one stores
        // while the borrow lasts: all stores of this program are made by the exclusive borrower of the `IoPgtable`.
        unsafe { core::slice::from_raw_parts(slots.as_ptr().cast::<u64>(), slots.len()) }
    }

    /// The bits in which any of the `n` descriptors from `first` differs from `pattern`.
    #[inline(always)]
    fn differing(self, first: usize, n: usize, pattern: u64) -> u64 {
        any_of(self.snapshot(first, n), pattern)
    }

    /// Whether all of the `n` descriptors from `first` have these bits `[1:0]`.
    #[inline(never)]
    pub(crate) fn all_of_type(self, first: usize, n: usize, kind: u64) -> bool {
        self.differing(first, n, kind) & TYPE == 0
    }

    /// Whether none of the `n` descriptors from `first` is valid.
    #[inline]
    pub(crate) fn vacant(self, first: usize, n: usize) -> bool {
        self.differing(first, n, 0) & VALID == 0
    }

    /// Cleans `n` descriptors from `first` to the point of coherency.
    #[inline]
    pub(crate) fn clean<M: TableMemory>(self, mem: &M, first: usize, n: usize) {
        // SAFETY: the masked index lies inside the table, which is one allocation.
        let ptr = unsafe { self.base.add(first & self.mask) };
        mem.clean(ptr, n.min(self.left(first)).wrapping_mul(size_of::<u64>()));
    }
}

/// Pointer to one descriptor of a live table: a walk keeps the one into the parent table in a register.
#[derive(Clone, Copy)]
pub(crate) struct Slot(NonNull<u64>);

impl Slot {
    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: (1) by the invariant of the module the table is live, so this is an initialised word aligned to 8, as
        // `AtomicU64` is; (2) other accesses are atomic, as in `Table::slots`.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr()) }
    }

    /// Loads the descriptor.
    #[inline]
    pub(crate) fn load(self) -> u64 {
        self.word().load(Ordering::Relaxed)
    }

    /// Stores a descriptor that links no new table.
    #[inline]
    pub(crate) fn store(self, desc: u64) {
        set(self.word(), desc);
    }
}

/// Stores one descriptor after the other, each `step` higher than the previous one.
#[inline(always)]
fn store_all(slots: &[AtomicU64], desc: u64, step: u64) {
    let mut desc = desc;
    let (eights, rest) = slots.as_chunks::<8>();
    for eight in eights {
        for slot in eight {
            set(slot, desc);
            desc = desc.wrapping_add(step);
        }
    }
    for slot in rest {
        set(slot, desc);
        desc = desc.wrapping_add(step);
    }
}

/// Makes all descriptors invalid. The last eight may overlap earlier ones; storing an invalid descriptor twice is
/// harmless.
#[inline(always)]
fn clear_all(slots: &[AtomicU64]) {
    let (eights, rest) = slots.as_chunks::<8>();
    for eight in eights {
        for slot in eight {
            set(slot, 0);
        }
    }
    match slots.last_chunk::<8>() {
        Some(last) if !rest.is_empty() => {
            for slot in last {
                set(slot, 0);
            }
        }
        Some(_) => {}
        None => {
            for slot in rest {
                set(slot, 0);
            }
        }
    }
}

/// The bits in which any word differs from `pattern`. The last eight words may overlap earlier ones.
#[inline(always)]
fn any_of(words: &[u64], pattern: u64) -> u64 {
    let Some(last) = words.last_chunk::<8>() else {
        return words.iter().fold(0, |any, word| any | word ^ pattern);
    };
    let mut any = any_of_eight([0; 4], last, pattern);
    for eight in words.as_chunks::<8>().0 {
        any = any_of_eight(any, eight, pattern);
    }
    any[0] | any[1] | any[2] | any[3]
}

#[inline(always)]
fn any_of_eight([a, b, c, d]: [u64; 4], eight: &[u64; 8], pattern: u64) -> [u64; 4] {
    let [e, f, g, h, i, j, k, l] = eight.map(|word| word ^ pattern);
    [a | e | i, b | f | j, c | g | k, d | h | l]
}

/// A table that is not linked yet: it is filled with plain stores.
pub(crate) struct Fresh {
    table: Table,
    /// The address of the table.
    pub(crate) pa: Pa,
}

impl Fresh {
    /// The unlinked table at `pa`. The invariant of the module must hold.
    #[inline]
    pub(crate) fn at<M: TableMemory>(mem: &M, pa: Pa, mask: usize) -> Self {
        Self { table: Table::at(mem, pa, mask), pa }
    }

    /// The descriptors of the table.
    #[inline]
    pub(crate) fn words(&mut self) -> &mut [u64] {
        let len = self.table.mask.wrapping_add(1);
        // SAFETY: (1) the table is live, so these are `len` initialised and aligned words; (2) it is not linked, so no
        // walker and no `Table` access happens while the exclusive borrow of the only `Fresh` for it lasts.
        unsafe { core::slice::from_raw_parts_mut(self.table.base.as_ptr(), len) }
    }

    /// Cleans the whole table to the point of coherency.
    pub(crate) fn clean<M: TableMemory>(&self, mem: &M) {
        self.table.clean(mem, 0, self.table.mask.wrapping_add(1));
    }
}
