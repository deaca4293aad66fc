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

mod id;

pub use id::{idr0, idr1, idr3, idr5, iidr};

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
    /// Table address, not shifted: bits \[55:6\].
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
    /// Queue address, not shifted: bits \[55:5\].
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

/// Error codes of SMMU_CMDQ_CONS.ERR that the host can see [S 7.1]. Not included: CERROR_NONE and CERROR_ATC_INV_SYNC.
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
    /// CFG0: MSI address, not shifted: bits \[55:2\].
    pub const ADDR: Field64 = bits64(55, 2);
    /// CFG2: memory attribute and shareability.
    pub const ATTR: Field32 = bits32(5, 0);
}
