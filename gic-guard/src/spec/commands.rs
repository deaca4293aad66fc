//! ITS commands [G 5.3]: 32 bytes, little-endian, opcode in bits \[7:0\].

use super::{Field64, bits64};

/// Bytes of a command.
pub const CMD_SIZE: u32 = 32;

/// A command in its memory format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawCmd(pub [u64; 4]);

host_access::encodings! {
    /// Opcodes that the architecture defines [G 5.3]; every other value is reserved.
    pub enum Opcode {
        /// MOVI [G 5.3].
        Movi = 0x01,
        /// INT [G 5.3].
        Int = 0x03,
        /// CLEAR [G 5.3].
        Clear = 0x04,
        /// SYNC [G 5.3].
        Sync = 0x05,
        /// MAPD [G 5.3].
        Mapd = 0x08,
        /// MAPC [G 5.3].
        Mapc = 0x09,
        /// MAPTI [G 5.3].
        Mapti = 0x0a,
        /// MAPI [G 5.3].
        Mapi = 0x0b,
        /// INV [G 5.3].
        Inv = 0x0c,
        /// INVALL [G 5.3].
        Invall = 0x0d,
        /// MOVALL [G 5.3].
        Movall = 0x0e,
        /// DISCARD [G 5.3].
        Discard = 0x0f,
        /// VMOVI, GICv4.
        Vmovi = 0x21,
        /// VMOVP, GICv4.
        Vmovp = 0x22,
        /// VSGI, GICv4.1.
        Vsgi = 0x23,
        /// VSYNC, GICv4.
        Vsync = 0x25,
        /// VMAPP, GICv4.
        Vmapp = 0x29,
        /// VMAPTI, GICv4.
        Vmapti = 0x2a,
        /// VMAPI, GICv4.
        Vmapi = 0x2b,
        /// VINVALL, GICv4.
        Vinvall = 0x2d,
        /// INVDB, GICv4.1.
        Invdb = 0x2e,
    }
}

/// Opcode, dword 0.
pub const OPCODE: Field64 = bits64(7, 0);
/// DeviceID, dword 0.
pub const DEVICE: Field64 = bits64(63, 32);
/// EventID, dword 1.
pub const EVENT: Field64 = bits64(31, 0);
/// pINTID, dword 1.
pub const LPI: Field64 = bits64(63, 32);
/// EventID bits of MAPD, less one, dword 1.
pub const SIZE: Field64 = bits64(4, 0);
/// Collection, dword 2.
pub const ICID: Field64 = bits64(15, 0);
/// ITT address of MAPD, not shifted, dword 2.
pub const ITT: Field64 = bits64(51, 8);
/// RDbase, not shifted, dword 2; for the second redistributor of MOVALL, dword 3. The value is an address, or a processor
/// number if GITS_TYPER.PTA is 0.
pub const RDBASE: Field64 = bits64(51, 16);
/// RDbase as a number.
pub const PROCESSOR: Field64 = RDBASE;
/// V of MAPD and MAPC, dword 2.
pub const VALID: Field64 = bits64(63, 63);
