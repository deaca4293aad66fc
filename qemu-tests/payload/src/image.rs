//! Where the payload's own image is.
#![allow(unsafe_code)]

use core::ops::Range;

use crate::num::u64_of;

// Symbols of the entry code and of the linker script, of which only the addresses are used.
unsafe extern "C" {
    static _head: u8;
    static _end: u8;
}

/// Address range of the image, stacks and statics included.
pub fn range() -> Range<u64> {
    u64_of((&raw const _head).addr())..u64_of((&raw const _end).addr())
}
