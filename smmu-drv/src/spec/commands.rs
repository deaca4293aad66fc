//! Commands [S 4]: 16 bytes, little-endian, opcode in bits \[7:0\].

use super::{Field64, bits64};

/// Bytes of a command.
pub const CMD_SIZE: usize = 16;

/// A command in its format in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawCmd(pub [u64; 2]);

host_access::encodings! {
    /// Opcodes that the architecture defines [S 4.1.1]; every other value is reserved or IMPLEMENTATION DEFINED.
    pub enum Opcode {
        /// CMD_PREFETCH_CONFIG [S 4.2.1].
        PrefetchConfig = 0x01,
        /// CMD_PREFETCH_ADDR [S 4.2.2].
        PrefetchAddr = 0x02,
        /// CMD_CFGI_STE [S 4.3.1].
        CfgiSte = 0x03,
        /// CMD_CFGI_STE_RANGE and CMD_CFGI_ALL [S 4.3.2, 4.3.6].
        CfgiSteRange = 0x04,
        /// CMD_CFGI_CD [S 4.3.3].
        CfgiCd = 0x05,
        /// CMD_CFGI_CD_ALL [S 4.3.4].
        CfgiCdAll = 0x06,
        /// CMD_CFGI_VMS_PIDM [S 4.3.5].
        CfgiVmsPidm = 0x07,
        /// CMD_TLBI_NH_ALL [S 4.4.2.1].
        TlbiNhAll = 0x10,
        /// CMD_TLBI_NH_ASID [S 4.4.2.2].
        TlbiNhAsid = 0x11,
        /// CMD_TLBI_NH_VA [S 4.4.2.4].
        TlbiNhVa = 0x12,
        /// CMD_TLBI_NH_VAA [S 4.4.2.3].
        TlbiNhVaa = 0x13,
        /// CMD_TLBI_EL3_ALL [S 4.4.2.5].
        TlbiEl3All = 0x18,
        /// CMD_TLBI_EL3_VA [S 4.4.2.6].
        TlbiEl3Va = 0x1a,
        /// CMD_TLBI_EL2_ALL [S 4.4.2.7].
        TlbiEl2All = 0x20,
        /// CMD_TLBI_EL2_ASID [S 4.4.2.10].
        TlbiEl2Asid = 0x21,
        /// CMD_TLBI_EL2_VA [S 4.4.2.8].
        TlbiEl2Va = 0x22,
        /// CMD_TLBI_EL2_VAA [S 4.4.2.9].
        TlbiEl2Vaa = 0x23,
        /// CMD_TLBI_S12_VMALL [S 4.4.3].
        TlbiS12Vmall = 0x28,
        /// CMD_TLBI_S2_IPA [S 4.4.3].
        TlbiS2Ipa = 0x2a,
        /// CMD_TLBI_NSNH_ALL [S 4.4.4].
        TlbiNsnhAll = 0x30,
        /// CMD_ATC_INV [S 4.5.1].
        AtcInv = 0x40,
        /// CMD_PRI_RESP [S 4.5.2].
        PriResp = 0x41,
        /// CMD_RESUME [S 4.7.1].
        Resume = 0x44,
        /// CMD_STALL_TERM [S 4.7.2].
        StallTerm = 0x45,
        /// CMD_SYNC [S 4.7.3].
        Sync = 0x46,
        /// CMD_TLBI_S_EL2_ALL [S 4.4.2.11].
        TlbiSEl2All = 0x50,
        /// CMD_TLBI_S_EL2_ASID [S 4.4.2.14].
        TlbiSEl2Asid = 0x51,
        /// CMD_TLBI_S_EL2_VA [S 4.4.2.12].
        TlbiSEl2Va = 0x52,
        /// CMD_TLBI_S_EL2_VAA [S 4.4.2.13].
        TlbiSEl2Vaa = 0x53,
        /// CMD_TLBI_S_S12_VMALL [S 4.4.3].
        TlbiSS12Vmall = 0x58,
        /// CMD_TLBI_S_S2_IPA [S 4.4.3].
        TlbiSS2Ipa = 0x5a,
        /// CMD_TLBI_SNH_ALL [S 4.4.4].
        TlbiSnhAll = 0x60,
        /// CMD_DPTI_ALL [S 4.6].
        DptiAll = 0x70,
        /// CMD_DPTI_PA [S 4.6].
        DptiPa = 0x73,
    }
}

/// Opcode, dword 0.
pub const OPCODE: Field64 = bits64(7, 0);
/// The StreamID is a secure one, dword 0 [S 4.1.6].
pub const SSEC: Field64 = bits64(10, 10);
/// The SubstreamID is valid, dword 0.
pub const SSV: Field64 = bits64(11, 11);
/// SubstreamID, dword 0.
pub const SSID: Field64 = bits64(31, 12);
/// StreamID, dword 0.
pub const SID: Field64 = bits64(63, 32);

/// CMD_CFGI_* [S 4.3].
pub mod cfgi {
    use super::{Field64, bits64};
    /// Leaf only, dword 1.
    pub const LEAF: Field64 = bits64(0, 0);
    /// Log2 of the StreamIDs less one, dword 1.
    pub const RANGE: Field64 = bits64(4, 0);
    /// [`RANGE`]: CMD_CFGI_ALL.
    pub const RANGE_ALL: u64 = 31;
}

/// CMD_TLBI_* [S 4.4.1].
pub mod tlbi {
    use super::{Field64, bits64};
    /// Range multiplier less one, dword 0.
    pub const NUM: Field64 = bits64(16, 12);
    /// Range scale, dword 0 (5 bits while IDR5.DS is 0).
    pub const SCALE: Field64 = bits64(24, 20);
    /// VMID, dword 0.
    pub const VMID: Field64 = bits64(47, 32);
    /// ASID, dword 0.
    pub const ASID: Field64 = bits64(63, 48);
    /// Leaf only, dword 1.
    pub const LEAF: Field64 = bits64(0, 0);
    /// Level hint, dword 1.
    pub const TTL: Field64 = bits64(9, 8);
    /// Granule, dword 1; 0: neither range nor hint.
    pub const TG: Field64 = bits64(11, 10);
    /// Virtual address, not shifted: bits \[63:12\] of dword 1.
    pub const VA: Field64 = bits64(63, 12);
    /// Intermediate physical address, not shifted: bits \[55:12\] of dword 1.
    pub const IPA: Field64 = bits64(55, 12);

    /// [`TG`]: 4K.
    pub const TG_4K: u64 = 0b01;
    /// [`TG`]: 16K.
    pub const TG_16K: u64 = 0b10;
    /// [`TG`]: 64K.
    pub const TG_64K: u64 = 0b11;
}

/// CMD_SYNC [S 4.7.3].
pub mod sync {
    use super::{Field64, bits64};
    /// Completion signal, dword 0.
    pub const CS: Field64 = bits64(13, 12);
    /// Shareability of the MSI write, dword 0.
    pub const MSH: Field64 = bits64(23, 22);
    /// Attributes of the MSI write, dword 0.
    pub const MSIATTR: Field64 = bits64(27, 24);
    /// Data of the MSI write, dword 0.
    pub const MSIDATA: Field64 = bits64(63, 32);
    /// Address of the MSI write, not shifted: bits \[55:2\] of dword 1.
    pub const MSIADDRESS: Field64 = bits64(55, 2);

    /// [`CS`]: none.
    pub const CS_NONE: u64 = 0b00;
    /// [`CS`]: interrupt.
    pub const CS_IRQ: u64 = 0b01;
    /// [`CS`]: event.
    pub const CS_SEV: u64 = 0b10;
}
