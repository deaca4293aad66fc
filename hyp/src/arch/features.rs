//! What the CPU has: ID register fields, read once where they gate a control register.
//!
//! A register whose feature is absent is UNDEFINED, so every optional control asks here first.

use core::arch::asm;

macro_rules! id {
    ($(#[doc = $doc:literal] $name:ident = $reg:literal [$shift:literal];)*) => {$(
        #[doc = $doc]
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: (1) ID registers are readable at EL2 on every implementation and reads have no side effect;
            // unallocated ones read as zero.
            unsafe { asm!(concat!("mrs {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
            (value >> $shift) & 0xf
        }
    )*};
}

id! {
    /// `ID_AA64PFR0_EL1.GIC`: system register interface of the GIC.
    gic = "id_aa64pfr0_el1"[24];
    /// `ID_AA64PFR0_EL1.SVE`.
    sve = "id_aa64pfr0_el1"[32];
    /// `ID_AA64PFR0_EL1.AMU`.
    amu = "id_aa64pfr0_el1"[44];
    /// `ID_AA64PFR0_EL1.MPAM`.
    mpam = "id_aa64pfr0_el1"[40];
    /// `ID_AA64PFR0_EL1.CSV2`.
    csv2 = "id_aa64pfr0_el1"[56];
    /// `ID_AA64PFR1_EL1.MTE`.
    mte = "s3_0_c0_c4_1"[8];
    /// `ID_AA64PFR1_EL1.SME`.
    sme = "s3_0_c0_c4_1"[24];
    /// `ID_AA64MMFR0_EL1.PARange`.
    pa_range = "id_aa64mmfr0_el1"[0];
    /// `ID_AA64MMFR0_EL1.FGT`.
    fgt = "id_aa64mmfr0_el1"[56];
    /// `ID_AA64MMFR1_EL1.HCX`.
    hcx = "s3_0_c0_c7_1"[40];
    /// `ID_AA64MMFR3_EL1.TCRX`.
    tcrx = "s3_0_c0_c7_3"[0];
    /// `ID_AA64MMFR3_EL1.SCTLRX`.
    sctlrx = "s3_0_c0_c7_3"[4];
    /// `ID_AA64MMFR3_EL1.S1PIE`.
    s1pie = "s3_0_c0_c7_3"[8];
    /// `ID_AA64MMFR3_EL1.S1POE`.
    s1poe = "s3_0_c0_c7_3"[16];
    /// `ID_AA64ISAR2_EL1.MOPS`.
    mops = "s3_0_c0_c6_2"[16];
    /// `ID_AA64DFR0_EL1.PMUVer`.
    pmu = "id_aa64dfr0_el1"[8];
    /// `ID_AA64DFR0_EL1.PMSVer`: Statistical Profiling.
    spe = "id_aa64dfr0_el1"[32];
    /// `ID_AA64DFR0_EL1.TraceFilt`.
    trace_filter = "id_aa64dfr0_el1"[40];
    /// `ID_AA64DFR0_EL1.TraceBuffer`.
    trace_buffer = "id_aa64dfr0_el1"[44];
    /// `ID_AA64SMFR0_EL1.FA64`, one bit wide, with the three below it.
    sme_fa64 = "s3_0_c0_c4_5"[60];
    /// `ID_AA64SMFR0_EL1.SMEver`.
    sme_version = "s3_0_c0_c4_5"[56];
}

/// Physical address bits of this CPU, capped at 48.
pub fn pa_bits() -> u32 {
    match pa_range() {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}
