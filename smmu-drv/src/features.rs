//! Hardware features, decoded once from the ID registers.

use crate::platform::Platform;
use crate::spec::registers::{idr0, idr1, idr3, idr5};
use crate::spec::{get32, registers as reg};

/// The ID registers of hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
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

impl IdRegisters {
    /// Reads them. No side effect.
    pub(crate) fn read(platform: &impl Platform) -> Self {
        Self {
            idr0: platform.read32(reg::IDR0),
            idr1: platform.read32(reg::IDR1),
            idr3: platform.read32(reg::IDR3),
            idr5: platform.read32(reg::IDR5),
            iidr: platform.read32(reg::IIDR),
            aidr: platform.read32(reg::AIDR),
        }
    }
}

/// Whether the SMMU's own accesses snoop the CPU caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coherency {
    /// They snoop: no cache maintenance is needed.
    Coherent,
    /// They do not: tables and queues are cleaned and invalidated.
    #[default]
    NonCoherent,
}

/// Decoded features; only the ones that the driver uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The registers from which the other fields were decoded.
    pub ids: IdRegisters,
    /// Output address size in bits.
    pub oas: u32,
    /// Break-before-make level (SMMU_IDR3.BBML), 0 to 2.
    pub bbml: u32,
    /// Coherent only if both SMMU_IDR0.COHACC and `dma-coherent` of the device tree are set.
    pub coherent: Coherency,
    /// StreamID bits of the hardware.
    pub sid_bits: u32,
    /// SubstreamID bits, 0 when substreams are not supported.
    pub ssid_bits: u32,
    /// VMID bits: 8 or 16.
    pub vmid_bits: u32,
    /// Log2 of the largest command queue.
    pub cmdq_log2: u32,
    /// Log2 of the largest event queue.
    pub evtq_log2: u32,
}

impl Features {
    /// Decodes `ids`; `firmware` is the device tree's `dma-coherent`.
    pub fn decode(ids: IdRegisters, firmware: Coherency) -> Self {
        let coherent = if get32(idr0::COHACC, ids.idr0) == 1 { firmware } else { Coherency::NonCoherent };
        Self {
            ids,
            oas: oas_bits(get32(idr5::OAS, ids.idr5)),
            bbml: get32(idr3::BBML, ids.idr3),
            coherent,
            sid_bits: get32(idr1::SIDSIZE, ids.idr1),
            ssid_bits: get32(idr1::SSIDSIZE, ids.idr1),
            vmid_bits: if get32(idr0::VMID16, ids.idr0) == 1 { 16 } else { 8 },
            cmdq_log2: get32(idr1::CMDQS, ids.idr1),
            evtq_log2: get32(idr1::EVENTQS, ids.idr1),
        }
    }

    /// 2-level stream tables are supported.
    pub fn two_level(&self) -> bool {
        get32(idr0::ST_LEVEL, self.ids.idr0) == idr0::ST_TWO_LEVEL
    }

    /// Range invalidation is supported.
    pub fn ril(&self) -> bool {
        get32(idr3::RIL, self.ids.idr3) == 1
    }

    /// ATS is supported: Translated transactions must be checked.
    pub fn ats(&self) -> bool {
        get32(idr0::ATS, self.ids.idr0) == 1
    }

    /// Page requests are supported: their interrupt must be disabled.
    pub fn pri(&self) -> bool {
        get32(idr0::PRI, self.ids.idr0) == 1
    }

    /// EL2 contexts are supported: their TLB entries must be invalidated at take-over.
    pub fn hyp(&self) -> bool {
        get32(idr0::HYP, self.ids.idr0) == 1
    }

    /// Stalls are supported but not forced.
    pub fn can_stall(&self) -> bool {
        get32(idr0::STALL_MODEL, self.ids.idr0) == idr0::STALL_BOTH
    }

    /// An STE can override whether a read is an instruction fetch or a data read.
    pub fn attr_perms_ovr(&self) -> bool {
        get32(idr1::ATTR_PERMS_OVR, self.ids.idr1) == 1
    }

    /// Shareability of transactions can be overridden by an STE.
    pub fn attr_types_ovr(&self) -> bool {
        get32(idr1::ATTR_TYPES_OVR, self.ids.idr1) == 1
    }
}

/// Bits of an address size encoding, of IDR5.OAS and S2PS [S 6.3.6]; 56-bit and reserved values count as 52, the
/// largest that the tables of this crate's users can produce.
pub(crate) fn oas_bits(encoding: u32) -> u32 {
    match encoding {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        _ => 52,
    }
}
