//! Stream table: level-1 descriptors [S 5.1] and stream table entries [S 5.2].

use super::{Field64, bits64};

/// Bytes of a stream table entry.
pub const STE_SIZE: usize = 64;
/// Bytes of a level-1 stream table descriptor.
pub const L1STD_SIZE: usize = 8;

/// Level-1 stream table descriptor [S 5.1].
pub mod l1std {
    use super::{Field64, bits64};
    /// 0: invalid; n: the level-2 table has 2^(n-1) entries.
    pub const SPAN: Field64 = bits64(4, 0);
    /// Level-2 table address, not shifted: bits \[55:6\].
    pub const L2PTR: Field64 = bits64(55, 6);
}

/// Dword 0 [S 5.2], bits \[63:0\] of the entry.
pub mod dw0 {
    use super::{Field64, bits64};
    /// The entry is valid.
    pub const V: Field64 = bits64(0, 0);
    /// Which stages translate.
    pub const CONFIG: Field64 = bits64(3, 1);
    /// Layout of the context descriptor table.
    pub const S1FMT: Field64 = bits64(5, 4);
    /// Context descriptor table address, not shifted: bits \[55:6\].
    pub const S1CONTEXTPTR: Field64 = bits64(55, 6);
    /// Log2 of the number of context descriptors.
    pub const S1CDMAX: Field64 = bits64(63, 59);

    /// [`CONFIG`]: abort without an event.
    pub const CONFIG_ABORT: u64 = 0b000;
    /// [`CONFIG`]: no translation.
    pub const CONFIG_BYPASS: u64 = 0b100;
    /// [`CONFIG`]: stage 1 only.
    pub const CONFIG_S1: u64 = 0b101;
    /// [`CONFIG`]: stage 2 only.
    pub const CONFIG_S2: u64 = 0b110;
    /// [`CONFIG`]: both stages.
    pub const CONFIG_NESTED: u64 = 0b111;

    /// [`S1FMT`]: linear.
    pub const S1FMT_LINEAR: u64 = 0b00;
    /// [`S1FMT`]: two levels, 4K leaves.
    pub const S1FMT_4K: u64 = 0b01;
    /// [`S1FMT`]: two levels, 64K leaves.
    pub const S1FMT_64K: u64 = 0b10;
}

/// Dword 1 [S 5.2], bits \[127:64\] of the entry.
pub mod dw1 {
    use super::{Field64, bits64};
    /// Handling of transactions without a SubstreamID.
    pub const S1DSS: Field64 = bits64(1, 0);
    /// Inner cacheability of context descriptor fetches.
    pub const S1CIR: Field64 = bits64(3, 2);
    /// Outer cacheability of context descriptor fetches.
    pub const S1COR: Field64 = bits64(5, 4);
    /// Shareability of context descriptor fetches.
    pub const S1CSH: Field64 = bits64(7, 6);
    /// Destructive reads.
    pub const DRE: Field64 = bits64(12, 12);
    /// Contiguous hint.
    pub const CONT: Field64 = bits64(16, 13);
    /// Directed cache prefetch.
    pub const DCP: Field64 = bits64(17, 17);
    /// PASID in page request responses.
    pub const PPAR: Field64 = bits64(18, 18);
    /// Events may be merged.
    pub const MEV: Field64 = bits64(19, 19);
    /// Stage 2 forced write-back.
    pub const S2FWB: Field64 = bits64(25, 25);
    /// Stage 1 cannot stall.
    pub const S1STALLD: Field64 = bits64(27, 27);
    /// ATS.
    pub const EATS: Field64 = bits64(29, 28);
    /// StreamWorld.
    pub const STRW: Field64 = bits64(31, 30);
    /// Memory type override.
    pub const MTCFG: Field64 = bits64(36, 36);
    /// Shareability override.
    pub const SHCFG: Field64 = bits64(45, 44);

    /// Instruction or data override.
    pub const INSTCFG: Field64 = bits64(51, 50);

    /// [`S1DSS`]: terminate.
    pub const S1DSS_TERMINATE: u64 = 0b00;
    /// [`S1DSS`]: bypass stage 1.
    pub const S1DSS_BYPASS: u64 = 0b01;
    /// [`S1DSS`]: use context descriptor 0.
    pub const S1DSS_SSID0: u64 = 0b10;
    /// [`S1CSH`]: reserved, behaves as non-shareable.
    pub const SH_RESERVED: u64 = 0b01;
    /// [`INSTCFG`]: data.
    pub const INSTCFG_DATA: u64 = 0b10;
    /// [`SHCFG`]: use the incoming shareability.
    pub const SHCFG_INCOMING: u64 = 0b01;
}

/// Dword 2 [S 5.2], bits \[191:128\] of the entry.
pub mod dw2 {
    use super::{Field64, bits64};
    /// VMID that tags the stream's translations.
    pub const S2VMID: Field64 = bits64(15, 0);
    /// Input size, as VTCR_EL2.T0SZ.
    pub const S2T0SZ: Field64 = bits64(37, 32);
    /// Start level, as VTCR_EL2.SL0.
    pub const S2SL0: Field64 = bits64(39, 38);
    /// Inner cacheability of walks.
    pub const S2IR0: Field64 = bits64(41, 40);
    /// Outer cacheability of walks.
    pub const S2OR0: Field64 = bits64(43, 42);
    /// Shareability of walks.
    pub const S2SH0: Field64 = bits64(45, 44);
    /// Granule.
    pub const S2TG: Field64 = bits64(47, 46);
    /// Output size.
    pub const S2PS: Field64 = bits64(50, 48);
    /// AArch64 tables.
    pub const S2AA64: Field64 = bits64(51, 51);
    /// Big-endian tables.
    pub const S2ENDI: Field64 = bits64(52, 52);
    /// Access flag faults are disabled.
    pub const S2AFFD: Field64 = bits64(53, 53);
    /// Walks of stage 1 to device memory fault.
    pub const S2PTW: Field64 = bits64(54, 54);
    /// Hardware dirty state.
    pub const S2HD: Field64 = bits64(55, 55);
    /// Hardware access flag.
    pub const S2HA: Field64 = bits64(56, 56);
    /// Faults stall.
    pub const S2S: Field64 = bits64(57, 57);
    /// Faults are recorded.
    pub const S2R: Field64 = bits64(58, 58);
}

/// Dword 3 [S 5.2], bits \[255:192\] of the entry.
pub mod dw3 {
    use super::{Field64, bits64};
    /// Stage-2 table address, not shifted: bits \[51:4\]; the four above are reserved with VMSAv8-64.
    pub const S2TTB: Field64 = bits64(51, 4);
}
