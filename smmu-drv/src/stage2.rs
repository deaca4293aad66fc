//! The stage 2 that confines every stream.

use io_pgtable::{Pa, S2Cfg};

use crate::features::{Features, oas_bits};
use crate::spec::ste::{dw2, dw3};
use crate::spec::{mask64, put64, union64};

/// The stage-2 table (VMSAv8-64) that confines every stream: fields as in VTCR_EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage2Cfg {
    /// Table address.
    pub ttb: Pa,
    /// Input size: 64 minus the bits of the IPA space, 16 to 39.
    pub t0sz: u8,
    /// Start level.
    pub sl0: u8,
    /// Inner cacheability of walks.
    pub irgn: u8,
    /// Outer cacheability of walks.
    pub orgn: u8,
    /// Shareability of walks.
    pub sh: u8,
    /// Granule; 0 for 4K.
    pub tg: u8,
    /// Output size.
    pub ps: u8,
    /// VMID of the streams; 8 bits unless the SMMU has 16.
    pub vmid: u16,
}

impl Stage2Cfg {
    /// The table that [`io_pgtable::IoPgtable::config`] describes, for a domain with `vmid`.
    #[must_use]
    pub fn of(table: &S2Cfg, vmid: u16) -> Self {
        let S2Cfg { ttb, t0sz, sl0, walk, tg, ps, start_level: _ } = *table;
        Self { ttb, t0sz, sl0, irgn: walk.irgn, orgn: walk.orgn, sh: walk.sh, tg, ps, vmid }
    }

    /// Bits of the IPA space.
    pub(crate) fn ipa_bits(&self) -> u32 {
        64_u32.saturating_sub(u32::from(self.t0sz))
    }

    /// Size in bytes of the top-level table, up to 16 concatenated ones; `None` if it would resolve no address bits,
    /// or too many [S 5.2].
    fn top_level_bytes(&self) -> Option<u64> {
        let (shift, most) = match self.sl0 {
            0 => (21, 13),
            1 => (30, 13),
            _ => (39, 9),
        };
        let bits = self.ipa_bits().checked_sub(shift).filter(|bits| (1..=most).contains(bits))?;
        8_u64.checked_shl(bits)
    }

    /// Checks that an SMMU with `features` accepts it.
    ///
    /// # Errors
    /// A description of the invalid value.
    pub(crate) fn check(&self, features: &Features) -> Result<(), &'static str> {
        if !(16..=39).contains(&self.t0sz) || self.ipa_bits() > features.oas {
            return Err("T0SZ must be 16 to 39 and not exceed the SMMU's address size");
        }
        if self.tg != 0 {
            return Err("only the 4K granule (TG=0) is supported");
        }
        if self.sl0 > 2 {
            return Err("SL0 is reserved");
        }
        if oas_bits(u32::from(self.ps)) > features.oas.max(32) || self.ps > 6 {
            return Err("PS exceeds the SMMU's output size");
        }
        if features.vmid_bits == 8 && self.vmid > 0xff {
            return Err("VMID needs 16 bits, the SMMU has 8");
        }
        let size = oas_bits(u32::from(self.ps)).min(features.oas);
        if self.ttb.0.checked_shr(size).unwrap_or(0) != 0 {
            return Err("table address is above the SMMU's output size or PS");
        }
        // Hardware takes the address bits below the size of the top-level table, including concatenated tables, as
        // zero.
        let Some(bytes) = self.top_level_bytes() else { return Err("SL0 does not fit T0SZ") };
        if self.ttb.0 & bytes.wrapping_sub(1) != 0 {
            return Err("table address is not aligned to the size of the top-level table");
        }
        Ok(())
    }
}

/// Dwords 2 and 3 of every shadow entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage2Words {
    /// VMID and walk configuration.
    pub dw2: u64,
    /// Table address.
    pub dw3: u64,
}

impl Stage2Words {
    /// The words of entries without a stage 2, which abort.
    pub const NONE: Self = Self { dw2: 0, dw3: 0 };

    /// S2PTW, S2R and S2AA64 set; S2S, S2HA, S2HD, S2ENDI and S2AFFD clear.
    pub fn new(cfg: &Stage2Cfg) -> Self {
        Self {
            dw2: union64([
                put64(dw2::S2VMID, u64::from(cfg.vmid)),
                put64(dw2::S2T0SZ, u64::from(cfg.t0sz)),
                put64(dw2::S2SL0, u64::from(cfg.sl0)),
                put64(dw2::S2IR0, u64::from(cfg.irgn)),
                put64(dw2::S2OR0, u64::from(cfg.orgn)),
                put64(dw2::S2SH0, u64::from(cfg.sh)),
                put64(dw2::S2TG, u64::from(cfg.tg)),
                put64(dw2::S2PS, u64::from(cfg.ps)),
                put64(dw2::S2AA64, 1),
                put64(dw2::S2PTW, 1),
                put64(dw2::S2R, 1),
            ]),
            dw3: cfg.ttb.0 & mask64(dw3::S2TTB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::get64;

    #[test]
    fn every_entry_protects_table_walks_and_reports_faults() {
        let cfg = Stage2Cfg { ttb: Pa(0x4000), t0sz: 24, sl0: 1, irgn: 1, orgn: 1, sh: 3, tg: 0, ps: 2, vmid: 1 };
        let words = Stage2Words::new(&cfg);
        let bit = |field| get64(field, words.dw2);
        assert_eq!((bit(dw2::S2PTW), bit(dw2::S2R), bit(dw2::S2AA64), bit(dw2::S2VMID)), (1, 1, 1, 1));
        assert_eq!((bit(dw2::S2S), bit(dw2::S2HA), bit(dw2::S2HD)), (0, 0, 0));
        assert_eq!((bit(dw2::S2ENDI), bit(dw2::S2AFFD)), (0, 0));
        assert_eq!(words.dw3, 0x4000);
    }
}
