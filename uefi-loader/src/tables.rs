//! Converts stage-1 descriptors of EL2 without VHE for EL1: EL2 has a single XN bit and no EL0. Without VHE, EL2
//! ignores the bits below, so changing them has no effect at EL2 (DDI 0487 issue L.a, D8.3.1).

/// Valid.
const VALID: u64 = 1;
/// A table, or a page at the last level.
const TABLE: u64 = 1 << 1;
/// AP\[1\]: at EL1 it gives EL0 access, and memory that EL0 can write is not executable at EL1.
const AP_EL0: u64 = 1 << 6;
/// PXN.
const PXN: u64 = 1 << 53;
/// XN at EL2, UXN at EL1.
const XN: u64 = 1 << 54;
/// PXNTable.
const PXN_TABLE: u64 = 1 << 59;
/// XNTable at EL2, UXNTable at EL1.
const XN_TABLE: u64 = 1 << 60;
/// APTable\[0\]: no EL0 access through this table.
const AP_TABLE_EL0: u64 = 1 << 61;
/// The address in a table descriptor, 4 KiB granule, 48 bits.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// The last level.
const LAST: u8 = 3;

/// The kind of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is mapped.
    Invalid,
    /// A table of the next level, at this address.
    Table(u64),
    /// A block or a page.
    Leaf,
}

/// The kind of `descriptor` at `level`, and the descriptor that gives EL1 the access that `descriptor` gives EL2.
#[must_use]
pub const fn at_el1(descriptor: u64, level: u8) -> (Kind, u64) {
    if descriptor & VALID == 0 {
        return (Kind::Invalid, descriptor);
    }
    if descriptor & TABLE != 0 && level < LAST {
        let same = if descriptor & XN_TABLE != 0 { PXN_TABLE } else { 0 };
        return (Kind::Table(descriptor & ADDRESS), descriptor & !(PXN_TABLE | AP_TABLE_EL0) | same);
    }
    let same = if descriptor & XN != 0 { PXN } else { 0 };
    (Kind::Leaf, descriptor & !(PXN | AP_EL0) | same)
}

/// The level at which a walk of `t0sz` starts, with 4 KiB granules.
#[must_use]
pub const fn start_level(t0sz: u64) -> u8 {
    match t0sz {
        0..=24 => 0,
        25..=33 => 1,
        34..=42 => 2,
        _ => LAST,
    }
}

/// Number of descriptors of the first table of a walk with `t0sz`.
#[must_use]
pub fn start_entries(t0sz: u64) -> usize {
    let bits = match start_level(t0sz) {
        0 => 25_u64.saturating_sub(t0sz),
        1 => 34_u64.saturating_sub(t0sz),
        2 => 43_u64.saturating_sub(t0sz),
        _ => 52_u64.saturating_sub(t0sz),
    };
    1_usize.checked_shl(u32::try_from(bits).unwrap_or(0)).unwrap_or(0).min(512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_executable_at_el2_is_not_executable_at_el1() {
        let block = 0x4000_0000 | 0x711;
        assert_eq!(at_el1(block, 1), (Kind::Leaf, block));
        assert_eq!(at_el1(block | XN, 2), (Kind::Leaf, block | XN | PXN));
        assert_eq!(at_el1(block | 0b10 | XN, 3), (Kind::Leaf, block | 0b10 | XN | PXN));
        let table = 0x4500_3000 | 0b11;
        assert_eq!(at_el1(table, 0), (Kind::Table(0x4500_3000), table));
        assert_eq!(at_el1(table | XN_TABLE, 2), (Kind::Table(0x4500_3000), table | XN_TABLE | PXN_TABLE));
    }

    /// AP[1] is RES1 at EL2: firmware may set it.
    #[test]
    fn el0_gets_no_access_and_code_stays_executable() {
        assert_eq!(at_el1(0x4000_0741, 2).1, 0x4000_0701);
    }

    #[test]
    fn an_invalid_descriptor_is_unchanged() {
        assert_eq!(at_el1(XN | AP_EL0, 3), (Kind::Invalid, XN | AP_EL0));
    }

    #[test]
    fn t0sz_determines_the_size_of_the_first_table() {
        assert_eq!((start_level(16), start_entries(16)), (0, 512));
        assert_eq!((start_level(20), start_entries(20)), (0, 32));
        assert_eq!((start_level(25), start_entries(25)), (1, 512));
        assert_eq!((start_level(24), start_entries(24)), (0, 2));
    }
}
