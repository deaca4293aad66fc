//! Memory and device accesses, one plain load or store each.
//!
//! The compiler may fold a volatile access into a pre- or post-indexed one, which has no valid syndrome and cannot be
//! emulated by a hypervisor. So each access is written in assembly. Addresses inside the payload's image are rejected,
//! so no Rust object is accessed and these functions can be safe. An access that aborts under `vectors::catch` reads
//! as 0.
#![allow(unsafe_code)]

use core::arch::asm;

use crate::image;

#[track_caller]
fn outside_image(addr: u64, size: u64) {
    let image = image::range();
    assert!(
        addr.saturating_add(size) <= image.start || addr >= image.end,
        "access to {addr:#x} in the payload's own image"
    );
}

macro_rules! accessors {
    ($(#[$doc:meta] $read:ident $write:ident $ty:ty, $size:literal, $load:literal, $store:literal;)*) => {$(
        #[$doc]
        #[track_caller]
        pub fn $read(addr: u64) -> $ty {
            outside_image(addr, $size);
            let value: u64;
            // SAFETY: (1) the address is outside the image, so no Rust object is read; (2) an abort is skipped or ends the test.
            unsafe { asm!($load, v = inout(reg) 0_u64 => value, a = in(reg) addr, options(nostack, preserves_flags)) };
            value as $ty
        }
        #[$doc]
        #[track_caller]
        pub fn $write(addr: u64, value: $ty) {
            outside_image(addr, $size);
            // SAFETY: (1) the address is outside the image, so no Rust object changes; (2) an abort is skipped or ends the test.
            unsafe { asm!($store, v = in(reg) u64::from(value), a = in(reg) addr, options(nostack, preserves_flags)) };
        }
    )*};
}

accessors! {
    /// One byte.
    read8 write8 u8, 1, "ldrb {v:w}, [{a}]", "strb {v:w}, [{a}]";
    /// Two bytes.
    read16 write16 u16, 2, "ldrh {v:w}, [{a}]", "strh {v:w}, [{a}]";
    /// Four bytes.
    read32 write32 u32, 4, "ldr {v:w}, [{a}]", "str {v:w}, [{a}]";
    /// Eight bytes.
    read64 write64 u64, 8, "ldr {v}, [{a}]", "str {v}, [{a}]";
}

/// Fills `bytes` (a multiple of 8) from `addr` with `word`.
pub fn fill(addr: u64, bytes: u64, word: u64) {
    for offset in (0..bytes).step_by(8) {
        write64(addr + offset, word);
    }
}

/// Offset of the first word of the `bytes` bytes from `addr` that is not `word`; `None` if all are.
pub fn find_other(addr: u64, bytes: u64, word: u64) -> Option<u64> {
    (0..bytes).step_by(8).find(|offset| read64(addr + offset) != word)
}
