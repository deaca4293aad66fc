//! EL2's trap and enable controls, built from the table's rows.
//!
//! Initially each control traps everything; the rows of visible features change their bits. All other bits still trap,
//! including those of later extensions. Unknown positive-polarity trap bits are zero; their features are older than the
//! traps.

use super::{Cpu, registers, usable};

/// A control register of EL2. Bits: DDI 0487, D24.2.38 (`CPTR_EL2`), D24.2.62 to D24.2.75, D24.3.17
/// (`MDCR_EL2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `HCR_EL2`.
    Hcr,
    /// `HCRX_EL2`; with FEAT_HCX.
    Hcrx,
    /// `CPTR_EL2`, in its layout with `HCR_EL2.E2H` = 0.
    Cptr,
    /// `MDCR_EL2`, apart from the counters.
    Mdcr,
    /// `SMCR_EL2`; with FEAT_SME.
    Smcr,
    /// `HFGRTR_EL2`; with FEAT_FGT.
    Hfgrtr,
    /// `HFGWTR_EL2`; with FEAT_FGT.
    Hfgwtr,
    /// `HFGITR_EL2`; with FEAT_FGT.
    Hfgitr,
    /// `HDFGRTR_EL2`; with FEAT_FGT.
    Hdfgrtr,
    /// `HDFGWTR_EL2`; with FEAT_FGT.
    Hdfgwtr,
    /// `HFGRTR2_EL2`; with FEAT_FGT2.
    Hfgrtr2,
    /// `HFGWTR2_EL2`; with FEAT_FGT2.
    Hfgwtr2,
}

/// `HCR_EL2`: stage 2, set/way operations also clean, walks of device memory fault, `SMC`, ID group 3,
/// implementation-defined and auxiliary control registers trapped, AArch64 at EL1.
const HCR_BASE: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 31;
/// `HCR_EL2.TLOR`: limited ordering regions.
const HCR_TLOR: u64 = 1 << 35;
/// `CPTR_EL2`: RES1 bits apart from those that became traps.
const CPTR_RES1: u64 = 0x22ff;
/// `CPTR_EL2.TZ`: SVE.
pub(super) const CPTR_TZ: u64 = 1 << 8;
/// `CPTR_EL2.TSM`: SME.
pub(super) const CPTR_TSM: u64 = 1 << 12;
/// `CPTR_EL2.TTA`: the trace unit's registers.
pub(super) const CPTR_TTA: u64 = 1 << 20;
/// `CPTR_EL2.TAM`: activity monitors.
const CPTR_TAM: u64 = 1 << 30;
/// `MDCR_EL2.TPMCR` and `TPM`: performance monitors.
pub(super) const MDCR_TPM: u64 = 0b11 << 5;
/// `MDCR_EL2.TPMS`: Statistical Profiling.
pub(super) const MDCR_TPMS: u64 = 1 << 14;
/// `MDCR_EL2.TTRF`: trace filters.
pub(super) const MDCR_TTRF: u64 = 1 << 19;
/// `HDFGRTR_EL2.PMBIDR_EL1`.
pub(super) const HDFGR_PMBIDR: u64 = 1 << 63;
/// `HDFGRTR_EL2.TRBIDR_EL1`.
pub(super) const HDFGR_TRBIDR: u64 = 1 << 51;
/// `SMCR_EL2.LEN`: all vector lengths that hardware has.
const SMCR_LEN: u64 = 0xf;

impl Control {
    /// The value that traps all features of the table.
    #[must_use]
    pub const fn denied(self) -> u64 {
        self.traps()
            | match self {
                Self::Hcr => HCR_BASE,
                Self::Cptr => CPTR_RES1,
                Self::Smcr => SMCR_LEN,
                Self::Hcrx | Self::Mdcr => 0,
                Self::Hfgrtr | Self::Hfgwtr | Self::Hfgitr | Self::Hdfgrtr | Self::Hdfgwtr => 0,
                Self::Hfgrtr2 | Self::Hfgwtr2 => 0,
            }
    }

    /// Bits that trap where they are one; all others enable access.
    #[must_use]
    pub const fn traps(self) -> u64 {
        match self {
            Self::Hcr => HCR_TLOR,
            Self::Cptr => CPTR_TZ | CPTR_TSM | CPTR_TTA | CPTR_TAM,
            Self::Mdcr => MDCR_TPM | MDCR_TPMS | MDCR_TTRF,
            Self::Hdfgrtr => HDFGR_PMBIDR | HDFGR_TRBIDR,
            Self::Hcrx | Self::Smcr | Self::Hfgrtr | Self::Hfgwtr | Self::Hfgitr | Self::Hdfgwtr => 0,
            Self::Hfgrtr2 | Self::Hfgwtr2 => 0,
        }
    }
}

/// A value for each control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    /// `HCR_EL2`.
    pub hcr: u64,
    /// `HCRX_EL2`.
    pub hcrx: u64,
    /// `CPTR_EL2`.
    pub cptr: u64,
    /// `MDCR_EL2`.
    pub mdcr: u64,
    /// `SMCR_EL2`.
    pub smcr: u64,
    /// `HFGRTR_EL2`.
    pub hfgrtr: u64,
    /// `HFGWTR_EL2`.
    pub hfgwtr: u64,
    /// `HFGITR_EL2`.
    pub hfgitr: u64,
    /// `HDFGRTR_EL2`.
    pub hdfgrtr: u64,
    /// `HDFGWTR_EL2`.
    pub hdfgwtr: u64,
    /// `HFGRTR2_EL2`.
    pub hfgrtr2: u64,
    /// `HFGWTR2_EL2`.
    pub hfgwtr2: u64,
}

impl Controls {
    /// Every control with everything trapped.
    #[must_use]
    pub const fn denied() -> Self {
        Self {
            hcr: Control::Hcr.denied(),
            hcrx: Control::Hcrx.denied(),
            cptr: Control::Cptr.denied(),
            mdcr: Control::Mdcr.denied(),
            smcr: Control::Smcr.denied(),
            hfgrtr: Control::Hfgrtr.denied(),
            hfgwtr: Control::Hfgwtr.denied(),
            hfgitr: Control::Hfgitr.denied(),
            hdfgrtr: Control::Hdfgrtr.denied(),
            hdfgwtr: Control::Hdfgwtr.denied(),
            hfgrtr2: Control::Hfgrtr2.denied(),
            hfgwtr2: Control::Hfgwtr2.denied(),
        }
    }

    /// The values that enable exactly the visible features of `cpu`.
    #[must_use]
    pub fn of(cpu: &impl Cpu) -> Self {
        let mut controls = Self::denied();
        for register in registers() {
            let value = usable(cpu, register.id);
            for field in register.fields.iter().filter(|field| !field.allows.is_empty()) {
                let shown = field.shown(field.of(value));
                for allow in field.allows.iter().filter(|allow| shown >= allow.from) {
                    let slot = controls.slot(allow.control);
                    let traps = allow.control.traps();
                    *slot = (*slot | (allow.bits & !traps)) & !(allow.bits & traps);
                }
            }
        }
        controls
    }

    const fn slot(&mut self, control: Control) -> &mut u64 {
        match control {
            Control::Hcr => &mut self.hcr,
            Control::Hcrx => &mut self.hcrx,
            Control::Cptr => &mut self.cptr,
            Control::Mdcr => &mut self.mdcr,
            Control::Smcr => &mut self.smcr,
            Control::Hfgrtr => &mut self.hfgrtr,
            Control::Hfgwtr => &mut self.hfgwtr,
            Control::Hfgitr => &mut self.hfgitr,
            Control::Hdfgrtr => &mut self.hdfgrtr,
            Control::Hdfgwtr => &mut self.hdfgwtr,
            Control::Hfgrtr2 => &mut self.hfgrtr2,
            Control::Hfgwtr2 => &mut self.hfgwtr2,
        }
    }
}
