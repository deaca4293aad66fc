//! Bit fields: a word is built from zero with named fields, never by masking a copy.

use tock_registers::fields::Field;

/// A field of a 32-bit register.
pub type Field32 = Field<u32, ()>;
/// A field of a 64-bit word of a register or an in-memory structure.
pub type Field64 = Field<u64, ()>;

/// Bits `[hi:lo]` of a 32-bit word. Every call is in a constant: a wrong pair does not compile.
#[allow(clippy::arithmetic_side_effects)]
pub const fn bits32(hi: usize, lo: usize) -> Field32 {
    assert!(hi >= lo && hi < 32);
    Field::new(u32::MAX >> (31 - (hi - lo)), lo)
}

/// Bits `[hi:lo]` of a 64-bit word. Every call is in a constant: a wrong pair does not compile.
#[allow(clippy::arithmetic_side_effects)]
pub const fn bits64(hi: usize, lo: usize) -> Field64 {
    assert!(hi >= lo && hi < 64);
    Field::new(u64::MAX >> (63 - (hi - lo)), lo)
}

/// The mask of the field in the word.
pub const fn mask64(field: Field64) -> u64 {
    field.mask << field.shift
}

/// The mask of the field in the register.
pub const fn mask32(field: Field32) -> u32 {
    field.mask << field.shift
}

/// `value` at the field's position, cut to the field's width.
pub const fn put64(field: Field64, value: u64) -> u64 {
    (value & field.mask) << field.shift
}

/// `value` at the field's position, cut to the field's width.
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

/// The OR of `parts`, which are fields at their positions, or masks.
#[inline]
pub const fn union64<const N: usize>(parts: [u64; N]) -> u64 {
    let mut word = 0;
    let mut rest: &[u64] = &parts;
    while let [part, more @ ..] = rest {
        word |= *part;
        rest = more;
    }
    word
}

/// The OR of `parts`, which are fields at their positions, or masks.
#[inline]
pub const fn union32<const N: usize>(parts: [u32; N]) -> u32 {
    let mut word = 0;
    let mut rest: &[u32] = &parts;
    while let [part, more @ ..] = rest {
        word |= *part;
        rest = more;
    }
    word
}

/// `old`, with the bits of `mask` taken from `new`.
#[inline]
pub const fn replace32(old: u32, mask: u32, new: u32) -> u32 {
    union32([old & !mask, new & mask])
}

/// The low half of a 64-bit word.
pub const fn low32(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The high half of a 64-bit word.
pub const fn high32(word: u64) -> u32 {
    let [.., a, b, c, d] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A 64-bit word from its halves.
pub const fn join(high: u32, low: u32) -> u64 {
    let [a, b, c, d] = low.to_le_bytes();
    let [e, f, g, h] = high.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_has_the_bits_of_every_part_even_where_they_overlap() {
        assert_eq!((union64([]), union32([])), (0, 0));
        assert_eq!((union64([6]), union32([6])), (6, 6));
        assert_eq!(
            (union64([1 << 63, 0b0110, 0b0011]), union32([1 << 31, 0b0110, 0b0011])),
            (1 << 63 | 7, 1 << 31 | 7)
        );
    }

    #[test]
    fn only_the_bits_of_the_mask_are_replaced() {
        assert_eq!(replace32(0b1010, 0b0110, 0b0101), 0b1100);
        assert_eq!(replace32(u32::MAX, 0xf0, 0), !0xf0);
    }
}
