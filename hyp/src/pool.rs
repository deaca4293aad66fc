//! EL2's memory pool: pages for tables, queues and shadow structures.
//!
//! Single pages come from a list in O(1); larger blocks, and the list's refills, from a buddy allocator. Pages that the
//! host donated are separate and used last, so that unused ones can be returned. The host has no access to the
//! pool. One of the modules that may use `unsafe`: it allocates and frees memory by address.
#![allow(unsafe_code)]

use crate::arch::PAGE;
use buddy_system_allocator::Heap;
use core::alloc::Layout;
use core::ptr::NonNull;
use hyp::donated::{self, Donated};
use io_pgtable::Pa;
use spin::mutex::TicketMutex;

pub use hyp::donated::MAX_RAM_RANGES;

/// Buddy orders: blocks up to 2^31 bytes.
const ORDERS: usize = 32;
/// Size of a page in bytes, in the allocator's type.
const PAGE_SIZE: usize = 4096;

static POOL: TicketMutex<Pool> =
    TicketMutex::new(Pool { heap: Heap::empty(), free_pages: 0, pages: 0, total: 0, donated: Donated::new() });

struct Pool {
    heap: Heap<ORDERS>,
    /// Address of the first free single page, which holds the address of the next; 0 ends the list.
    free_pages: u64,
    /// Number of pages on the list.
    pages: u64,
    /// Number of bytes added at boot.
    total: u64,
    donated: Donated,
}

/// Usage of the pool, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Total bytes.
    pub total: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that the host donated, free or not.
    pub donated: u64,
}

/// Adds `[start, end)` to the pool.
///
/// # Safety
/// The range is page aligned, mapped for EL2, and not used.
pub unsafe fn add(start: u64, end: u64) {
    let mut pool = POOL.lock();
    // SAFETY: (1) the caller transfers ownership of the range; (2) it is ordinary memory that EL2 maps.
    unsafe { pool.heap.add_to_heap(start as usize, end as usize) };
    pool.total = pool.total.saturating_add(end.saturating_sub(start));
}

/// Prepares for donations of pages of RAM `[first, first + count)` (page numbers), with their bitmaps at `bitmaps`.
///
/// # Safety
/// `bitmaps` is initialized memory of [`bitmap_bytes`]`(count)` bytes, aligned to 8, that has no other use.
pub unsafe fn add_donation_bitmaps(first: u64, count: u64, bitmaps: Pa) {
    // SAFETY: (1) by the caller's contract.
    let words = unsafe { core::slice::from_raw_parts_mut(bitmaps.0 as *mut u64, donated::bitmap_words(count)) };
    POOL.lock().donated.add_range(first..first.saturating_add(count), words);
}

/// Bytes of the bitmaps for donations of `pages` pages.
pub fn bitmap_bytes(pages: u64) -> u64 {
    (donated::bitmap_words(pages) as u64).saturating_mul(8)
}

/// Allocates a zeroed block of `size` bytes (a power of two), aligned to its size and at least to a page; `None` if
/// there is none.
pub fn alloc(size: usize) -> Option<Pa> {
    let size = size.max(PAGE_SIZE);
    let block = take(size);
    let block = block?;
    // SAFETY: (1) the block is not shared after its allocation; (2) it is at least `size` bytes long,
    // mapped, and page aligned.
    unsafe { core::ptr::write_bytes(block as *mut u8, 0, size) };
    Some(Pa(block))
}

fn take(size: usize) -> Option<u64> {
    let layout = Layout::from_size_align(size, size).ok()?;
    let mut pool = POOL.lock();
    if size == PAGE_SIZE && pool.free_pages != 0 {
        let page = pool.free_pages;
        // SAFETY: (1) a page on the list is free, and its first word is the link that `free` stored.
        pool.free_pages = unsafe { (page as *const u64).read() };
        pool.pages = pool.pages.saturating_sub(1);
        return Some(page);
    }
    if let Ok(block) = pool.heap.alloc(layout) {
        return Some(block.addr().get() as u64);
    }
    if size == PAGE_SIZE { pool.donated.alloc().map(|page| page.saturating_mul(PAGE)) } else { None }
}

/// Frees a block of [`alloc`].
///
/// # Safety
/// `block` came from [`alloc`] with this `size`, and neither a CPU nor a device uses it any more.
pub unsafe fn free(block: Pa, size: usize) {
    let size = size.max(PAGE_SIZE);
    let mut pool = POOL.lock();
    if size == PAGE_SIZE {
        if !pool.donated.free(block.0 / PAGE) {
            // SAFETY: (1) the caller does not use the page any more, and it never was the host's, so its first word
            // may become a link.
            unsafe { (block.0 as *mut u64).write(pool.free_pages) };
            pool.free_pages = block.0;
            pool.pages = pool.pages.saturating_add(1);
        }
    } else if let (Ok(layout), Some(pointer)) = (Layout::from_size_align(size, size), NonNull::new(block.0 as *mut u8))
    {
        // SAFETY: (1) the block was allocated with this layout.
        unsafe { pool.heap.dealloc(pointer, layout) };
    }
}

/// Adds `count` donated pages from page number `first`.
///
/// # Safety
/// The pages are mapped for EL2, no CPU or device of the host can access them, and no cache contains a line that the
/// host wrote.
pub unsafe fn donate(first: u64, count: u64) {
    let mut pool = POOL.lock();
    for page in first..first.saturating_add(count) {
        pool.donated.insert(page);
    }
}

/// Removes `count` donated pages from page number `first` from the pool. If one of them is in use, removes none and
/// returns `false`.
pub fn remove_donated(first: u64, count: u64) -> bool {
    POOL.lock().donated.remove(first..first.saturating_add(count))
}

/// Current usage of the pool.
pub fn level() -> Level {
    let pool = POOL.lock();
    let in_use = pool.heap.stats_alloc_actual() as u64;
    let (donated, free) = pool.donated.level();
    let donated = donated.saturating_mul(PAGE);
    let unused = pool.total.saturating_sub(in_use).saturating_add(pool.pages.saturating_mul(PAGE));
    Level { total: pool.total.saturating_add(donated), free: unused.saturating_add(free.saturating_mul(PAGE)), donated }
}
