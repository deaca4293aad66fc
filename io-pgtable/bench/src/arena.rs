//! Table memory for every subject of the benchmark: one arena and one list of free pages, with the same cost for all.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::NonNull;

use io_pgtable::{Pa, TableMemory};

/// Physical address of the first byte.
pub(crate) const BASE: u64 = 0x10_0000_0000;
const PAGE: usize = 4096;
const PAGES: usize = 8 * 1024;

/// The free pages, as a stack of addresses. The benchmark has one thread.
struct FreeList {
    pages: [Cell<u64>; PAGES],
    len: Cell<usize>,
}

// SAFETY: (1) the benchmark starts no second thread, so the cells are never accessed concurrently.
unsafe impl Sync for FreeList {}

/// Size of the allocated tables.
static SIZE: Size = Size(Cell::new(PAGE));

struct Size(Cell<usize>);

// SAFETY: (1) as above, the benchmark has one thread.
unsafe impl Sync for Size {}

impl Size {
    #[inline]
    fn get(&self) -> usize {
        self.0.get()
    }

    fn set(&self, size: usize) {
        self.0.set(size);
    }
}

static FREE: FreeList = FreeList { pages: [const { Cell::new(0) }; PAGES], len: Cell::new(0) };

unsafe extern "C" {
    fn mmap(addr: *mut u64, length: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u64;
    fn madvise(addr: *mut u64, length: usize, advice: i32) -> i32;
}

/// Maps the arena at its physical addresses, since EL2 also has an identity map. The cost is the same for every
/// subject.
fn map_arena() {
    const READ_WRITE: i32 = 3;
    const PRIVATE_ANONYMOUS_FIXED_NOREPLACE: i32 = 0x02 | 0x20 | 0x10_0000;
    let want = std::ptr::without_provenance_mut(BASE as usize);
    // SAFETY: (1) the kernel refuses to replace an existing mapping, and the arguments are those of its manual.
    let got = unsafe { mmap(want, PAGES * PAGE, READ_WRITE, PRIVATE_ANONYMOUS_FIXED_NOREPLACE, -1, 0) };
    assert_eq!(got.expose_provenance() as u64, BASE, "the arena's address is in use");
    const HUGE_PAGES: i32 = 14;
    // SAFETY: (1) the range is the mapping just made. EL2 also maps its memory by blocks; a refusal costs only
    // speed.
    let _ = unsafe { madvise(got, PAGES * PAGE, HUGE_PAGES) };
}

/// Maps the arena; call it once, before any other function.
pub(crate) fn init() {
    map_arena();
    divide(PAGE);
}

/// Divides the arena into tables of `size` bytes, all of them free: no table may exist.
///
/// The first eight pages are reserved for roots that are larger or smaller than a table.
pub(crate) fn divide(size: usize) {
    FREE.len.set(0);
    SIZE.set(size);
    for index in (1..PAGES * PAGE / size).rev() {
        let start = index * size;
        if start >= 8 * PAGE {
            free(BASE + start as u64);
        }
    }
}

/// A free page.
#[inline]
pub(crate) fn alloc() -> Option<u64> {
    let len = FREE.len.get().checked_sub(1)?;
    let page = FREE.pages.get(len)?.get();
    FREE.len.set(len);
    Some(page)
}

/// Frees a page.
#[inline]
pub(crate) fn free(pa: u64) {
    let len = FREE.len.get();
    if let Some(slot) = FREE.pages.get(len) {
        slot.set(pa);
        FREE.len.set(len + 1);
    }
}

/// Pages in use.
pub(crate) fn used() -> usize {
    PAGES - 8 - FREE.len.get()
}

/// Address at which the page is accessed.
#[inline]
pub(crate) fn ptr(pa: u64) -> *mut u64 {
    std::ptr::with_exposed_provenance_mut(pa as usize)
}

/// The arena as the table memory of this project, as in a hypervisor's pool: an offset and a free list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pool;

// SAFETY: (1) pages come from the arena, which is initialised, aligned and never freed; (2) the free list returns each
// page once; (3) the mapping of addresses is fixed.
unsafe impl TableMemory for Pool {
    #[inline]
    fn alloc(&self, size: usize) -> Option<Pa> {
        if size == SIZE.get() { alloc().map(Pa) } else { Some(Pa(BASE)) }
    }

    #[inline]
    fn free(&self, table: Pa, size: usize) {
        if size == SIZE.get() {
            free(table.0);
        }
    }

    #[inline]
    fn ptr(&self, table: Pa) -> NonNull<u64> {
        // SAFETY: (1) no page of the arena is at address 0.
        unsafe { NonNull::new_unchecked(ptr(table.0)) }
    }

    fn clean(&self, _ptr: NonNull<u64>, _bytes: usize) {}

    #[inline]
    fn publish(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
    }
}
