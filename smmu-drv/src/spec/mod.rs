//! Layouts of the SMMUv3 architecture and nothing else: offsets, fields, encodings.
//!
//! Section numbers are those of Arm IHI 0070 issue G ("[S x.y]"). Every position here was read in that document and
//! checked against a second, independent source: Linux's `arm-smmu-v3.h` or QEMU's `smmuv3-internal.h`. Policy lives elsewhere;
//! no other module of the crate shifts or masks a hardware word.

pub mod cd;
pub mod commands;
pub mod events;
pub mod registers;
pub mod ste;

use tock_registers::fields::Field;

/// A field of a 32-bit register.
pub type Field32 = Field<u32, ()>;
/// A field of a 64-bit word of a register or an in-memory structure.
pub type Field64 = Field<u64, ()>;

/// Bits `[hi:lo]` of a 32-bit word. Every call is in a constant: a wrong pair does not compile.
#[allow(clippy::arithmetic_side_effects)]
pub(crate) const fn bits32(hi: usize, lo: usize) -> Field32 {
    assert!(hi >= lo && hi < 32);
    Field::new(u32::MAX >> (31 - (hi - lo)), lo)
}

/// Bits `[hi:lo]` of a 64-bit word. Every call is in a constant: a wrong pair does not compile.
#[allow(clippy::arithmetic_side_effects)]
pub(crate) const fn bits64(hi: usize, lo: usize) -> Field64 {
    assert!(hi >= lo && hi < 64);
    Field::new(u64::MAX >> (63 - (hi - lo)), lo)
}

/// The field's bits in place: what a mask of the word looks like.
pub const fn mask64(field: Field64) -> u64 {
    field.mask << field.shift
}

/// The field's bits in place: what a mask of the register looks like.
pub const fn mask32(field: Field32) -> u32 {
    field.mask << field.shift
}

/// `value` in the field's place, cut to the field's width.
pub const fn put64(field: Field64, value: u64) -> u64 {
    (value & field.mask) << field.shift
}

/// `value` in the field's place, cut to the field's width.
pub const fn put32(field: Field32, value: u32) -> u32 {
    (value & field.mask) << field.shift
}

/// The field's value.
pub const fn get64(field: Field64, word: u64) -> u64 {
    (word >> field.shift) & field.mask
}

/// The field's value.
pub const fn get32(field: Field32, word: u32) -> u32 {
    (word >> field.shift) & field.mask
}

/// The low half of a 64-bit word.
pub(crate) const fn low32(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The high half of a 64-bit word.
pub(crate) const fn high32(word: u64) -> u32 {
    let [.., a, b, c, d] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A 64-bit word from its halves.
pub(crate) const fn join(high: u32, low: u32) -> u64 {
    let [a, b, c, d] = low.to_le_bytes();
    let [e, f, g, h] = high.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
