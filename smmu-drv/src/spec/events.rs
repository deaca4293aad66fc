//! Event records [S 7.3]: 32 bytes, little-endian, type in bits \[7:0\].

use super::{Field64, bits64};

/// Bytes of a record.
pub const EVENT_SIZE: usize = 32;

/// A record in its format in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawEvent(pub [u64; 4]);

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $value:literal $text:literal,)*) => {
        host_access::encodings! {
            /// Event types that the architecture defines [S 7.3].
            pub enum EventType {
                $($(#[$doc])* $name = $value,)*
            }
        }

        impl EventType {
            /// The architecture's name of the type.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

events! {
    /// Unsupported upstream transaction [S 7.3.2].
    Uut = 0x01 "F_UUT",
    /// StreamID out of range [S 7.3.3].
    BadStreamId = 0x02 "C_BAD_STREAMID",
    /// The STE could not be fetched [S 7.3.4].
    SteFetch = 0x03 "F_STE_FETCH",
    /// Invalid STE [S 7.3.5].
    BadSte = 0x04 "C_BAD_STE",
    /// ATS translation request denied [S 7.3.6].
    BadAtsTreq = 0x05 "F_BAD_ATS_TREQ",
    /// Substream 0 or none is disabled [S 7.3.7].
    StreamDisabled = 0x06 "F_STREAM_DISABLED",
    /// ATS translated transaction denied [S 7.3.8].
    TranslForbidden = 0x07 "F_TRANSL_FORBIDDEN",
    /// SubstreamID out of range [S 7.3.9].
    BadSubstreamId = 0x08 "C_BAD_SUBSTREAMID",
    /// The CD could not be fetched [S 7.3.10].
    CdFetch = 0x09 "F_CD_FETCH",
    /// Invalid CD [S 7.3.11].
    BadCd = 0x0a "C_BAD_CD",
    /// External abort on a table walk [S 7.3.12].
    WalkEabt = 0x0b "F_WALK_EABT",
    /// Translation fault [S 7.3.13].
    Translation = 0x10 "F_TRANSLATION",
    /// Address size fault [S 7.3.14].
    AddrSize = 0x11 "F_ADDR_SIZE",
    /// Access flag fault [S 7.3.15].
    Access = 0x12 "F_ACCESS",
    /// Permission fault [S 7.3.16].
    Permission = 0x13 "F_PERMISSION",
    /// TLB conflict [S 7.3.17].
    TlbConflict = 0x20 "F_TLB_CONFLICT",
    /// Configuration cache conflict [S 7.3.18].
    CfgConflict = 0x21 "F_CFG_CONFLICT",
    /// Speculative page request [S 7.3.19].
    PageRequest = 0x24 "E_PAGE_REQUEST",
    /// The VMS could not be fetched [S 7.3.20].
    VmsFetch = 0x25 "F_VMS_FETCH",
}

/// Type, dword 0.
pub const ID: Field64 = bits64(7, 0);
/// The SubstreamID is valid, dword 0.
pub const SSV: Field64 = bits64(11, 11);
/// SubstreamID, dword 0.
pub const SSID: Field64 = bits64(31, 12);
/// StreamID, dword 0.
pub const SID: Field64 = bits64(63, 32);
/// Stall tag, dword 1.
pub const STAG: Field64 = bits64(15, 0);
/// The transaction is stalled, dword 1.
pub const STALL: Field64 = bits64(31, 31);
/// Privileged, dword 1.
pub const PNU: Field64 = bits64(33, 33);
/// Instruction, dword 1.
pub const IND: Field64 = bits64(34, 34);
/// Read, dword 1.
pub const RNW: Field64 = bits64(35, 35);
/// Stage of the fault, dword 1.
pub const S2: Field64 = bits64(39, 39);
/// The access that failed, dword 1.
pub const CLASS: Field64 = bits64(41, 40);
/// Input address, dword 2.
pub const INPUT_ADDR: Field64 = bits64(63, 0);
/// IPA of a stage-2 fault, not shifted: bits \[55:12\] of dword 3.
pub const IPA: Field64 = bits64(55, 12);
/// Fetch address, not shifted: bits \[55:3\] of dword 3.
pub const FETCH_ADDR: Field64 = bits64(55, 3);

/// [`CLASS`]: context descriptor fetch.
pub const CLASS_CD: u64 = 0b00;
/// [`CLASS`]: stage-1 table walk.
pub const CLASS_TT: u64 = 0b01;
/// [`CLASS`]: the input address.
pub const CLASS_IN: u64 = 0b10;
