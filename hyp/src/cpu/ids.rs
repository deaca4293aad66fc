//! The AArch64 ID registers, field by field: highest supported value and controls.
//!
//! Fields and values: DDI 0487 issue L.a, D24.2.80 to D24.2.97; `GCIE` from the GICv5 architecture (ARM AES 0070). A
//! hidden field has a reason in its row, except fields of EL2, EL3 or stage 2.

use super::controls::{
    CPTR_TSM, CPTR_TTA, CPTR_TZ, Control, HDFGR_PMBIDR, HDFGR_TRBIDR, MDCR_TPM, MDCR_TPMS, MDCR_TTRF,
};
use super::field::{allow, bit, number, pmu, signed, up, with};
use super::{Allow, Field, Id, Register};

/// `ID_AA64PFR0_EL1`.
pub const PFR0: Id = Id { crm: 4, op2: 0 };
/// `ID_AA64PFR1_EL1`.
pub const PFR1: Id = Id { crm: 4, op2: 1 };
/// `ID_AA64PFR2_EL1`.
pub const PFR2: Id = Id { crm: 4, op2: 2 };
/// `ID_AA64ZFR0_EL1`.
pub const ZFR0: Id = Id { crm: 4, op2: 4 };
/// `ID_AA64SMFR0_EL1`.
pub const SMFR0: Id = Id { crm: 4, op2: 5 };
/// `ID_AA64FPFR0_EL1`.
pub const FPFR0: Id = Id { crm: 4, op2: 7 };
/// `ID_AA64DFR0_EL1`.
pub const DFR0: Id = Id { crm: 5, op2: 0 };
/// `ID_AA64DFR2_EL1`.
pub const DFR2: Id = Id { crm: 5, op2: 2 };
/// `ID_AA64ISAR0_EL1`.
pub const ISAR0: Id = Id { crm: 6, op2: 0 };
/// `ID_AA64ISAR1_EL1`.
pub const ISAR1: Id = Id { crm: 6, op2: 1 };
/// `ID_AA64ISAR2_EL1`.
pub const ISAR2: Id = Id { crm: 6, op2: 2 };
/// `ID_AA64ISAR3_EL1`.
pub const ISAR3: Id = Id { crm: 6, op2: 3 };
/// `ID_AA64MMFR0_EL1`.
pub const MMFR0: Id = Id { crm: 7, op2: 0 };
/// `ID_AA64MMFR1_EL1`.
pub const MMFR1: Id = Id { crm: 7, op2: 1 };
/// `ID_AA64MMFR2_EL1`.
pub const MMFR2: Id = Id { crm: 7, op2: 2 };
/// `ID_AA64MMFR3_EL1`.
pub const MMFR3: Id = Id { crm: 7, op2: 3 };
/// `ID_AA64MMFR4_EL1`.
pub const MMFR4: Id = Id { crm: 7, op2: 4 };

/// `HCR_EL2.APK` and `API`.
const PAUTH: &[Allow] = &[allow(1, Control::Hcr, 0b11 << 40)];
/// `HCR_EL2.EnSCXT`, from FEAT_CSV2_2 or FEAT_CSV2_1p2 on.
const SCXT: &[Allow] = &[allow(2, Control::Hcr, 1 << 53)];

/// `ID_AA64DFR0_EL1.PMSVer`. Records are written through stage 1 and 2 of EL1&0 (`MDCR_EL2.E2PB` = 0b11). Later
/// versions add registers whose traps have negative polarity.
pub(super) const PMSVER: Field = with(
    up("PMSVer", 32, 5),
    &[
        allow(1, Control::Mdcr, MDCR_TPMS | 0b11 << 12),
        allow(1, Control::Hdfgrtr, HDFGR_PMBIDR),
        allow(3, Control::Hdfgrtr, 1 << 62), // nPMSNEVFR_EL1
        allow(3, Control::Hdfgwtr, 1 << 62),
    ],
);
/// `ID_AA64DFR0_EL1.TraceBuffer`. As profiling: `MDCR_EL2.E2TB` = 0b11. The second version selects MPAM identifiers.
pub(super) const TRACE_BUFFER: Field =
    with(up("TraceBuffer", 44, 1), &[allow(1, Control::Mdcr, 0b11 << 24), allow(1, Control::Hdfgrtr, HDFGR_TRBIDR)]);

/// The AArch64 ID registers.
pub const REGISTERS: &[Register] = &[
    Register { name: "ID_AA64PFR0_EL1", id: PFR0, fields: AA64PFR0 },
    Register { name: "ID_AA64PFR1_EL1", id: PFR1, fields: AA64PFR1 },
    Register { name: "ID_AA64PFR2_EL1", id: PFR2, fields: AA64PFR2 },
    Register { name: "ID_AA64ZFR0_EL1", id: ZFR0, fields: AA64ZFR0 },
    Register { name: "ID_AA64SMFR0_EL1", id: SMFR0, fields: AA64SMFR0 },
    Register { name: "ID_AA64FPFR0_EL1", id: FPFR0, fields: AA64FPFR0 },
    Register { name: "ID_AA64DFR0_EL1", id: DFR0, fields: AA64DFR0 },
    Register { name: "ID_AA64ISAR0_EL1", id: ISAR0, fields: AA64ISAR0 },
    Register { name: "ID_AA64ISAR1_EL1", id: ISAR1, fields: AA64ISAR1 },
    Register { name: "ID_AA64ISAR2_EL1", id: ISAR2, fields: AA64ISAR2 },
    Register { name: "ID_AA64ISAR3_EL1", id: ISAR3, fields: AA64ISAR3 },
    Register { name: "ID_AA64MMFR0_EL1", id: MMFR0, fields: AA64MMFR0 },
    Register { name: "ID_AA64MMFR1_EL1", id: MMFR1, fields: AA64MMFR1 },
    Register { name: "ID_AA64MMFR2_EL1", id: MMFR2, fields: AA64MMFR2 },
    Register { name: "ID_AA64MMFR3_EL1", id: MMFR3, fields: AA64MMFR3 },
    Register { name: "ID_AA64MMFR4_EL1", id: MMFR4, fields: AA64MMFR4 },
];

const AA64PFR0: &[Field] = &[
    up("EL0", 0, 2),
    up("EL1", 4, 1), // HCR_EL2.RW: no AArch32 there
    up("EL2", 8, 0),
    up("EL3", 12, 1), // SMC exists
    signed("FP", 16, 1),
    signed("AdvSIMD", 20, 1),
    up("GIC", 24, 3),
    // The second version can inject errors (HCR_EL2.FIEN), the third has its own records.
    up("RAS", 28, 1),
    with(up("SVE", 32, 1), &[allow(1, Control::Cptr, CPTR_TZ)]),
    up("SEL2", 36, 0),
    up("MPAM", 40, 0), // cache partitions are shared with EL2: MPAM2_EL2 traps
    up("AMU", 44, 0),  // also counts EL2's activity: CPTR_EL2.TAM
    up("DIT", 48, 1),
    up("RME", 52, 0),
    with(up("CSV2", 56, 3), SCXT),
    up("CSV3", 60, 1),
];

const AA64PFR1: &[Field] = &[
    up("BT", 0, 1),
    up("SSBS", 4, 2),
    with(up("MTE", 8, 3), &[allow(2, Control::Hcr, 1 << 56)]), // ATA
    up("RAS_frac", 12, 0),
    up("MPAM_frac", 16, 0),
    with(
        up("SME", 24, 2),
        &[
            allow(1, Control::Cptr, CPTR_TSM),
            allow(1, Control::Hfgrtr, 0b11 << 54), // nSMPRI_EL1, nTPIDR2_EL0
            allow(1, Control::Hfgwtr, 0b11 << 54),
            allow(2, Control::Smcr, 1 << 30), // EZT0
        ],
    ),
    up("RNDR_trap", 28, 0),
    with(up("CSV2_frac", 32, 2), SCXT),
    up("NMI", 36, 1),
    signed("MTE_frac", 40, 0),
    with(
        up("GCS", 44, 1),
        &[
            allow(1, Control::Hcrx, 1 << 22),      // GCSEn
            allow(1, Control::Hfgrtr, 0b11 << 52), // nGCS_EL0, nGCS_EL1
            allow(1, Control::Hfgwtr, 0b11 << 52),
            allow(1, Control::Hfgitr, 0b111 << 57), // nGCSPUSHM_EL1, nGCSSTR_EL1, nGCSEPP
        ],
    ),
    with(
        up("THE", 48, 1),
        &[
            allow(1, Control::Hfgrtr, 1 << 56), // nRCWMASK_EL1
            allow(1, Control::Hfgwtr, 1 << 56),
            allow(1, Control::Hfgrtr2, 1 << 2), // nRCWSMASK_EL1
            allow(1, Control::Hfgwtr2, 1 << 2),
        ],
    ),
    up("MTEX", 52, 1),
    up("DF2", 56, 1),
    up("PFAR", 60, 0), // physical addresses of aborts: nPFAR_EL1
];

const AA64PFR2: &[Field] = &[
    up("MTEPERM", 0, 0),
    up("MTESTOREONLY", 4, 1),
    up("MTEFAR", 8, 1),
    up("GCIE", 12, 0), // GICv5, which boot refuses
    up("UINJ", 16, 1),
    with(up("FPMR", 32, 1), &[allow(1, Control::Hcrx, 1 << 23)]), // EnFPM
];

const AA64ZFR0: &[Field] = &[
    up("SVEver", 0, 3),
    up("AES", 4, 3),
    up("EltPerm", 12, 1),
    up("BitPerm", 16, 1),
    up("BF16", 20, 2),
    up("B16B16", 24, 2),
    up("SHA3", 32, 1),
    up("SM4", 40, 1),
    up("I8MM", 44, 1),
    up("F16MM", 48, 1),
    up("F32MM", 52, 1),
    up("F64MM", 56, 1),
];

const AA64SMFR0: &[Field] = &[
    bit("SMOP4", 0),
    bit("STMOP", 16),
    bit("SFEXPA", 23),
    bit("AES", 24),
    bit("SBitPerm", 25),
    bit("SF8DP2", 28),
    bit("SF8DP4", 29),
    bit("SF8FMA", 30),
    bit("F32F32", 32),
    bit("BI32I32", 33),
    bit("B16F32", 34),
    bit("F16F32", 35),
    up("I8I32", 36, 15),
    bit("F8F32", 40),
    bit("F8F16", 41),
    bit("F16F16", 42),
    bit("B16B16", 43),
    up("I16I32", 44, 5),
    bit("F64F64", 48),
    up("I16I64", 52, 15),
    with(up("SMEver", 56, 3), &[allow(1, Control::Smcr, 1 << 30)]),
    bit("LUTv2", 60),
    with(bit("FA64", 63), &[allow(1, Control::Smcr, 1 << 31)]),
];

const AA64FPFR0: &[Field] = &[
    bit("F8E5M2", 0),
    bit("F8E4M3", 1),
    bit("F8MM4", 26),
    bit("F8MM8", 27),
    bit("F8DP2", 28),
    bit("F8DP4", 29),
    bit("F8FMA", 30),
    bit("F8CVT", 31),
];

// ID_AA64DFR1_EL1 and ID_AA64DFR2_EL1 are not in the table: more breakpoints, system PMUs, profiling exceptions and
// the other features in them are trapped by MDCR_EL2 and HDFGxTR2_EL2.
const AA64DFR0: &[Field] = &[
    up("DebugVer", 0, 10), // banked breakpoints come with 11
    with(up("TraceVer", 4, 1), &[allow(1, Control::Cptr, CPTR_TTA)]),
    // PMUv3p9 needs an EL3 setting that EL2 cannot read.
    pmu("PMUVer", 8, 8, &[allow(1, Control::Mdcr, MDCR_TPM)]),
    number("BRPs", 12),
    up("PMSS", 16, 0),
    number("WRPs", 20),
    up("SEBEP", 24, 0),
    number("CTX_CMPs", 28),
    PMSVER,
    signed("DoubleLock", 36, 0),
    with(up("TraceFilt", 40, 1), &[allow(1, Control::Mdcr, MDCR_TTRF)]),
    TRACE_BUFFER,
    signed("MTPMU", 48, 0), // counts other threads: MDCR_EL2.MTPME
    up("BRBE", 52, 0),      // HFGITR_EL2 and HDFGxTR_EL2, nBRB*
    up("ExtTrcBuff", 56, 0),
    up("HPMN0", 60, 0),
];

const AA64ISAR0: &[Field] = &[
    up("AES", 4, 2),
    up("SHA1", 8, 1),
    up("SHA2", 12, 2),
    up("CRC32", 16, 1),
    up("Atomic", 20, 3),
    up("TME", 24, 0), // withdrawn from the architecture
    up("RDM", 28, 1),
    up("SHA3", 32, 1),
    up("SM3", 36, 1),
    up("SM4", 40, 1),
    up("DP", 44, 1),
    up("FHM", 48, 1),
    up("TS", 52, 2),
    up("TLB", 56, 2),
    up("RNDR", 60, 1),
];

const AA64ISAR1: &[Field] = &[
    up("DPB", 0, 2),
    with(up("APA", 4, 6), PAUTH),
    with(up("API", 8, 6), PAUTH),
    up("JSCVT", 12, 1),
    up("FCMA", 16, 1),
    up("LRCPC", 20, 3),
    with(up("GPA", 24, 1), PAUTH),
    with(up("GPI", 28, 1), PAUTH),
    up("FRINTTS", 32, 1),
    up("SB", 36, 1),
    up("SPECRES", 40, 2),
    up("BF16", 44, 2),
    up("DGH", 48, 1),
    up("I8MM", 52, 1),
    up("XS", 56, 1),
    up("LS64", 60, 0), // HCRX_EL2.EnALS, EnASR, EnAS0
];

const AA64ISAR2: &[Field] = &[
    up("WFxT", 0, 2),
    up("RPRES", 4, 1),
    with(up("GPA3", 8, 1), PAUTH),
    with(up("APA3", 12, 6), PAUTH),
    with(up("MOPS", 16, 1), &[allow(1, Control::Hcrx, 1 << 11)]), // MSCEn
    up("BC", 20, 1),
    up("PAC_frac", 24, 1),
    up("CLRBHB", 28, 1),
    up("SYSREG_128", 32, 0), // HCRX_EL2.D128En, EnIDCP128
    up("SYSINSTR_128", 36, 0),
    up("PRFMSLC", 40, 1),
    up("PCDPHINT", 44, 1),
    up("RPRFM", 48, 1),
    up("CSSC", 52, 2),
    up("LUT", 56, 1),
    up("ATS1A", 60, 1),
];

const AA64ISAR3: &[Field] = &[
    up("CPA", 0, 2),
    up("FAMINMAX", 4, 1),
    up("TLBIW", 8, 0),
    with(up("PACM", 12, 2), &[allow(1, Control::Hcrx, 1 << 24)]), // PACMEn
    up("LSFE", 16, 1),
    up("OCCMO", 20, 1),
    up("LSUI", 24, 1),
    up("FPRCVT", 28, 1),
];

const AA64MMFR0: &[Field] = &[
    up("PARange", 0, 5), // stage 2 has at most 48 bits
    up("ASIDBits", 4, 2),
    up("BigEnd", 8, 1),
    up("SNSMem", 12, 0),
    up("BigEndEL0", 16, 1),
    up("TGran16", 20, 2),
    signed("TGran64", 24, 0),
    signed("TGran4", 28, 1),
    up("TGran16_2", 32, 0),
    up("TGran64_2", 36, 0),
    up("TGran4_2", 40, 0),
    up("ExS", 44, 1),
    up("FGT", 56, 0),
    up("ECV", 60, 1),
];

const AA64MMFR1: &[Field] = &[
    up("HAFDBS", 0, 3), // the next one tracks dirty state of stage 2
    up("VMIDBits", 4, 0),
    up("VH", 8, 0),
    up("HPDS", 12, 2),
    up("LO", 16, 0), // HCR_EL2.TLOR
    up("PAN", 20, 3),
    up("SpecSEI", 24, 1),
    up("XNX", 28, 0),
    up("TWED", 32, 1),
    up("ETS", 36, 3),
    up("HCX", 40, 0),
    up("AFP", 44, 1),
    up("nTLBPA", 48, 1),
    up("TIDCP1", 52, 1),
    up("CMOW", 56, 1),
    up("ECBHB", 60, 1),
];

const AA64MMFR2: &[Field] = &[
    up("CnP", 0, 1),
    up("UAO", 4, 1),
    up("LSM", 8, 1),
    up("IESB", 12, 1),
    up("VARange", 16, 1),
    up("CCIDX", 20, 1), // CCSIDR_EL1 is read from hardware
    up("NV", 24, 0),
    up("ST", 28, 1),
    up("AT", 32, 1),
    up("IDS", 36, 1),
    up("FWB", 40, 0),
    up("TTL", 48, 1),
    up("BBM", 52, 2),
    up("EVT", 56, 0),
    up("E0PD", 60, 1),
];

const AA64MMFR3: &[Field] = &[
    with(up("TCRX", 0, 1), &[allow(1, Control::Hcrx, 1 << 14)]), // TCR2En
    with(up("SCTLRX", 4, 1), &[allow(1, Control::Hcrx, 1 << 15)]), // SCTLR2En
    with(
        up("S1PIE", 8, 1),
        &[allow(1, Control::Hfgrtr, 0b11 << 57), allow(1, Control::Hfgwtr, 0b11 << 57)], // nPIRE0_EL1, nPIR_EL1
    ),
    up("S2PIE", 12, 0),
    with(
        up("S1POE", 16, 1),
        &[allow(1, Control::Hfgrtr, 0b11 << 59), allow(1, Control::Hfgwtr, 0b11 << 59)], // nPOR_EL0, nPOR_EL1
    ),
    up("S2POE", 20, 0),
    with(
        up("AIE", 24, 1),
        &[allow(1, Control::Hfgrtr, 0b11 << 62), allow(1, Control::Hfgwtr, 0b11 << 62)], // nMAIR2_EL1, nAMAIR2_EL1
    ),
    up("MEC", 28, 0),
    up("D128", 32, 0), // HCRX_EL2.D128En
    up("D128_2", 36, 0),
    up("SNERR", 40, 0), // HCRX_EL2.EnSNERR
    up("ANERR", 44, 0),
    up("SDERR", 52, 0), // HCRX_EL2.EnSDERR
    up("ADERR", 56, 0),
    up("Spec_FPACC", 60, 1),
];

const AA64MMFR4: &[Field] = &[
    up("PoPS", 0, 0), // HFGITR2_EL2.nDCCIVAPS
    signed("EIESB", 4, 2),
    up("ASID2", 8, 1),
    up("HACDBS", 12, 0),
    up("FGWTE3", 16, 0),
    up("NV_frac", 20, 0),
    up("E2H0", 24, 0),
    up("RMEGDI", 28, 0),
    up("E3DSE", 36, 0),
    up("SRMASK", 44, 0), // HCRX_EL2.SRMASKEn
];
