//! Context descriptors and level 1 descriptors [IHI 0070G 5.3, 5.4].

use super::{bit, bits, bits32, keep};

/// The eight 64-bit words of a context descriptor.
pub type Cd = [u64; 8];

/// Size in bytes.
pub const CD_SIZE: u64 = 64;
/// Size in bytes of a level 1 context descriptor.
pub const L1CD_SIZE: u64 = 8;

/// V, bit 31.
#[must_use]
pub fn valid(cd: &Cd) -> bool {
    bit(cd[0], 31)
}

/// T0SZ.
#[must_use]
pub fn t0sz(cd: &Cd) -> u32 {
    bits32(cd[0], 5, 0)
}

/// TG0: 0 4K, 1 64K, 2 16K.
#[must_use]
pub fn tg0(cd: &Cd) -> u64 {
    bits(cd[0], 7, 6)
}

/// EPD0.
#[must_use]
pub fn epd0(cd: &Cd) -> bool {
    bit(cd[0], 14)
}

/// ENDI.
#[must_use]
pub fn endi(cd: &Cd) -> bool {
    bit(cd[0], 15)
}

/// T1SZ.
#[must_use]
pub fn t1sz(cd: &Cd) -> u32 {
    bits32(cd[0], 21, 16)
}

/// TG1: 1 16K, 2 4K, 3 64K.
#[must_use]
pub fn tg1(cd: &Cd) -> u64 {
    bits(cd[0], 23, 22)
}

/// EPD1.
#[must_use]
pub fn epd1(cd: &Cd) -> bool {
    bit(cd[0], 30)
}

/// IPS.
#[must_use]
pub fn ips(cd: &Cd) -> u64 {
    bits(cd[0], 34, 32)
}

/// AFFD.
#[must_use]
pub fn affd(cd: &Cd) -> bool {
    bit(cd[0], 35)
}

/// TBI0.
#[must_use]
pub fn tbi0(cd: &Cd) -> bool {
    bit(cd[0], 38)
}

/// TBI1.
#[must_use]
pub fn tbi1(cd: &Cd) -> bool {
    bit(cd[0], 39)
}

/// PAN.
#[must_use]
pub fn pan(cd: &Cd) -> bool {
    bit(cd[0], 40)
}

/// AA64.
#[must_use]
pub fn aa64(cd: &Cd) -> bool {
    bit(cd[0], 41)
}

/// HD.
#[must_use]
pub fn hd(cd: &Cd) -> bool {
    bit(cd[0], 42)
}

/// HA.
#[must_use]
pub fn ha(cd: &Cd) -> bool {
    bit(cd[0], 43)
}

/// S: stall.
#[must_use]
pub fn stall(cd: &Cd) -> bool {
    bit(cd[0], 44)
}

/// R: record.
#[must_use]
pub fn record(cd: &Cd) -> bool {
    bit(cd[0], 45)
}

/// A: abort.
#[must_use]
pub fn abort(cd: &Cd) -> bool {
    bit(cd[0], 46)
}

/// ASID.
#[must_use]
pub fn asid(cd: &Cd) -> u32 {
    bits32(cd[0], 63, 48)
}

/// HAD0.
#[must_use]
pub fn had0(cd: &Cd) -> bool {
    bit(cd[1], 1)
}

/// TTB0, bits 115:68: address bits 51:4.
#[must_use]
pub fn ttb0(cd: &Cd) -> u64 {
    keep(cd[1], 51, 4)
}

/// HAD1.
#[must_use]
pub fn had1(cd: &Cd) -> bool {
    bit(cd[2], 1)
}

/// TTB1.
#[must_use]
pub fn ttb1(cd: &Cd) -> u64 {
    keep(cd[2], 51, 4)
}

/// L1CD.V.
#[must_use]
pub fn l1_valid(l1cd: u64) -> bool {
    bit(l1cd, 0)
}

/// L1CD.L2Ptr.
#[must_use]
pub fn l1_l2ptr(l1cd: u64) -> u64 {
    keep(l1cd, 55, 12)
}
