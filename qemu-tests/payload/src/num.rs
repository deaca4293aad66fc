//! Conversions between integer widths. The payload runs only on 64-bit CPUs, so addresses and sizes can be converted.

use static_assertions::const_assert_eq;

const_assert_eq!(size_of::<usize>(), size_of::<u64>());

/// A size or index as an address-sized integer; lossless, by the assertion above.
pub const fn u64_of(value: usize) -> u64 {
    value as u64
}

/// An address-sized integer as a size or index; lossless, by the assertion above.
pub const fn usize_of(value: u64) -> usize {
    value as usize
}

/// Bits 31:0 of `value`.
pub const fn low32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// Bits 63:32 of `value`.
pub const fn high32(value: u64) -> u32 {
    (value >> 32) as u32
}

/// `value` rounded up to a multiple of `align` (a power of two).
pub const fn align_up(value: u64, align: u64) -> u64 {
    (value + align - 1) & !(align - 1)
}

/// `value` rounded down to a multiple of `align` (a power of two).
pub const fn align_down(value: u64, align: u64) -> u64 {
    value & !(align - 1)
}
