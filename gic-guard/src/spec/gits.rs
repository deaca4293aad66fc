//! Registers of an ITS [G 12.18, 12.19]: offsets from the base of its control frame.

/// GITS_CTLR, 32 bits [G 12.19].
pub const CTLR: u32 = 0x0000;
/// GITS_IIDR, 32 bits [G 12.19].
pub const IIDR: u32 = 0x0004;
/// GITS_TYPER, 64 bits [G 12.19].
pub const TYPER: u32 = 0x0008;
/// GITS_STATUSR, 32 bits [G 12.19]. Optional.
pub const STATUSR: u32 = 0x0040;
/// GITS_CBASER, 64 bits [G 12.19].
pub const CBASER: u32 = 0x0080;
/// GITS_CWRITER, 64 bits [G 12.19].
pub const CWRITER: u32 = 0x0088;
/// GITS_CREADR, 64 bits [G 12.19].
pub const CREADR: u32 = 0x0090;
/// GITS_BASER0, 64 bits [G 12.19].
pub const BASER0: u32 = 0x0100;
/// GITS_BASER1.
pub const BASER1: u32 = 0x0108;
/// GITS_BASER2.
pub const BASER2: u32 = 0x0110;
/// GITS_BASER3.
pub const BASER3: u32 = 0x0118;
/// GITS_BASER4.
pub const BASER4: u32 = 0x0120;
/// GITS_BASER5.
pub const BASER5: u32 = 0x0128;
/// GITS_BASER6.
pub const BASER6: u32 = 0x0130;
/// GITS_BASER7.
pub const BASER7: u32 = 0x0138;
/// GITS_PIDR2, 32 bits [G 12.19].
pub const PIDR2: u32 = 0xffe8;

/// The GITS_BASER registers, by number.
pub const BASERS: [u32; 8] = [BASER0, BASER1, BASER2, BASER3, BASER4, BASER5, BASER6, BASER7];

/// Fields of GITS_CTLR.
pub mod ctlr {
    use crate::spec::{Field32, bits32};
    /// Interrupts are translated and commands are processed.
    pub const ENABLED: Field32 = bits32(0, 0);
    /// Disabled, and every write to memory is complete.
    pub const QUIESCENT: Field32 = bits32(31, 31);
}

/// Fields of GITS_TYPER.
pub mod typer {
    use crate::spec::{Field64, bits64};
    /// Physical LPIs.
    pub const PHYSICAL: Field64 = bits64(0, 0);
    /// Collections in memory are in addition to those of HCC.
    pub const CCT: Field64 = bits64(2, 2);
    /// Bytes of an ITT entry, less one.
    pub const ITT_ENTRY_SIZE: Field64 = bits64(7, 4);
    /// EventID bits, less one.
    pub const ID_BITS: Field64 = bits64(12, 8);
    /// DeviceID bits, less one.
    pub const DEVBITS: Field64 = bits64(17, 13);
    /// RDbase is an address, not a processor number.
    pub const PTA: Field64 = bits64(19, 19);
    /// Collections that need no memory.
    pub const HCC: Field64 = bits64(31, 24);
    /// Collection ID bits, less one, while CIL is 1.
    pub const CIDBITS: Field64 = bits64(35, 32);
    /// CIDbits is valid; 16 bits otherwise.
    pub const CIL: Field64 = bits64(36, 36);
}

/// Fields of GITS_CBASER.
pub mod cbaser {
    use crate::spec::{Field64, bits64};
    /// 4 KiB pages, less one.
    pub const SIZE: Field64 = bits64(7, 0);
    /// Shareability.
    pub const SHAREABILITY: Field64 = bits64(11, 10);
    /// Physical address, not shifted; bits \[15:12\] must be zero.
    pub const ADDRESS: Field64 = bits64(51, 12);
    /// Outer cacheability.
    pub const OUTER: Field64 = bits64(55, 53);
    /// Inner cacheability.
    pub const INNER: Field64 = bits64(61, 59);
    /// The queue is valid.
    pub const VALID: Field64 = bits64(63, 63);
}

/// Fields of GITS_CWRITER and GITS_CREADR.
pub mod queue {
    use crate::spec::{Field64, bits64};
    /// CWRITER: process the command at CREADR again.
    pub const RETRY: Field64 = bits64(0, 0);
    /// CREADR: the queue stopped at a command error.
    pub const STALLED: Field64 = bits64(0, 0);
    /// Offset in bytes, not shifted: a multiple of 32.
    pub const OFFSET: Field64 = bits64(19, 5);
}

/// Fields of GITS_BASER.
pub mod baser {
    use crate::spec::{Field64, bits64};
    /// Pages, less one.
    pub const SIZE: Field64 = bits64(7, 0);
    /// Bytes of a page.
    pub const PAGE_SIZE: Field64 = bits64(9, 8);
    /// Shareability.
    pub const SHAREABILITY: Field64 = bits64(11, 10);
    /// Physical address with pages of 4 and 16 KiB, not shifted.
    pub const ADDRESS: Field64 = bits64(47, 12);
    /// Physical address \[47:16\] with pages of 64 KiB, not shifted.
    pub const ADDRESS_64K: Field64 = bits64(47, 16);
    /// Physical address \[51:48\] with pages of 64 KiB.
    pub const ADDRESS_HIGH_64K: Field64 = bits64(15, 12);
    /// Bytes of an entry, less one. Read-only.
    pub const ENTRY_SIZE: Field64 = bits64(52, 48);
    /// Outer cacheability.
    pub const OUTER: Field64 = bits64(55, 53);
    /// The type of the table. Read-only.
    pub const TYPE: Field64 = bits64(58, 56);
    /// Inner cacheability.
    pub const INNER: Field64 = bits64(61, 59);
    /// Two levels.
    pub const INDIRECT: Field64 = bits64(62, 62);
    /// The table is valid.
    pub const VALID: Field64 = bits64(63, 63);

    /// [`TYPE`]: no table.
    pub const TYPE_NONE: u64 = 0;
    /// [`TYPE`]: devices.
    pub const TYPE_DEVICE: u64 = 1;
    /// [`TYPE`]: collections.
    pub const TYPE_COLLECTION: u64 = 4;
    /// [`PAGE_SIZE`]: 4 KiB.
    pub const PAGE_4K: u64 = 0;
    /// [`PAGE_SIZE`]: 16 KiB.
    pub const PAGE_16K: u64 = 1;
    /// [`PAGE_SIZE`]: 64 KiB.
    pub const PAGE_64K: u64 = 2;
}

/// Memory attributes of all GIC tables.
pub mod memory {
    /// Normal, non-cacheable.
    pub const NON_CACHEABLE: u64 = 0b001;
    /// Normal, read- and write-allocate, write-back.
    pub const WRITE_BACK: u64 = 0b111;
    /// Lowest encoding of write-back memory with an allocation hint.
    pub const READ_ALLOCATE_WRITE_BACK: u64 = 0b011;
    /// Write-allocate, write-back.
    pub const WRITE_ALLOCATE_WRITE_BACK: u64 = 0b101;
    /// The outer attribute is the inner one.
    pub const AS_INNER: u64 = 0b000;
    /// Inner shareable.
    pub const INNER_SHAREABLE: u64 = 0b01;
    /// Outer shareable.
    pub const OUTER_SHAREABLE: u64 = 0b10;
}
