//! Registers of page 0 and page 1 [S 6.2, 6.3].

use super::{Field32, Field64, bits32, bits64};

/// Byte offset of page 1 from the base of page 0 [S 6.1].
pub const PAGE1: u32 = 0x1_0000;
/// Bytes that the two pages cover.
pub const SIZE: u32 = 0x2_0000;

/// SMMU_IDR0 [S 6.3.1].
pub const IDR0: u32 = 0x00;
/// SMMU_IDR1 [S 6.3.2].
pub const IDR1: u32 = 0x04;
/// SMMU_IDR2 [S 6.3.3].
pub const IDR2: u32 = 0x08;
/// SMMU_IDR3 [S 6.3.4].
pub const IDR3: u32 = 0x0c;
/// SMMU_IDR4 [S 6.3.5].
pub const IDR4: u32 = 0x10;
/// SMMU_IDR5 [S 6.3.6].
pub const IDR5: u32 = 0x14;
/// SMMU_IIDR [S 6.3.7].
pub const IIDR: u32 = 0x18;
/// SMMU_AIDR [S 6.3.8].
pub const AIDR: u32 = 0x1c;
/// SMMU_CR0 [S 6.3.9].
pub const CR0: u32 = 0x20;
/// SMMU_CR0ACK [S 6.3.10].
pub const CR0ACK: u32 = 0x24;
/// SMMU_CR1 [S 6.3.11].
pub const CR1: u32 = 0x28;
/// SMMU_CR2 [S 6.3.12].
pub const CR2: u32 = 0x2c;
/// SMMU_STATUSR [S 6.3.13].
pub const STATUSR: u32 = 0x40;
/// SMMU_GBPA [S 6.3.14].
pub const GBPA: u32 = 0x44;
/// SMMU_AGBPA [S 6.3.15].
pub const AGBPA: u32 = 0x48;
/// SMMU_IRQ_CTRL [S 6.3.17].
pub const IRQ_CTRL: u32 = 0x50;
/// SMMU_IRQ_CTRLACK [S 6.3.18].
pub const IRQ_CTRLACK: u32 = 0x54;
/// SMMU_GERROR [S 6.3.19].
pub const GERROR: u32 = 0x60;
/// SMMU_GERRORN [S 6.3.20].
pub const GERRORN: u32 = 0x64;
/// SMMU_GERROR_IRQ_CFG0, 64-bit [S 6.3.21].
pub const GERROR_IRQ_CFG0: u32 = 0x68;
/// SMMU_GERROR_IRQ_CFG1 [S 6.3.22].
pub const GERROR_IRQ_CFG1: u32 = 0x70;
/// SMMU_GERROR_IRQ_CFG2 [S 6.3.23].
pub const GERROR_IRQ_CFG2: u32 = 0x74;
/// SMMU_STRTAB_BASE, 64-bit [S 6.3.24].
pub const STRTAB_BASE: u32 = 0x80;
/// SMMU_STRTAB_BASE_CFG [S 6.3.25].
pub const STRTAB_BASE_CFG: u32 = 0x88;
/// SMMU_CMDQ_BASE, 64-bit [S 6.3.26].
pub const CMDQ_BASE: u32 = 0x90;
/// SMMU_CMDQ_PROD [S 6.3.27].
pub const CMDQ_PROD: u32 = 0x98;
/// SMMU_CMDQ_CONS [S 6.3.28].
pub const CMDQ_CONS: u32 = 0x9c;
/// SMMU_EVENTQ_BASE, 64-bit [S 6.3.29].
pub const EVENTQ_BASE: u32 = 0xa0;
/// SMMU_EVENTQ_PROD, in page 1 [S 6.3.95].
pub const EVENTQ_PROD: u32 = 0x1_00a8;
/// SMMU_EVENTQ_CONS, in page 1 [S 6.3.96].
pub const EVENTQ_CONS: u32 = 0x1_00ac;
/// SMMU_EVENTQ_IRQ_CFG0, 64-bit [S 6.3.30].
pub const EVENTQ_IRQ_CFG0: u32 = 0xb0;
/// SMMU_EVENTQ_IRQ_CFG1 [S 6.3.31].
pub const EVENTQ_IRQ_CFG1: u32 = 0xb8;
/// SMMU_EVENTQ_IRQ_CFG2 [S 6.3.32].
pub const EVENTQ_IRQ_CFG2: u32 = 0xbc;
/// SMMU_PRIQ_BASE, 64-bit [S 6.3.33].
pub const PRIQ_BASE: u32 = 0xc0;
/// SMMU_PRIQ_PROD, in page 1 [S 6.3.97].
pub const PRIQ_PROD: u32 = 0x1_00c8;
/// SMMU_PRIQ_CONS, in page 1 [S 6.3.98].
pub const PRIQ_CONS: u32 = 0x1_00cc;
/// SMMU_PRIQ_IRQ_CFG0, 64-bit [S 6.3.34].
pub const PRIQ_IRQ_CFG0: u32 = 0xd0;
/// SMMU_PRIQ_IRQ_CFG1 [S 6.3.35].
pub const PRIQ_IRQ_CFG1: u32 = 0xd8;
/// SMMU_PRIQ_IRQ_CFG2 [S 6.3.36].
pub const PRIQ_IRQ_CFG2: u32 = 0xdc;
/// SMMU_IDR6 [S 6.3.45].
pub const IDR6: u32 = 0x190;

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
    /// Records errors of ATS requests.
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

/// SMMU_CR0 and SMMU_CR0ACK [S 6.3.9].
pub mod cr0 {
    bitflags::bitflags! {
        /// Bits of SMMU_CR0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Cr0: u32 {
            /// Translation is enabled.
            const SMMUEN = 1 << 0;
            /// The PRI queue is enabled.
            const PRIQEN = 1 << 1;
            /// The event queue is enabled.
            const EVENTQEN = 1 << 2;
            /// The command queue is enabled.
            const CMDQEN = 1 << 3;
            /// ATS Translated traffic is checked against the stream table.
            const ATSCHK = 1 << 4;
        }
    }
}

/// SMMU_CR1 [S 6.3.11].
pub mod cr1 {
    use super::{Field32, bits32};
    /// Inner cacheability of queues.
    pub const QUEUE_IC: Field32 = bits32(1, 0);
    /// Outer cacheability of queues.
    pub const QUEUE_OC: Field32 = bits32(3, 2);
    /// Shareability of queues.
    pub const QUEUE_SH: Field32 = bits32(5, 4);
    /// Inner cacheability of tables.
    pub const TABLE_IC: Field32 = bits32(7, 6);
    /// Outer cacheability of tables.
    pub const TABLE_OC: Field32 = bits32(9, 8);
    /// Shareability of tables.
    pub const TABLE_SH: Field32 = bits32(11, 10);
    /// Write-back cacheable.
    pub const WB: u32 = 1;
    /// Non-cacheable.
    pub const NC: u32 = 0;
    /// Inner shareable.
    pub const ISH: u32 = 3;
    /// Outer shareable.
    pub const OSH: u32 = 2;
}

/// SMMU_CR2 [S 6.3.12].
pub mod cr2 {
    bitflags::bitflags! {
        /// Bits of SMMU_CR2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Cr2: u32 {
            /// EL2 contexts use the E2H regime.
            const E2H = 1 << 0;
            /// C_BAD_STREAMID is recorded.
            const RECINVSID = 1 << 1;
            /// Private TLB maintenance: broadcasts are ignored.
            const PTM = 1 << 2;
        }
    }
}

/// SMMU_GBPA [S 6.3.14].
pub mod gbpa {
    use super::{Field32, bits32};
    /// Shareability override.
    pub const SHCFG: Field32 = bits32(13, 12);
    /// Incoming transactions are terminated with an abort.
    pub const ABORT: Field32 = bits32(20, 20);
    /// Update in progress.
    pub const UPDATE: Field32 = bits32(31, 31);
}

/// SMMU_IRQ_CTRL and SMMU_IRQ_CTRLACK [S 6.3.17].
pub mod irq_ctrl {
    bitflags::bitflags! {
        /// Bits of SMMU_IRQ_CTRL.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct IrqCtrl: u32 {
            /// Global errors.
            const GERROR_IRQEN = 1 << 0;
            /// PRI queue.
            const PRIQ_IRQEN = 1 << 1;
            /// Event queue.
            const EVENTQ_IRQEN = 1 << 2;
        }
    }
}

/// SMMU_GERROR and SMMU_GERRORN [S 6.3.19].
pub mod gerror {
    bitflags::bitflags! {
        /// Error toggles; an error is active while its bits in GERROR and GERRORN differ.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Gerror: u32 {
            /// A command could not be consumed.
            const CMDQ_ERR = 1 << 0;
            /// A write to the event queue aborted.
            const EVENTQ_ABT_ERR = 1 << 2;
            /// A write to the PRI queue aborted.
            const PRIQ_ABT_ERR = 1 << 3;
            /// The MSI of a CMD_SYNC aborted.
            const MSI_CMDQ_ABT_ERR = 1 << 4;
            /// The MSI of the event queue aborted.
            const MSI_EVENTQ_ABT_ERR = 1 << 5;
            /// The MSI of the PRI queue aborted.
            const MSI_PRIQ_ABT_ERR = 1 << 6;
            /// The MSI of GERROR aborted.
            const MSI_GERROR_ABT_ERR = 1 << 7;
            /// The SMMU entered service failure mode.
            const SFM_ERR = 1 << 8;
        }
    }
}

/// SMMU_STRTAB_BASE [S 6.3.24].
pub mod strtab_base {
    use super::{Field64, bits64};
    /// Table address, in place: bits \[55:6\].
    pub const ADDR: Field64 = bits64(55, 6);
    /// Read-allocate hint.
    pub const RA: Field64 = bits64(62, 62);
}

/// SMMU_STRTAB_BASE_CFG [S 6.3.25].
pub mod strtab_base_cfg {
    use super::{Field32, bits32};
    /// Log2 of the number of StreamIDs.
    pub const LOG2SIZE: Field32 = bits32(5, 0);
    /// StreamID bits that a level-2 table resolves.
    pub const SPLIT: Field32 = bits32(10, 6);
    /// Format.
    pub const FMT: Field32 = bits32(17, 16);
    /// [`FMT`]: linear.
    pub const LINEAR: u32 = 0;
    /// [`FMT`]: two levels.
    pub const TWO_LEVEL: u32 = 1;
}

/// SMMU_CMDQ_BASE and SMMU_EVENTQ_BASE [S 6.3.26, 6.3.29].
pub mod queue_base {
    use super::{Field64, bits64};
    /// Log2 of the number of entries.
    pub const LOG2SIZE: Field64 = bits64(4, 0);
    /// Queue address, in place: bits \[55:5\].
    pub const ADDR: Field64 = bits64(55, 5);
    /// Allocation hint: read-allocate (command queue) or write-allocate (event queue).
    pub const ALLOC: Field64 = bits64(62, 62);
}

/// Queue indices [S 6.3.27, 6.3.28, 6.3.95, 6.3.96].
pub mod queue_index {
    use super::{Field32, bits32};
    /// Index with its wrap bit.
    pub const INDEX: Field32 = bits32(19, 0);
    /// SMMU_CMDQ_CONS: error code.
    pub const ERR: Field32 = bits32(30, 24);
    /// SMMU_EVENTQ_PROD: overflow flag; SMMU_EVENTQ_CONS: its acknowledgement.
    pub const OVERFLOW: Field32 = bits32(31, 31);
}

/// Error codes of SMMU_CMDQ_CONS.ERR that the host can see [S 7.1]. The others are those of ATS and of no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cerror {
    /// Illegal command.
    Ill = 1,
    /// The command could not be fetched.
    Abt = 2,
}

/// *_IRQ_CFG0, _CFG1 and _CFG2 [S 6.3.21 to 6.3.23].
pub mod irq_cfg {
    use super::{Field32, Field64, bits32, bits64};
    /// CFG0: MSI address, in place: bits \[55:2\].
    pub const ADDR: Field64 = bits64(55, 2);
    /// CFG2: memory attribute and shareability.
    pub const ATTR: Field32 = bits32(5, 0);
}
