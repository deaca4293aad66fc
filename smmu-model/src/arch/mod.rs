//! Layouts of the architecture (Arm IHI 0070, edition G), written independently of the driver that is tested.

pub mod cd;
pub mod cmd;
pub mod desc;
pub mod event;
pub mod regs;
pub mod ste;

/// The bits `hi..=lo` of `value`, shifted down.
#[must_use]
pub fn bits(value: u64, hi: u32, lo: u32) -> u64 {
    let width = hi - lo + 1;
    let mask = if width >= 64 { u64::MAX } else { (1 << width) - 1 };
    (value >> lo) & mask
}

/// Whether bit `at` of `value` is set.
#[must_use]
pub fn bit(value: u64, at: u32) -> bool {
    (value >> at) & 1 == 1
}

/// The bits `hi..=lo` as a 32-bit number (`hi - lo` below 32).
#[must_use]
pub fn bits32(value: u64, hi: u32, lo: u32) -> u32 {
    u32::try_from(bits(value, hi, lo)).unwrap_or(u32::MAX)
}

/// `value` with everything but the bits `hi..=lo` cleared.
#[must_use]
pub fn keep(value: u64, hi: u32, lo: u32) -> u64 {
    bits(value, hi, lo) << lo
}

/// Size in bits of a physical address for an encoding of OAS, IPS or S2PS [IHI 0070G 5.2, 5.4, 6.3.6].
#[must_use]
pub fn address_bits(encoding: u64) -> u32 {
    match encoding {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        _ => 52,
    }
}

/// `address` cut to `width` bits.
#[must_use]
pub fn truncate(address: u64, width: u32) -> u64 {
    if width >= 64 { address } else { address & ((1 << width) - 1) }
}
