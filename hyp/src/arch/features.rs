//! CPU features: the ID registers as read at EL2, and the fields that show whether EL2 registers exist.
//!
//! A register whose feature is absent is UNDEFINED, so its feature must be checked before each access to an optional
//! register.

use core::arch::asm;
use hyp::cpu::{self, Buffer, Controls, Cpu, Id, Optional};

macro_rules! read {
    ($reg:expr) => {{
        let value: u64;
        // SAFETY: (1) the register is readable at EL2 on every CPU for which the caller has checked the feature, and
        // reads have no side effect; reserved ID registers read as zero.
        unsafe { asm!(concat!("mrs {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

macro_rules! id {
    ($(#[doc = $doc:literal] $name:ident = $reg:literal [$shift:literal];)*) => {$(
        #[doc = $doc]
        pub fn $name() -> u64 {
            (read!($reg) >> $shift) & 0xf
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
    /// `ID_AA64PFR1_EL1.SME`.
    sme = "s3_0_c0_c4_1"[24];
    /// `ID_AA64PFR1_EL1.GCS`.
    gcs = "s3_0_c0_c4_1"[44];
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
    /// `ID_AA64DFR0_EL1.PMUVer`.
    pmu = "id_aa64dfr0_el1"[8];
}

/// `PMSIDR_EL1.FDS`: filtering by data source. Read only if the host can use the buffer.
pub fn profiling_data_source() -> bool {
    read!("s3_0_c9_c9_7") & 1 << 7 != 0
}

/// Physical address bits of this CPU, at most 48.
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

/// The CPU that this code runs on.
pub struct ThisCpu;

macro_rules! by_encoding {
    ($id:expr, $($crm:literal: $($op2:literal)*;)*) => {
        match ($id.crm, $id.op2) {
            $($(($crm, $op2) => read!(concat!("s3_0_c0_c", $crm, "_", $op2)),)*)*
            _ => 0,
        }
    };
}

impl Cpu for ThisCpu {
    fn id(&self, id: Id) -> u64 {
        by_encoding!(id,
            1: 0 1 2 3 4 5 6 7;
            2: 0 1 2 3 4 5 6 7;
            3: 0 1 2 3 4 5 6 7;
            4: 0 1 2 3 4 5 6 7;
            5: 0 1 2 3 4 5 6 7;
            6: 0 1 2 3 4 5 6 7;
            7: 0 1 2 3 4 5 6 7;
        )
    }

    fn profiling(&self) -> Buffer {
        // PMBIDR_EL1.P
        withheld(read!("s3_0_c9_c10_7"))
    }

    fn tracing(&self) -> Buffer {
        // TRBIDR_EL1.P
        withheld(read!("s3_0_c9_c11_7"))
    }

    fn mpamidr(&self) -> u64 {
        read!("s3_0_c10_c4_4")
    }
}

/// PMBIDR_EL1.P or TRBIDR_EL1.P.
fn withheld(idr: u64) -> Buffer {
    if idr & 1 << 4 == 0 { Buffer::Usable } else { Buffer::Withheld }
}

/// The host's value of an ID register of this CPU.
#[cold]
pub fn shown(id: Id) -> u64 {
    cpu::shown(&ThisCpu, id)
}

/// EL2 control values on this CPU for the host's features.
pub fn controls() -> Controls {
    Controls::of(&ThisCpu)
}

/// EL2's values for the registers that this CPU may lack.
pub fn optional() -> Optional {
    Optional::of(&ThisCpu)
}
