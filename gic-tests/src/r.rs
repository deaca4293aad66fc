//! Registers and their values, as defined in a host's driver.

/// A register of an ITS and of a redistributor.
pub const CTLR: u32 = 0x0;
/// A register of an ITS and of a redistributor.
pub const IIDR: u32 = 0x4;
/// A register of an ITS and of a redistributor.
pub const TYPER: u32 = 0x8;
/// GICR_WAKER.
pub const WAKER: u32 = 0x14;
/// GITS_CBASER.
pub const CBASER: u32 = 0x80;
/// GITS_CWRITER.
pub const CWRITER: u32 = 0x88;
/// GITS_CREADR.
pub const CREADR: u32 = 0x90;
/// GITS_BASER0, devices.
pub const BASER0: u32 = 0x100;
/// GITS_BASER1, collections.
pub const BASER1: u32 = 0x108;
/// GICR_PROPBASER.
pub const PROPBASER: u32 = 0x70;
/// GICR_PENDBASER.
pub const PENDBASER: u32 = 0x78;
/// A register of an ITS and of a redistributor.
pub const PIDR2: u32 = 0xffe8;
/// Inner shareable, write-back, in registers of an ITS.
pub const ITS_WB: u64 = 7 << 59 | 1 << 10;
/// Inner shareable, write-back, in registers of a redistributor.
pub const RD_WB: u64 = 7 << 7 | 1 << 10;
/// The valid bit in registers of an ITS and in commands.
pub const VALID: u64 = 1 << 63;
/// A table of two levels.
pub const INDIRECT: u64 = 1 << 62;
/// Pages of a table.
pub const PAGE_64K: u64 = 2 << 8;
