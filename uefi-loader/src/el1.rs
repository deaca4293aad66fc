//! Converts values of EL2's control registers to the format of EL1's. Fields: Arm ARM, DDI 0487 issue L.a, D24.2.

use core::fmt;

/// `HCR_EL2.E2H`: the EL2&0 regime, whose registers have the format of EL1's.
pub const HCR_E2H: u64 = 1 << 34;

/// `SCTLR_EL1`'s RES1 bits as in Armv8.0.
const SCTLR_RES1: u64 = 0x30d0_0800;
/// Fields with the same position and meaning in both registers: M, A, C, SA, EnDB, I, WXN, EE, EnDA, EnIB, EnIA, BT.
const SCTLR_COMMON: u64 =
    1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 13 | 1 << 19 | 1 << 25 | 1 << 27 | 1 << 30 | 1 << 31 | 1 << 36;

/// Fields of TCR: lowest bit in TCR_EL2, number of bits, lowest bit in TCR_EL1.
const TCR_FIELDS: [(u32, u32, u32); 9] = [
    (0, 6, 0),   // T0SZ
    (8, 2, 8),   // IRGN0
    (10, 2, 10), // ORGN0
    (12, 2, 12), // SH0
    (14, 2, 14), // TG0
    (16, 3, 32), // PS to IPS
    (20, 1, 37), // TBI to TBI0
    (21, 1, 39), // HA
    (22, 1, 40), // HD
];
/// `TCR_EL2`'s RES1 bits.
const TCR_EL2_RES1: u64 = 1 << 31 | 1 << 23;
/// `TCR_EL1.EPD1`: no walks through TTBR1_EL1. TG1 is 4 KiB; it has no effect then.
const TCR_UPPER_OFF: u64 = 1 << 23 | 0b10 << 30;

/// An unknown field in a register of the firmware; the loader cannot convert it to EL1's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The register.
    pub register: &'static str,
    /// Its value.
    pub value: u64,
    /// The unknown bits.
    pub bits: u64,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { register, value, bits } = self;
        write!(
            f,
            "{register} is {value:#x}: bits {bits:#x} are unknown; report this with the firmware's name and version"
        )
    }
}

/// `SCTLR_EL1` for a firmware with this `SCTLR_EL2`.
#[must_use]
pub const fn sctlr(sctlr_el2: u64) -> u64 {
    SCTLR_RES1 | sctlr_el2 & SCTLR_COMMON
}

/// `TCR_EL1` for a firmware with these registers.
///
/// # Errors
/// [`Unknown`] for an unknown field.
pub fn tcr(hcr_el2: u64, tcr_el2: u64) -> Result<u64, Unknown> {
    if hcr_el2 & HCR_E2H != 0 {
        return Ok(tcr_el2);
    }
    let mut left = tcr_el2 & !TCR_EL2_RES1;
    let mut el1 = TCR_UPPER_OFF;
    for (from, bits, to) in TCR_FIELDS {
        let mask = 1_u64.unbounded_shl(bits).wrapping_sub(1);
        el1 |= (left.unbounded_shr(from) & mask).unbounded_shl(to);
        left &= !mask.unbounded_shl(from);
    }
    if left == 0 { Ok(el1) } else { Err(Unknown { register: "TCR_EL2", value: tcr_el2, bits: left }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of EDK2 on a Cortex-A72 under QEMU.
    #[test]
    fn a_tcr_without_vhe_is_moved_field_by_field() {
        // T0SZ = 20, write-back, inner shareable, 4 KiB granule, PS = 4 (44 bits).
        let el1 = tcr(0x800_0038, 0x8084_3514).unwrap();
        assert_eq!(el1, 0x14 | 0x35 << 8 | 4 << 32 | 1 << 23 | 1 << 31);
    }

    #[test]
    fn a_tcr_with_vhe_is_unchanged() {
        assert_eq!(tcr(HCR_E2H | 1 << 27, 0x5_8080_3510), Ok(0x5_8080_3510));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        // TBID.
        let unknown = tcr(0, 0x8084_3514 | 1 << 29).unwrap_err();
        assert_eq!(unknown.bits, 1 << 29);
        // DS: 52-bit addresses, which use another descriptor format.
        assert!(tcr(0, 0x8084_3514 | 1 << 32).is_err());
    }

    #[test]
    fn sctlr_keeps_mmu_caches_and_pointer_authentication() {
        assert_eq!(sctlr(0x30c5_183d), 0x30d0_0800 | 0x100d);
        assert_eq!(sctlr(1 << 31) & 1 << 31, 1 << 31);
        // Fields for EL0 are not copied.
        assert_eq!(sctlr(1 << 26 | 1 << 15), SCTLR_RES1);
    }
}
