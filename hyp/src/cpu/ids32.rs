//! The AArch32 ID registers. EL1 is AArch64 (`HCR_EL2.RW`), so they describe only EL0, and have no controls
//! except those in the rows of AArch64; `ID_AFR0_EL1` is implementation defined and not in the table.
//!
//! Fields and values: DDI 0487 issue L.a, D24.2.99 to D24.2.116 and D24.2.139 to D24.2.141.

use super::field::{number, pmu, signed, up};
use super::{Field, Id, Register};

const fn register(name: &'static str, crm: u8, op2: u8, fields: &'static [Field]) -> Register {
    Register { name, id: Id { crm, op2 }, fields }
}

/// The AArch32 ID registers.
pub const REGISTERS: &[Register] = &[
    register("ID_PFR0_EL1", 1, 0, PFR0),
    register("ID_PFR1_EL1", 1, 1, PFR1),
    register("ID_DFR0_EL1", 1, 2, DFR0),
    register("ID_MMFR0_EL1", 1, 4, MMFR0),
    register("ID_MMFR1_EL1", 1, 5, MMFR1),
    register("ID_MMFR2_EL1", 1, 6, MMFR2),
    register("ID_MMFR3_EL1", 1, 7, MMFR3),
    register("ID_ISAR0_EL1", 2, 0, ISAR0),
    register("ID_ISAR1_EL1", 2, 1, ISAR1),
    register("ID_ISAR2_EL1", 2, 2, ISAR2),
    register("ID_ISAR3_EL1", 2, 3, ISAR3),
    register("ID_ISAR4_EL1", 2, 4, ISAR4),
    register("ID_ISAR5_EL1", 2, 5, ISAR5),
    register("ID_MMFR4_EL1", 2, 6, MMFR4),
    register("ID_ISAR6_EL1", 2, 7, ISAR6),
    register("MVFR0_EL1", 3, 0, MVFR0),
    register("MVFR1_EL1", 3, 1, MVFR1),
    register("MVFR2_EL1", 3, 2, MVFR2),
    register("ID_PFR2_EL1", 3, 4, PFR2),
    register("ID_DFR1_EL1", 3, 5, DFR1),
    register("ID_MMFR5_EL1", 3, 6, MMFR5),
];

const PFR0: &[Field] = &[
    up("State0", 0, 1),
    up("State1", 4, 3),
    up("State2", 8, 2),
    up("State3", 12, 1),
    up("CSV2", 16, 2),
    up("AMU", 20, 0),
    up("DIT", 24, 1),
    up("RAS", 28, 1),
];

const PFR1: &[Field] = &[
    up("ProgMod", 0, 1),
    up("Security", 4, 2),
    up("MProgMod", 8, 2),
    up("Virtualization", 12, 0),
    up("GenTimer", 16, 2),
    up("Sec_frac", 20, 2),
    up("Virt_frac", 24, 0),
    up("GIC", 28, 3),
];

const DFR0: &[Field] = &[
    up("CopDbg", 0, 10),
    number("CopSDbg", 4),
    up("MMapDbg", 8, 5),
    up("CopTrc", 12, 1),
    up("MMapTrc", 16, 1),
    up("MProfDbg", 20, 1),
    pmu("PerfMon", 24, 8, &[]),
    up("TraceFilt", 28, 1),
];

const MMFR0: &[Field] = &[
    up("VMSA", 0, 5),
    up("PMSA", 4, 3),
    number("OuterShr", 8),
    up("ShareLvl", 12, 1),
    up("TCM", 16, 3),
    up("AuxReg", 20, 2),
    up("FCSE", 24, 1),
    number("InnerShr", 28),
];

const MMFR1: &[Field] = &[
    up("L1HvdVA", 0, 2),
    up("L1UniVA", 4, 2),
    up("L1HvdSW", 8, 3),
    up("L1UniSW", 12, 3),
    up("L1Hvd", 16, 3),
    up("L1Uni", 20, 2),
    up("L1TstCln", 24, 2),
    up("BPred", 28, 4),
];

const MMFR2: &[Field] = &[
    up("L1HvdFG", 0, 1),
    up("L1HvdBG", 4, 1),
    up("L1HvdRng", 8, 1),
    number("HvdTLB", 12),
    up("UniTLB", 16, 6),
    up("MemBarr", 20, 2),
    up("WFIStall", 24, 1),
    up("HWAccFlg", 28, 1),
];

const MMFR3: &[Field] = &[
    up("CMaintVA", 0, 1),
    up("CMaintSW", 4, 1),
    up("BPMaint", 8, 2),
    up("MaintBcst", 12, 2),
    up("PAN", 16, 2),
    up("CohWalk", 20, 1),
    up("CMemSz", 24, 2),
    number("Supersec", 28),
];

const ISAR0: &[Field] = &[
    up("Swap", 0, 1),
    up("BitCount", 4, 1),
    up("BitField", 8, 1),
    up("CmpBranch", 12, 1),
    up("Coproc", 16, 4),
    up("Debug", 20, 1),
    up("Divide", 24, 2),
];

const ISAR1: &[Field] = &[
    up("Endian", 0, 1),
    up("Except", 4, 1),
    up("Except_AR", 8, 1),
    up("Extend", 12, 2),
    up("IfThen", 16, 1),
    up("Immediate", 20, 1),
    up("Interwork", 24, 3),
    up("Jazelle", 28, 1),
];

const ISAR2: &[Field] = &[
    up("LoadStore", 0, 2),
    up("MemHint", 4, 4),
    up("MultiAccessInt", 8, 2),
    up("Mult", 12, 2),
    up("MultS", 16, 3),
    up("MultU", 20, 2),
    up("PSR_AR", 24, 1),
    up("Reversal", 28, 2),
];

const ISAR3: &[Field] = &[
    up("Saturate", 0, 1),
    up("SIMD", 4, 3),
    up("SVC", 8, 1),
    up("SynchPrim", 12, 2),
    up("TabBranch", 16, 1),
    up("T32Copy", 20, 1),
    up("TrueNOP", 24, 1),
    up("T32EE", 28, 1),
];

const ISAR4: &[Field] = &[
    up("Unpriv", 0, 2),
    up("WithShifts", 4, 4),
    up("Writeback", 8, 1),
    up("SMC", 12, 1),
    up("Barrier", 16, 1),
    up("SynchPrim_frac", 20, 3),
    up("PSR_M", 24, 1),
    up("SWP_frac", 28, 1),
];

const ISAR5: &[Field] = &[
    up("SEVL", 0, 1),
    up("AES", 4, 2),
    up("SHA1", 8, 1),
    up("SHA2", 12, 1),
    up("CRC32", 16, 1),
    up("RDM", 24, 1),
    up("VCMA", 28, 1),
];

const MMFR4: &[Field] = &[
    up("SpecSEI", 0, 1),
    up("AC2", 4, 1),
    up("XNX", 8, 0),
    up("CnP", 12, 1),
    up("HPDS", 16, 2),
    up("LSM", 20, 1),
    up("CCIDX", 24, 1),
    up("EVT", 28, 0),
];

const ISAR6: &[Field] = &[
    up("JSCVT", 0, 1),
    up("DP", 4, 1),
    up("FHM", 8, 1),
    up("SB", 12, 1),
    up("SPECRES", 16, 2),
    up("BF16", 20, 1),
    up("I8MM", 24, 1),
    up("CLRBHB", 28, 1),
];

const MVFR0: &[Field] = &[
    up("SIMDReg", 0, 2),
    up("FPSP", 4, 2),
    up("FPDP", 8, 2),
    up("FPTrap", 12, 1),
    up("FPDivide", 16, 1),
    up("FPSqrt", 20, 1),
    up("FPShVec", 24, 1),
    up("FPRound", 28, 1),
];

const MVFR1: &[Field] = &[
    up("FPFtZ", 0, 1),
    up("FPDNaN", 4, 1),
    up("SIMDLS", 8, 1),
    up("SIMDInt", 12, 1),
    up("SIMDSP", 16, 1),
    up("SIMDHP", 20, 2),
    up("FPHP", 24, 3),
    up("SIMDFMAC", 28, 1),
];

const MVFR2: &[Field] = &[up("SIMDMisc", 0, 3), up("FPMisc", 4, 4)];

const PFR2: &[Field] = &[up("CSV3", 0, 1), up("SSBS", 4, 1), up("RAS_frac", 8, 0)];

const DFR1: &[Field] = &[signed("MTPMU", 0, 0), up("HPMN0", 4, 0)];

const MMFR5: &[Field] = &[up("ETS", 0, 3), up("nTLBPA", 4, 1)];
