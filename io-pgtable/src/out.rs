//! Output configuration, as in Linux's `struct io_pgtable_cfg`, for registers, a context descriptor or an STE.

use crate::addr::Pa;

/// `MAIR_ELx`, or the MAIR of a context descriptor, that stage-1 tables of this crate index (the values of Linux):
/// 0 normal non-cacheable, 1 normal write-back, 2 device-nGnRE, 3 inner non-cacheable outer write-back.
pub const MAIR: u64 = 0x44 | 0xff << 8 | 0x04 << 16 | 0xf4 << 24;

/// How the walker accesses the tables: TCR/VTCR fields IRGN, ORGN and SH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkAttrs {
    /// Inner cacheability: 0 non-cacheable, 1 write-back.
    pub irgn: u8,
    /// Outer cacheability: 0 non-cacheable, 1 write-back.
    pub orgn: u8,
    /// Shareability: 2 outer, 3 inner.
    pub sh: u8,
}

impl WalkAttrs {
    /// Bits `[13:8]` of every TCR and VTCR.
    fn word(self) -> u64 {
        u64::from(self.irgn) << 8 | u64::from(self.orgn) << 10 | u64::from(self.sh) << 12
    }
}

/// Stage-2 configuration: VTTBR base and VTCR fields, the same fields that an STE has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S2Cfg {
    /// Base of the (concatenated) root table.
    pub ttb: Pa,
    /// 64 minus the input address size.
    pub t0sz: u8,
    /// Encoded start level.
    pub sl0: u8,
    /// Walk attributes.
    pub walk: WalkAttrs,
    /// Encoded granule.
    pub tg: u8,
    /// Encoded output address size.
    pub ps: u8,
    /// The start level itself.
    pub start_level: u8,
}

impl S2Cfg {
    /// `VTCR_EL2` with RES1 bits set and all optional features off; the caller, who chooses the VMID, sets VS (bit
    /// 19).
    #[must_use]
    pub fn vtcr_el2(&self) -> u64 {
        let low = u64::from(self.t0sz) | u64::from(self.sl0) << 6 | self.walk.word();
        low | u64::from(self.tg) << 14 | u64::from(self.ps) << 16 | 1 << 31
    }
}

/// Stage-1 configuration: TTBR base and TCR fields, the same fields that a context descriptor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S1Cfg {
    /// Base of the root table.
    pub ttb: Pa,
    /// 64 minus the input address size.
    pub tsz: u8,
    /// Walk attributes.
    pub walk: WalkAttrs,
    /// Encoded granule: as TG1 if the table is for TTBR1, otherwise as TG0.
    pub tg: u8,
    /// Encoded output address size.
    pub ips: u8,
    /// The memory attributes that descriptors index: [`MAIR`].
    pub mair: u64,
    /// The start level.
    pub start_level: u8,
}

impl S1Cfg {
    /// `TCR_EL2` of the regime without E2H, with RES1 bits set and all optional features off.
    #[must_use]
    pub fn tcr_el2(&self) -> u64 {
        let low = u64::from(self.tsz) | self.walk.word() | u64::from(self.tg) << 14;
        low | u64::from(self.ips) << 16 | 1 << 23 | 1 << 31
    }

    /// `TCR_EL1` for a table in TTBR0, with walks of TTBR1 disabled (EPD1).
    #[must_use]
    pub fn tcr_el1_ttbr0(&self) -> u64 {
        let low = u64::from(self.tsz) | self.walk.word() | u64::from(self.tg) << 14;
        low | u64::from(self.ips) << 32 | 1 << 23
    }

    /// `TCR_EL1` for a table in TTBR1, with walks of TTBR0 disabled (EPD0).
    #[must_use]
    pub fn tcr_el1_ttbr1(&self) -> u64 {
        let high = u64::from(self.tsz) | self.walk.word() | u64::from(self.tg) << 14;
        high << 16 | u64::from(self.ips) << 32 | 1 << 7
    }
}
