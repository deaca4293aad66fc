//! Stream table entries and level 1 descriptors [IHI 0070G 5.1, 5.2].

use super::{bit, bits, bits32, keep};

/// The eight 64-bit words of a stream table entry.
pub type Ste = [u64; 8];

/// Size in bytes.
pub const STE_SIZE: u64 = 64;
/// Size in bytes of a level 1 stream table descriptor.
pub const L1STD_SIZE: u64 = 8;

/// V.
#[must_use]
pub fn valid(ste: &Ste) -> bool {
    bit(ste[0], 0)
}

/// Config.
#[must_use]
pub fn config(ste: &Ste) -> u64 {
    bits(ste[0], 3, 1)
}

/// S1Fmt.
#[must_use]
pub fn s1fmt(ste: &Ste) -> u64 {
    bits(ste[0], 5, 4)
}

/// S1ContextPtr.
#[must_use]
pub fn s1_context_ptr(ste: &Ste) -> u64 {
    keep(ste[0], 55, 6)
}

/// S1CDMax.
#[must_use]
pub fn s1cdmax(ste: &Ste) -> u32 {
    bits32(ste[0], 63, 59)
}

/// S1DSS.
#[must_use]
pub fn s1dss(ste: &Ste) -> u64 {
    bits(ste[1], 1, 0)
}

/// S2FWB, bit 89.
#[must_use]
pub fn s2fwb(ste: &Ste) -> bool {
    bit(ste[1], 25)
}

/// S1STALLD, bit 91.
#[must_use]
pub fn s1stalld(ste: &Ste) -> bool {
    bit(ste[1], 27)
}

/// EATS, bits 93:92.
#[must_use]
pub fn eats(ste: &Ste) -> u64 {
    bits(ste[1], 29, 28)
}

/// STRW, bits 95:94.
#[must_use]
pub fn strw(ste: &Ste) -> u64 {
    bits(ste[1], 31, 30)
}

/// S2VMID.
#[must_use]
pub fn s2vmid(ste: &Ste) -> u32 {
    bits32(ste[2], 15, 0)
}

/// S2T0SZ.
#[must_use]
pub fn s2t0sz(ste: &Ste) -> u32 {
    bits32(ste[2], 37, 32)
}

/// S2SL0.
#[must_use]
pub fn s2sl0(ste: &Ste) -> u64 {
    bits(ste[2], 39, 38)
}

/// S2TG.
#[must_use]
pub fn s2tg(ste: &Ste) -> u64 {
    bits(ste[2], 47, 46)
}

/// S2PS.
#[must_use]
pub fn s2ps(ste: &Ste) -> u64 {
    bits(ste[2], 50, 48)
}

/// S2AA64, bit 179.
#[must_use]
pub fn s2aa64(ste: &Ste) -> bool {
    bit(ste[2], 51)
}

/// S2ENDI, bit 180.
#[must_use]
pub fn s2endi(ste: &Ste) -> bool {
    bit(ste[2], 52)
}

/// S2AFFD, bit 181.
#[must_use]
pub fn s2affd(ste: &Ste) -> bool {
    bit(ste[2], 53)
}

/// S2PTW, bit 182.
#[must_use]
pub fn s2ptw(ste: &Ste) -> bool {
    bit(ste[2], 54)
}

/// S2HD, bit 183.
#[must_use]
pub fn s2hd(ste: &Ste) -> bool {
    bit(ste[2], 55)
}

/// S2HA, bit 184.
#[must_use]
pub fn s2ha(ste: &Ste) -> bool {
    bit(ste[2], 56)
}

/// S2S, bit 185.
#[must_use]
pub fn s2s(ste: &Ste) -> bool {
    bit(ste[2], 57)
}

/// S2R, bit 186.
#[must_use]
pub fn s2r(ste: &Ste) -> bool {
    bit(ste[2], 58)
}

/// S2TTB, bits 243:196 of the entry: address bits 51:4.
#[must_use]
pub fn s2ttb(ste: &Ste) -> u64 {
    keep(ste[3], 51, 4)
}

/// L1STD.Span.
#[must_use]
pub fn l1_span(l1std: u64) -> u32 {
    bits32(l1std, 4, 0)
}

/// L1STD.L2Ptr.
#[must_use]
pub fn l1_l2ptr(l1std: u64) -> u64 {
    keep(l1std, 55, 6)
}
