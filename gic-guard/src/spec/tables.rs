//! Tables in memory whose format the architecture defines, and constants of LPIs.

use super::{Field64, bits64};

/// The first LPI [G 2.2].
pub const FIRST_LPI: u32 = 8192;
/// Bytes of an entry of a level-1 table [G 5.2].
pub const L1_ENTRY: u32 = 8;

/// An entry of a level-1 table [G 5.2].
pub mod l1 {
    use super::{Field64, bits64};
    /// Address of the level-2 table, not shifted; it is aligned to the page size.
    pub const ADDRESS: Field64 = bits64(51, 12);
    /// Valid.
    pub const VALID: Field64 = bits64(63, 63);
}

/// A byte of the LPI configuration table [G 5.1].
pub mod lpi {
    use super::{Field64, bits64};
    /// The LPI is enabled.
    pub const ENABLE: Field64 = bits64(0, 0);
    /// Reserved, 1.
    pub const RES1: Field64 = bits64(1, 1);
    /// Priority, bits \[7:2\]; the lower bits are zero.
    pub const PRIORITY: Field64 = bits64(7, 2);
}
