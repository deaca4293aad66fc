//! The host's ID registers: an allow-list of fields, limited to what is emulated.

use crate::features::{Coherency, Features, oas_bits};
use crate::smmu::index::{HOST_CMDQS, HOST_EVENTQS};
use crate::smmu::stream::covered_sid_bits;
use crate::spec::registers::{idr0, idr1, idr3, idr5};
use crate::spec::{get32, mask32, put32, replace32, union32};

/// Whether SMMU_IDR0.MSI is shown to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsiAdvert {
    /// When the SMMU is coherent: EL2 signals the completion of a CMD_SYNC with a store, and the host never polls
    /// CONS.
    WhenCoherent,
    /// Never.
    Hidden,
}

/// ID registers as the host reads them. IDR2, IDR4, IDR6 and all others read as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostIds {
    /// SMMU_IDR0.
    pub idr0: u32,
    /// SMMU_IDR1.
    pub idr1: u32,
    /// SMMU_IDR3.
    pub idr3: u32,
    /// SMMU_IDR5.
    pub idr5: u32,
    /// SMMU_IIDR.
    pub iidr: u32,
    /// SMMU_AIDR.
    pub aidr: u32,
}

/// IDR0 fields that are shown unchanged. All fields of stage 2, EL2, ATS, PRI, ATOS, broadcast maintenance, wake-up
/// events and realms are hidden: only EL2 uses stage 2, and with the others devices or the host could bypass it.
const IDR0_PASS: u32 = union32([
    mask32(idr0::S1P),
    mask32(idr0::HTTU),
    mask32(idr0::ASID16),
    mask32(idr0::CD2L),
    mask32(idr0::TTENDIAN),
    mask32(idr0::TERM_MODEL),
    mask32(idr0::ST_LEVEL),
]);

/// IDR3 fields that are shown unchanged: those that the host's own stage-1 tables and TLBIs need.
const IDR3_PASS: u32 = union32([mask32(idr3::HAD), mask32(idr3::RIL), mask32(idr3::BBML)]);

/// IDR5 fields that are shown unchanged.
const IDR5_PASS: u32 = union32([mask32(idr5::GRAN4K), mask32(idr5::GRAN16K), mask32(idr5::GRAN64K)]);

/// AIDR fields that are shown unchanged: architecture version. [S 6.3.8]
const AIDR_PASS: u32 = 0xff;

impl HostIds {
    /// The ID registers for the host of an SMMU with `features`; the host has `ipa_bits` bits of IPA space.
    pub fn new(features: &Features, msi: MsiAdvert, ipa_bits: u32) -> Self {
        let ids = &features.ids;
        let coherent = match features.coherent {
            Coherency::Coherent => 1,
            Coherency::NonCoherent => 0,
        };
        let msi = match msi {
            MsiAdvert::WhenCoherent => coherent,
            MsiAdvert::Hidden => 0,
        };
        Self {
            idr0: union32([
                ids.idr0 & IDR0_PASS,
                put32(idr0::TTF, idr0::TTF_AARCH64),
                put32(idr0::COHACC, coherent),
                put32(idr0::MSI, msi),
                put32(idr0::STALL_MODEL, idr0::STALL_NONE),
            ]),
            idr1: union32([
                put32(idr1::SIDSIZE, covered_sid_bits(features)),
                put32(idr1::SSIDSIZE, features.ssid_bits),
                put32(idr1::EVENTQS, HOST_EVENTQS),
                put32(idr1::CMDQS, HOST_CMDQS),
            ]),
            idr3: ids.idr3 & IDR3_PASS,
            idr5: union32([ids.idr5 & IDR5_PASS, put32(idr5::OAS, oas_encoding(ipa_bits, features.oas))]),
            iidr: ids.iidr,
            aidr: ids.aidr & AIDR_PASS,
        }
    }

    /// The same with command queues of at most 2^`log2` entries.
    #[must_use]
    pub fn with_cmdq(self, log2: u32) -> Self {
        let idr1 = replace32(self.idr1, mask32(idr1::CMDQS), put32(idr1::CMDQS, log2.min(HOST_CMDQS)));
        Self { idr1, ..self }
    }

    /// Log2 of the largest command queue.
    pub(super) fn cmdq_log2(&self) -> u32 {
        get32(idr1::CMDQS, self.idr1)
    }

    /// Mask of the output size, to which addresses of the host's tables and queues are truncated [S 3.4.3].
    pub(super) fn oas_mask(&self) -> u64 {
        let bits = oas_bits(get32(idr5::OAS, self.idr5));
        u64::MAX.checked_shr(64_u32.saturating_sub(bits)).unwrap_or(0)
    }

    /// StreamID bits.
    pub(super) fn sid_bits(&self) -> u32 {
        get32(idr1::SIDSIZE, self.idr1)
    }

    /// SubstreamID bits.
    pub(super) fn ssid_bits(&self) -> u32 {
        get32(idr1::SSIDSIZE, self.idr1)
    }

    /// Range invalidation is shown.
    pub(super) fn ril(&self) -> bool {
        get32(idr3::RIL, self.idr3) == 1
    }

    /// MSIs are shown.
    pub(super) fn msi(&self) -> bool {
        get32(idr0::MSI, self.idr0) == 1
    }

    /// 2-level stream tables are shown.
    pub(super) fn two_level(&self) -> bool {
        get32(idr0::ST_LEVEL, self.idr0) == idr0::ST_TWO_LEVEL
    }
}

/// The smallest encoding whose size is at least `bits`, if hardware with `most` bits has it; otherwise hardware's.
///
/// Addresses between `bits` and the returned size fault in stage 2. A size below `bits` would hide host memory that its devices
/// can reach.
fn oas_encoding(bits: u32, most: u32) -> u32 {
    let shown = |encoding: &u32| oas_bits(*encoding) <= most;
    let covers = |encoding: &u32| oas_bits(*encoding) >= bits;
    (0..=6).filter(shown).find(covers).or_else(|| (0..=6).rev().find(shown)).unwrap_or(0)
}
