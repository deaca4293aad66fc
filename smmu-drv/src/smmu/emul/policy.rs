//! The STE policy: the shadow entry is built from zero, with an allow-list of the host's fields.
//!
//! The host's SMMU has only stage 1. Its bypass becomes stage 2 only, its stage 1 becomes both stages, its abort stays
//! abort; an entry that is illegal on a stage-1-only SMMU becomes an invalid entry, so that hardware itself reports
//! C_BAD_STE. Dwords 2 and 3 have only EL2's values, the same in every entry; dwords 4 to 7 are zero [S 5.2].

use super::ids::HostIds;
use crate::features::Features;
use crate::smmu::ste::{Fixed, ReadsAs, Ste, valid};
use crate::spec::ste::{dw0, dw1};
use crate::spec::{cd, get32, get64, mask64, put64, union64};

/// Which entries of the host are legal, and the fields that hardware needs in every entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteRules {
    ssid_bits: u64,
    cd2l: bool,
    /// Bits of S1ContextPtr above the output size.
    pointer_beyond: u64,
    /// SHCFG = use incoming if hardware has ATTR_TYPES_OVR; INSTCFG = data if firmware requests it.
    fixed: Fixed,
    /// Dword 1 of every nested entry: S1STALLD = 1 if hardware can stall.
    nested_dw1: u64,
}

/// Result of the check of a host entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteCheck {
    /// V == 0.
    Invalid,
    /// V == 1, but illegal on the emulated SMMU.
    Illegal,
    /// Legal; this is the shadow entry.
    Legal(Ste),
}

impl SteRules {
    /// The rules for an SMMU with `features` and the host's ID registers `ids`.
    pub fn new(features: &Features, ids: &HostIds) -> Self {
        Self {
            ssid_bits: u64::from(ids.ssid_bits()),
            cd2l: get32(crate::spec::registers::idr0::CD2L, ids.idr0) == 1,
            pointer_beyond: mask64(dw0::S1CONTEXTPTR) & !ids.oas_mask(),
            fixed: Fixed::new(ReadsAs::Incoming, features),
            nested_dw1: if features.can_stall() { put64(dw1::S1STALLD, 1) } else { 0 },
        }
    }

    /// The same rules, with INSTCFG from `reads` if hardware with `features` has ATTR_PERMS_OVR [S 5.2, INSTCFG].
    #[must_use]
    pub fn with_reads_as(self, reads: ReadsAs, features: &Features) -> Self {
        Self { fixed: Fixed::new(reads, features), ..self }
    }

    /// The entries that do not depend on the host.
    pub fn fixed(&self) -> Fixed {
        self.fixed
    }

    /// Checks dwords 0 and 1 of a host entry. The others are ignored on a stage-1-only SMMU.
    pub fn check(&self, host0: u64, host1: u64) -> SteCheck {
        if get64(dw0::V, host0) == 0 {
            return SteCheck::Invalid;
        }
        let mev = host1 & mask64(dw1::MEV);
        match get64(dw0::CONFIG, host0) {
            // 0b0xx: reserved encodings behave as abort.
            0b000..=0b011 => SteCheck::Legal(self.fixed.abort()),
            dw0::CONFIG_BYPASS => {
                let ste = self.fixed.stage2();
                SteCheck::Legal(Ste { dw0: ste.dw0, dw1: union64([ste.dw1, mev]) })
            }
            dw0::CONFIG_S1 => self.nested(host0, host1),
            // Stage 2 only, and both stages: the host's IDR0.S2P is 0. This arm also handles any other encoding, so
            // that the default is to deny.
            _ => SteCheck::Illegal,
        }
    }

    fn nested(&self, host0: u64, host1: u64) -> SteCheck {
        // The host's STALL_MODEL is 0b01.
        if get64(dw1::S1STALLD, host1) == 1 {
            return SteCheck::Illegal;
        }
        // These fields are IGNORED without substreams.
        let cdmax = if self.ssid_bits == 0 { 0 } else { get64(dw0::S1CDMAX, host0) };
        if cdmax > self.ssid_bits {
            return SteCheck::Illegal;
        }
        // This is C_BAD_STE from SMMUv3.1 on, and a permitted behaviour of SMMUv3.0 [S 3.4.3]. A truncated pointer
        // would be to other memory.
        if host0 & self.pointer_beyond != 0 {
            return SteCheck::Illegal;
        }
        let mut fmt = dw0::S1FMT_LINEAR;
        let mut dss = dw1::S1DSS_TERMINATE;
        if cdmax != 0 {
            let host_fmt = get64(dw0::S1FMT, host0);
            if host_fmt != dw0::S1FMT_LINEAR && !self.cd2l {
                return SteCheck::Illegal;
            }
            // 0b11 is reserved and behaves as linear.
            if matches!(host_fmt, dw0::S1FMT_4K | dw0::S1FMT_64K) {
                fmt = host_fmt;
            }
            // 0b11 is reserved and behaves as terminate.
            let host_dss = get64(dw1::S1DSS, host1);
            if matches!(host_dss, dw1::S1DSS_BYPASS | dw1::S1DSS_SSID0) {
                dss = host_dss;
            }
        }
        let csh = match get64(dw1::S1CSH, host1) {
            dw1::SH_RESERVED => 0,
            csh => csh,
        };
        let pointer = host0 & mask64(dw0::S1CONTEXTPTR) & !alignment(fmt, cdmax);
        SteCheck::Legal(Ste {
            dw0: union64([valid(dw0::CONFIG_NESTED), put64(dw0::S1FMT, fmt), put64(dw0::S1CDMAX, cdmax), pointer]),
            dw1: union64([
                self.fixed.dw1,
                self.nested_dw1,
                host1 & NESTED_PASS,
                put64(dw1::S1CSH, csh),
                put64(dw1::S1DSS, dss),
            ]),
        })
    }
}

/// Fields of dword 1 of a nested entry that are taken from the host's entry.
const NESTED_PASS: u64 = union64([mask64(dw1::S1CIR), mask64(dw1::S1COR), mask64(dw1::MEV)]);

/// Low bits of S1ContextPtr that are RES0 because the table is aligned to its size [S 5.2, S1Fmt].
fn alignment(fmt: u64, cdmax: u64) -> u64 {
    let cdmax = u32::try_from(cdmax).unwrap_or(0);
    let log2 = match fmt {
        dw0::S1FMT_4K => cdmax.saturating_sub(cd::LOG2_CDS_4K).saturating_add(cd::LOG2_L1CD_SIZE),
        dw0::S1FMT_64K => cdmax.saturating_sub(cd::LOG2_CDS_64K).saturating_add(cd::LOG2_L1CD_SIZE),
        _ => cdmax.saturating_add(cd::LOG2_CD_SIZE),
    };
    1_u64.checked_shl(log2).map_or(u64::MAX, |size| size.wrapping_sub(1))
}

#[cfg(test)]
mod tests;
