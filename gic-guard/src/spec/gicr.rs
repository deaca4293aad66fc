//! Registers of a redistributor [G 12.10, 12.11]: offsets from the base of its RD frame. The VLPI frame follows the SGI
//! frame.

/// GICR_CTLR, 32 bits [G 12.11].
pub const CTLR: u32 = 0x0000;
/// GICR_IIDR, 32 bits [G 12.11].
pub const IIDR: u32 = 0x0004;
/// GICR_TYPER, 64 bits [G 12.11].
pub const TYPER: u32 = 0x0008;
/// GICR_STATUSR, 32 bits [G 12.11]. Optional.
pub const STATUSR: u32 = 0x0010;
/// GICR_WAKER, 32 bits [G 12.11].
pub const WAKER: u32 = 0x0014;
/// GICR_PROPBASER, 64 bits [G 12.11].
pub const PROPBASER: u32 = 0x0070;
/// GICR_PENDBASER, 64 bits [G 12.11].
pub const PENDBASER: u32 = 0x0078;
/// GICR_PIDR2, 32 bits [G 12.11].
pub const PIDR2: u32 = 0xffe8;
/// GICR_VPROPBASER, 64 bits, in the VLPI frame [G 12.11].
pub const VPROPBASER: u32 = 0x2_0070;
/// GICR_VPENDBASER, 64 bits, in the VLPI frame [G 12.11].
pub const VPENDBASER: u32 = 0x2_0078;

/// Fields of GICR_CTLR.
pub mod ctlr {
    use crate::spec::{Field32, bits32};
    /// LPIs are delivered.
    pub const ENABLE_LPIS: Field32 = bits32(0, 0);
    /// EnableLPIs can be cleared.
    pub const CES: Field32 = bits32(1, 1);
    /// A register write is in progress.
    pub const RWP: Field32 = bits32(3, 3);
    /// DPG0, DPG1NS, DPG1S: this CPU is not a target of the 1-of-N interrupts of a group.
    pub const DPG: Field32 = bits32(26, 24);
    /// Upstream writes are in progress.
    pub const UWP: Field32 = bits32(31, 31);
}

/// Fields of GICR_TYPER.
pub mod typer {
    use crate::spec::{Field64, bits64};
    /// Physical LPIs.
    pub const PLPIS: Field64 = bits64(0, 0);
    /// Virtual LPIs: there is a VLPI frame.
    pub const VLPIS: Field64 = bits64(1, 1);
    /// Last redistributor of the region.
    pub const LAST: Field64 = bits64(4, 4);
    /// GICR_CTLR.DPG* exist.
    pub const DPGS: Field64 = bits64(5, 5);
    /// GICv4.1: GICR_VPROPBASER has the address of a table of vPEs.
    pub const RVPEID: Field64 = bits64(7, 7);
    /// Processor number of the CPU in ITS commands.
    pub const PROCESSOR_NUMBER: Field64 = bits64(23, 8);
    /// The set of redistributors that share the configuration table.
    pub const COMMON_LPI_AFF: Field64 = bits64(25, 24);
    /// Number of PPIs.
    pub const PPI_NUM: Field64 = bits64(31, 27);
    /// Affinity.
    pub const AFFINITY: Field64 = bits64(63, 32);
}

/// Fields of GICR_WAKER.
pub mod waker {
    use crate::spec::{Field32, bits32};
    /// Software has requested sleep of the CPU interface.
    pub const PROCESSOR_SLEEP: Field32 = bits32(1, 1);
    /// The interface to the CPU is quiescent.
    pub const CHILDREN_ASLEEP: Field32 = bits32(2, 2);
}

/// Fields of GICR_PROPBASER.
pub mod propbaser {
    use crate::spec::{Field64, bits64};
    /// INTID bits, less one.
    pub const ID_BITS: Field64 = bits64(4, 0);
    /// Inner cacheability.
    pub const INNER: Field64 = bits64(9, 7);
    /// Shareability.
    pub const SHAREABILITY: Field64 = bits64(11, 10);
    /// Physical address, not shifted.
    pub const ADDRESS: Field64 = bits64(51, 12);
    /// Outer cacheability.
    pub const OUTER: Field64 = bits64(58, 56);
}

/// Fields of GICR_PENDBASER; attributes as in [`propbaser`].
pub mod pendbaser {
    use crate::spec::{Field64, bits64};
    /// Physical address, not shifted.
    pub const ADDRESS: Field64 = bits64(51, 16);
    /// The table is zero. Write-only.
    pub const PTZ: Field64 = bits64(62, 62);
}

/// Fields of GICR_VPENDBASER, and of GICR_VPROPBASER of GICv4.1.
pub mod vpendbaser {
    use crate::spec::{Field64, bits64};
    /// Hardware is still writing. Only in GICR_VPENDBASER.
    pub const DIRTY: Field64 = bits64(60, 60);
    /// The register is in use.
    pub const VALID: Field64 = bits64(63, 63);
}
