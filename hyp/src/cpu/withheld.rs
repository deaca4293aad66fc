//! Registers of EL2 that EL3 may trap: the error message for each.
//!
//! Firmware that traps such an access sends EL2 an Undefined Instruction exception whose syndrome has no register, so
//! the instruction itself is decoded. Encodings: DDI 0487 issue L.a, C5.6.130 `MRS` and C5.6.135 `MSR (register)`;
//! the trap is in the description of each register.

use core::fmt;

/// A register that EL2 accesses, and the control of EL3 that must allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The register.
    pub register: &'static str,
    /// op0, op1, CRn, CRm and op2 of its encoding.
    pub encoding: [u32; 5],
    /// Required EL3 setting.
    pub el3_setting: &'static str,
}

const fn row(register: &'static str, encoding: [u32; 5], el3_setting: &'static str) -> Withheld {
    Withheld { register, encoding, el3_setting }
}

const HXEN: &str = "set SCR_EL3.HXEn";
const FGTEN: &str = "set SCR_EL3.FGTEn";
const FGTEN2: &str = "set SCR_EL3.FGTEn2";
const GCSEN: &str = "set SCR_EL3.GCSEn";
const TCR2EN: &str = "set SCR_EL3.TCR2En";
const SCTLR2EN: &str = "set SCR_EL3.SCTLR2En";
const SRMASKEN: &str = "set SCR_EL3.SRMASKEn";
const TRAPLOWER: &str = "clear MPAM3_EL3.TRAPLOWER";
const TDA: &str = "clear MDCR_EL3.TDA";
const TCPAC: &str = "clear CPTR_EL3.TCPAC";
const ICC_SRE: &str = "set ICC_SRE_EL3.SRE and ICC_SRE_EL3.Enable";
const NSPB: &str = "set MDCR_EL3.NSPB to 0b11";

/// Every register that EL2 accesses and EL3 can trap.
pub const TABLE: &[Withheld] = &[
    row("HCRX_EL2", [3, 4, 1, 2, 2], HXEN),
    row("HFGRTR_EL2", [3, 4, 1, 1, 4], FGTEN),
    row("HFGWTR_EL2", [3, 4, 1, 1, 5], FGTEN),
    row("HFGITR_EL2", [3, 4, 1, 1, 6], FGTEN),
    row("HDFGRTR_EL2", [3, 4, 3, 1, 4], FGTEN),
    row("HDFGWTR_EL2", [3, 4, 3, 1, 5], FGTEN),
    row("HAFGRTR_EL2", [3, 4, 3, 1, 6], FGTEN),
    row("HDFGRTR2_EL2", [3, 4, 3, 1, 0], FGTEN2),
    row("HDFGWTR2_EL2", [3, 4, 3, 1, 1], FGTEN2),
    row("HFGRTR2_EL2", [3, 4, 3, 1, 2], FGTEN2),
    row("HFGWTR2_EL2", [3, 4, 3, 1, 3], FGTEN2),
    row("HFGITR2_EL2", [3, 4, 3, 1, 7], FGTEN2),
    row("TCR2_EL2", [3, 4, 2, 0, 3], TCR2EN),
    row("TCR2_EL1", [3, 0, 2, 0, 3], TCR2EN),
    row("SCTLR2_EL2", [3, 4, 1, 0, 3], SCTLR2EN),
    row("SCTLR2_EL1", [3, 0, 1, 0, 3], SCTLR2EN),
    row("SCTLRMASK_EL2", [3, 4, 1, 4, 0], SRMASKEN),
    row("ACTLRMASK_EL2", [3, 4, 1, 4, 1], SRMASKEN),
    row("CPTRMASK_EL2", [3, 4, 1, 4, 2], SRMASKEN),
    row("SCTLR2MASK_EL2", [3, 4, 1, 4, 3], SRMASKEN),
    row("TCRMASK_EL2", [3, 4, 2, 7, 2], SRMASKEN),
    row("TCR2MASK_EL2", [3, 4, 2, 7, 3], SRMASKEN),
    row("HACDBSBR_EL2", [3, 4, 2, 3, 4], "set SCR_EL3.HACDBSEn"),
    row("GCSCR_EL2", [3, 4, 2, 5, 0], GCSEN),
    row("GCSCR_EL1", [3, 0, 2, 5, 0], GCSEN),
    row("GCSCRE0_EL1", [3, 0, 2, 5, 2], GCSEN),
    row("ZCR_EL2", [3, 4, 1, 2, 0], "set CPTR_EL3.EZ"),
    row("SMCR_EL2", [3, 4, 1, 2, 6], "set CPTR_EL3.ESM"),
    row("MPAM2_EL2", [3, 4, 10, 5, 0], TRAPLOWER),
    row("MPAMHCR_EL2", [3, 4, 10, 4, 0], TRAPLOWER),
    row("MPAMIDR_EL1", [3, 0, 10, 4, 4], TRAPLOWER),
    row("MPAM1_EL1", [3, 0, 10, 5, 0], TRAPLOWER),
    row("MPAM0_EL1", [3, 0, 10, 5, 1], TRAPLOWER),
    row("MPAMBW2_EL2", [3, 4, 10, 5, 4], "set MPAMBW3_EL3.nTRAPLOWER"),
    row("MDCR_EL2", [3, 4, 1, 1, 1], TDA),
    row("MDSCR_EL1", [2, 0, 0, 2, 2], TDA),
    row("PMCR_EL0", [3, 3, 9, 12, 0], "clear MDCR_EL3.TPM"),
    row("PMSCR_EL2", [3, 4, 9, 9, 0], NSPB),
    row("PMSIDR_EL1", [3, 0, 9, 9, 7], NSPB),
    row("TRFCR_EL2", [3, 4, 1, 2, 1], "clear MDCR_EL3.TTRF"),
    row("CPTR_EL2", [3, 4, 1, 1, 2], TCPAC),
    row("CPACR_EL1", [3, 0, 1, 0, 2], TCPAC),
    row("ICC_SRE_EL2", [3, 4, 12, 9, 5], ICC_SRE),
    row("ICH_HCR_EL2", [3, 4, 12, 11, 0], ICC_SRE),
];

impl Withheld {
    /// The row of the system register that `instruction` (`MRS` or `MSR` of a register) accesses.
    #[must_use]
    pub fn of(instruction: u32) -> Option<&'static Self> {
        // Bits [31:20] are fixed except for the direction (bit 21); op0 is 2 or 3.
        if instruction & 0xffd0_0000 != 0xd510_0000 {
            return None;
        }
        let field = |lsb: u32, mask: u32| (instruction >> lsb) & mask;
        let encoding = [2 | field(19, 1), field(16, 7), field(12, 15), field(8, 15), field(5, 7)];
        TABLE.iter().find(|row| row.encoding == encoding)
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not accessible: EL3 must {}", self.register, self.el3_setting)
    }
}
