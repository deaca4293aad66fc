//! Address range of the payload's own image.
#![allow(unsafe_code)]

use core::ops::Range;

use crate::num::u64_of;

// Symbols of the entry code and of the linker script, only their addresses are used.
unsafe extern "C" {
    static _head: u8;
    static _end: u8;
}

/// Address range of the image, with stacks and statics.
pub fn range() -> Range<u64> {
    u64_of((&raw const _head).addr())..u64_of((&raw const _end).addr())
}
