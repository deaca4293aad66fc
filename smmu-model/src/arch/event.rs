//! Event records [IHI 0070G 7.3].

/// Event number: unsupported upstream transaction.
pub const F_UUT: u8 = 0x01;
/// StreamID out of the table.
pub const C_BAD_STREAMID: u8 = 0x02;
/// The entry could not be fetched.
pub const F_STE_FETCH: u8 = 0x03;
/// Invalid or illegal stream table entry.
pub const C_BAD_STE: u8 = 0x04;
/// Translation request that is not allowed.
pub const F_BAD_ATS_TREQ: u8 = 0x05;
/// S1DSS forbids the transaction.
pub const F_STREAM_DISABLED: u8 = 0x06;
/// Translated transaction that is not allowed.
pub const F_TRANSL_FORBIDDEN: u8 = 0x07;
/// SubstreamID out of range.
pub const C_BAD_SUBSTREAMID: u8 = 0x08;
/// The context descriptor could not be fetched.
pub const F_CD_FETCH: u8 = 0x09;
/// Invalid or illegal context descriptor.
pub const C_BAD_CD: u8 = 0x0a;
/// External abort in a table walk.
pub const F_WALK_EABT: u8 = 0x0b;
/// No valid descriptor.
pub const F_TRANSLATION: u8 = 0x10;
/// Output address out of range.
pub const F_ADDR_SIZE: u8 = 0x11;
/// Access flag clear.
pub const F_ACCESS: u8 = 0x12;
/// Access not permitted.
pub const F_PERMISSION: u8 = 0x13;

/// CLASS: what kind of access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A context descriptor fetch.
    Cd,
    /// A stage 1 table access.
    Tt,
    /// The transaction's own address.
    In,
}

/// One event, before it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Event number.
    pub kind: u8,
    /// StreamID.
    pub sid: u32,
    /// SubstreamID, where one was given.
    pub ssid: Option<u32>,
    /// The transaction was a read.
    pub read: bool,
    /// Stage 2 (S2 = 1).
    pub stage2: bool,
    /// CLASS.
    pub class: Class,
    /// Input address of the transaction.
    pub input: u64,
    /// IPA (or the address of the fetch).
    pub ipa: u64,
    /// STAG of a stalled transaction.
    pub stag: Option<u16>,
}

impl Event {
    /// The 32-byte record as four little-endian words.
    #[must_use]
    pub fn words(&self) -> [u64; 4] {
        let ssv = self.ssid.map_or(0, |ssid| 1 << 11 | u64::from(ssid) << 12);
        let first = u64::from(self.kind) | ssv | u64::from(self.sid) << 32;
        let class = match self.class {
            Class::Cd => 0,
            Class::Tt => 1,
            Class::In => 2,
        };
        let translation = self.kind >= F_TRANSLATION || self.kind == F_WALK_EABT;
        let mut second = 0;
        if translation {
            second |= u64::from(self.read) << 35 | u64::from(self.stage2) << 39 | class << 40;
            second |= self.stag.map_or(0, |stag| u64::from(stag) | 1 << 31);
        } else if matches!(self.kind, F_TRANSL_FORBIDDEN | F_BAD_ATS_TREQ) {
            second |= u64::from(self.read) << 35;
        }
        let has_input = translation || matches!(self.kind, F_TRANSL_FORBIDDEN | F_BAD_ATS_TREQ | F_UUT);
        let has_address = self.stage2 || matches!(self.kind, F_WALK_EABT | F_STE_FETCH | F_CD_FETCH);
        let mut fourth = 0;
        if has_address {
            fourth = if self.stage2 && self.kind != F_WALK_EABT { self.ipa & !0xfff } else { self.ipa & !7 };
        }
        [first, second, if has_input { self.input } else { 0 }, fourth]
    }
}
