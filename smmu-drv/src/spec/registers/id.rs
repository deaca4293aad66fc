//! Fields of the ID registers [S 6.3.1 to 6.3.7].

use super::{Field32, bits32};

/// Fields of SMMU_IDR0 [S 6.3.1].
pub mod idr0 {
    use super::{Field32, bits32};
    /// Stage 2 is implemented.
    pub const S2P: Field32 = bits32(0, 0);
    /// Stage 1 is implemented.
    pub const S1P: Field32 = bits32(1, 1);
    /// Translation table formats.
    pub const TTF: Field32 = bits32(3, 2);
    /// Accesses of the SMMU itself are coherent.
    pub const COHACC: Field32 = bits32(4, 4);
    /// Broadcast TLB maintenance.
    pub const BTM: Field32 = bits32(5, 5);
    /// Hardware update of access flag and dirty state.
    pub const HTTU: Field32 = bits32(7, 6);
    /// Dormant hint.
    pub const DORMHINT: Field32 = bits32(8, 8);
    /// EL2 contexts.
    pub const HYP: Field32 = bits32(9, 9);
    /// PCIe ATS.
    pub const ATS: Field32 = bits32(10, 10);
    /// Split-stage ATS is not supported.
    pub const NS1ATS: Field32 = bits32(11, 11);
    /// 16-bit ASIDs.
    pub const ASID16: Field32 = bits32(12, 12);
    /// Message-signalled interrupts.
    pub const MSI: Field32 = bits32(13, 13);
    /// WFE wake-up events.
    pub const SEV: Field32 = bits32(14, 14);
    /// Address translation operations.
    pub const ATOS: Field32 = bits32(15, 15);
    /// Page request interface.
    pub const PRI: Field32 = bits32(16, 16);
    /// VMID wildcards.
    pub const VMW: Field32 = bits32(17, 17);
    /// 16-bit VMIDs.
    pub const VMID16: Field32 = bits32(18, 18);
    /// 2-level context descriptor tables.
    pub const CD2L: Field32 = bits32(19, 19);
    /// Virtual ATOS page.
    pub const VATOS: Field32 = bits32(20, 20);
    /// Endianness of table walks.
    pub const TTENDIAN: Field32 = bits32(22, 21);
    /// ATS request errors are recorded.
    pub const ATSRECERR: Field32 = bits32(23, 23);
    /// Stall model.
    pub const STALL_MODEL: Field32 = bits32(25, 24);
    /// Terminate model.
    pub const TERM_MODEL: Field32 = bits32(26, 26);
    /// Stream table levels.
    pub const ST_LEVEL: Field32 = bits32(28, 27);
    /// Realm management extension.
    pub const RME_IMPL: Field32 = bits32(30, 30);

    /// [`TTF`]: AArch64 tables only.
    pub const TTF_AARCH64: u32 = 0b10;
    /// [`TTF`]: AArch32 and AArch64 tables.
    pub const TTF_BOTH: u32 = 0b11;
    /// [`STALL_MODEL`]: stall and terminate.
    pub const STALL_BOTH: u32 = 0b00;
    /// [`STALL_MODEL`]: no stall.
    pub const STALL_NONE: u32 = 0b01;
    /// [`STALL_MODEL`]: every fault that can stall does.
    pub const STALL_FORCED: u32 = 0b10;
    /// [`TTENDIAN`]: big-endian walks only.
    pub const TTENDIAN_BIG: u32 = 0b11;
    /// [`ST_LEVEL`]: 2-level stream tables in addition to linear ones.
    pub const ST_TWO_LEVEL: u32 = 0b01;
}

/// Fields of SMMU_IDR1 [S 6.3.2].
pub mod idr1 {
    use super::{Field32, bits32};
    /// Bits of a StreamID.
    pub const SIDSIZE: Field32 = bits32(5, 0);
    /// Bits of a SubstreamID.
    pub const SSIDSIZE: Field32 = bits32(10, 6);
    /// Log2 of the largest PRI queue.
    pub const PRIQS: Field32 = bits32(15, 11);
    /// Log2 of the largest event queue.
    pub const EVENTQS: Field32 = bits32(20, 16);
    /// Log2 of the largest command queue.
    pub const CMDQS: Field32 = bits32(25, 21);
    /// Permission attributes can be overridden.
    pub const ATTR_PERMS_OVR: Field32 = bits32(26, 26);
    /// Type attributes can be overridden.
    pub const ATTR_TYPES_OVR: Field32 = bits32(27, 27);
    /// Preset bases are offsets.
    pub const REL: Field32 = bits32(28, 28);
    /// Queue bases are fixed.
    pub const QUEUES_PRESET: Field32 = bits32(29, 29);
    /// Table bases are fixed.
    pub const TABLES_PRESET: Field32 = bits32(30, 30);
    /// Enhanced command queues.
    pub const ECMDQ: Field32 = bits32(31, 31);
}

/// Fields of SMMU_IDR3 [S 6.3.4].
pub mod idr3 {
    use super::{Field32, bits32};
    /// Hierarchical attribute disables.
    pub const HAD: Field32 = bits32(2, 2);
    /// Page-based hardware attributes.
    pub const PBHA: Field32 = bits32(3, 3);
    /// Execute-never by exception level in stage 2.
    pub const XNX: Field32 = bits32(4, 4);
    /// PASID in page requests.
    pub const PPS: Field32 = bits32(5, 5);
    /// Memory partitioning.
    pub const MPAM: Field32 = bits32(7, 7);
    /// Stage 2 forced write-back.
    pub const FWB: Field32 = bits32(8, 8);
    /// Small translation tables.
    pub const STT: Field32 = bits32(9, 9);
    /// Range invalidation and level hints.
    pub const RIL: Field32 = bits32(10, 10);
    /// Break-before-make level.
    pub const BBML: Field32 = bits32(12, 11);
}

/// Fields of SMMU_IDR5 [S 6.3.6].
pub mod idr5 {
    use super::{Field32, bits32};
    /// Output address size.
    pub const OAS: Field32 = bits32(2, 0);
    /// 4K granule.
    pub const GRAN4K: Field32 = bits32(4, 4);
    /// 16K granule.
    pub const GRAN16K: Field32 = bits32(5, 5);
    /// 64K granule.
    pub const GRAN64K: Field32 = bits32(6, 6);
    /// 52-bit addresses with small granules.
    pub const DS: Field32 = bits32(7, 7);
    /// Virtual address extension.
    pub const VAX: Field32 = bits32(11, 10);
    /// Most stalled transactions.
    pub const STALL_MAX: Field32 = bits32(31, 16);
}

/// Fields of SMMU_IIDR [S 6.3.7].
pub mod iidr {
    use super::{Field32, bits32};
    /// Part number.
    pub const PRODUCTID: Field32 = bits32(31, 20);
    /// Major revision (the n of rnpm).
    pub const VARIANT: Field32 = bits32(19, 16);
    /// Minor revision (the m of rnpm).
    pub const REVISION: Field32 = bits32(15, 12);
    /// JEP106 code of the implementer.
    pub const IMPLEMENTER: Field32 = bits32(11, 0);
    /// [`IMPLEMENTER`]: Arm.
    pub const ARM: u32 = 0x43b;
    /// [`PRODUCTID`]: Arm MMU-600.
    pub const MMU_600: u32 = 0x483;
    /// [`PRODUCTID`]: Arm MMU-700.
    pub const MMU_700: u32 = 0x487;
}
