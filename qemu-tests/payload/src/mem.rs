//! Memory of the payload: a bump allocator in the largest unused RAM range.
//!
//! Memory is never freed: a test is one boot.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::image;
use crate::machine::Machine;
use crate::mmio;
use crate::num::align_up;

/// The translation granule and the unit of ownership, in bytes.
pub const PAGE: u64 = 4096;
/// Block of a level-2 descriptor, in bytes.
pub const BLOCK: u64 = 2 << 20;

static NEXT: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// Selects the largest free range of `machine`'s RAM.
pub fn init(machine: &Machine) {
    let image = image::range();
    let mut best = (0, 0);
    for range in machine.ram() {
        // If the image is in this range: the parts below and above it.
        for (start, end) in [
            (range.start, if range.contains(&image.start) { image.start } else { range.end }),
            (if range.contains(&image.start) { image.end } else { range.end }, range.end),
        ] {
            let start = align_up(start, BLOCK);
            if end > start && end - start > best.1 - best.0 {
                best = (start, end);
            }
        }
    }
    assert!(best.1 > best.0, "no free memory");
    NEXT.store(best.0, Ordering::SeqCst);
    END.store(best.1, Ordering::SeqCst);
}

/// `bytes` of zeroed memory, aligned to `align` (a power of two, at least a page).
pub fn alloc(bytes: u64, align: u64) -> u64 {
    let base = alloc_dirty(bytes, align);
    mmio::fill(base, align_up(bytes, PAGE), 0);
    base
}

/// As [`alloc`], with arbitrary content.
pub fn alloc_dirty(bytes: u64, align: u64) -> u64 {
    let mut result = 0;
    let taken = NEXT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| {
        let base = align_up(next, align.max(PAGE));
        result = base;
        base.checked_add(align_up(bytes, PAGE)).filter(|end| *end <= END.load(Ordering::SeqCst))
    });
    assert!(taken.is_ok(), "payload is out of memory: {bytes:#x} bytes requested");
    result
}

/// One zeroed page.
pub fn page() -> u64 {
    alloc(PAGE, PAGE)
}

/// Number of free bytes.
pub fn left() -> u64 {
    END.load(Ordering::SeqCst) - NEXT.load(Ordering::SeqCst)
}
