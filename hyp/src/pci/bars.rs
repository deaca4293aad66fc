//! BARs: their sizes, measured once at boot, and their addresses.

use super::config::{ConfigSpace, header_type, read16};
use super::rid::Rid;
use super::spec::{self, bar, command, window};
use arrayvec::ArrayVec;
use host_access::field::get32;

/// BARs of a type 0 header.
pub const BARS: usize = 6;
/// Ranges of bus addresses that a function responds to: its BARs and its ROM, or a bridge's and its two windows.
pub const RANGES: usize = BARS + 2;

/// A range of addresses on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusRange {
    /// First address.
    pub base: u64,
    /// Size in bytes, not 0.
    pub size: u64,
}

impl BusRange {
    /// Whether an address is in both ranges. A range that would wrap overlaps every address above its base.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.base < other.base.saturating_add(other.size) && other.base < self.base.saturating_add(self.size)
    }
}

/// The sizes of a function's memory BARs and ROM; 0 for an absent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Size of BAR n; 0 for the upper half of a 64-bit BAR.
    pub bars: [u64; BARS],
    /// Size of the expansion ROM.
    pub rom: u64,
}

/// The offset of BAR `index`.
pub fn offset(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(0).saturating_mul(4).saturating_add(spec::BAR0)
}

/// The ROM register of a header.
fn rom_register(header: u32) -> Option<u16> {
    match header {
        spec::TYPE_ENDPOINT => Some(spec::ROM),
        spec::TYPE_BRIDGE => Some(spec::BRIDGE_ROM),
        _ => None,
    }
}

fn bars_of(header: u32) -> usize {
    match header {
        spec::TYPE_ENDPOINT => BARS,
        spec::TYPE_BRIDGE => 2,
        _ => 0,
    }
}

/// Size in bytes of a BAR whose address bits read as `mask` after all ones were written; 0 if `mask` is 0.
fn size_of_mask(mask: u64) -> u64 {
    mask & mask.wrapping_neg()
}

/// Measures a function's BARs, with decoding off. All registers are restored when this returns.
pub fn measure(config: &mut impl ConfigSpace, rid: Rid) -> Sizes {
    let header = header_type(config, rid);
    let was = read16(config, rid, spec::COMMAND);
    config.write16(rid, spec::COMMAND, was & !(command::IO | command::MEMORY));
    let mut sizes = Sizes::default();
    let mut upper = false;
    for index in 0..bars_of(header) {
        if core::mem::take(&mut upper) {
            continue;
        }
        let low = probe(config, rid, offset(index), u32::MAX);
        if get32(bar::IO, low.was) == 1 {
            continue;
        }
        let mut mask = u64::from(low.ones & !bar::FLAGS);
        if get32(bar::TYPE, low.was) == bar::TYPE_64 {
            upper = true;
            mask |= u64::from(probe(config, rid, offset(index.saturating_add(1)), u32::MAX).ones) << 32;
        } else if mask != 0 {
            mask |= u64::from(u32::MAX) << 32;
        }
        if let Some(size) = sizes.bars.get_mut(index) {
            *size = size_of_mask(mask);
        }
    }
    if let Some(register) = rom_register(header) {
        let rom = probe(config, rid, register, !bar::ROM_ENABLE);
        sizes.rom = size_of_mask(u64::from(rom.ones & !bar::ROM_FLAGS));
    }
    config.write16(rid, spec::COMMAND, was);
    sizes
}

struct Probed {
    was: u32,
    ones: u32,
}

/// The value of a register, and its value after `ones` was written. The register is restored.
fn probe(config: &mut impl ConfigSpace, rid: Rid, register: u16, ones: u32) -> Probed {
    let was = config.read32(rid, register);
    config.write32(rid, register, ones);
    let read = config.read32(rid, register);
    config.write32(rid, register, was);
    Probed { was, ones: read }
}

/// The address in memory BAR `index`.
pub fn base(config: &impl ConfigSpace, rid: Rid, index: usize) -> u64 {
    let low = config.read32(rid, offset(index));
    let upper = match get32(bar::TYPE, low) {
        bar::TYPE_64 => u64::from(config.read32(rid, offset(index.saturating_add(1)))) << 32,
        _ => 0,
    };
    upper | u64::from(low & !bar::FLAGS)
}

/// Every range that a function responds to when it is enabled. A BAR that contains 0 is not set and has no range.
pub fn ranges(config: &impl ConfigSpace, rid: Rid, sizes: &Sizes) -> ArrayVec<BusRange, RANGES> {
    let mut found = ArrayVec::new();
    let mut add = |base: u64, size: u64| {
        if size != 0 && base != 0 {
            // Cannot fail: at most one entry for each register.
            let _ = found.try_push(BusRange { base, size });
        }
    };
    for (index, &size) in (0..BARS).zip(&sizes.bars).filter(|(_, size)| **size != 0) {
        add(base(config, rid, index), size);
    }
    let header = header_type(config, rid);
    if let Some(register) = rom_register(header) {
        add(u64::from(config.read32(rid, register) & !bar::ROM_FLAGS), sizes.rom);
    }
    if header == spec::TYPE_BRIDGE {
        for (register, upper) in
            [(spec::BRIDGE_MEMORY, None), (spec::BRIDGE_PREFETCHABLE, Some(spec::BRIDGE_PREFETCHABLE_UPPER))]
        {
            let word = config.read32(rid, register);
            let half = |register: u16| u64::from(config.read32(rid, register)) << 32;
            let (base_high, limit_high) = upper.map_or((0, 0), |upper| (half(upper), half(upper.saturating_add(4))));
            let first = base_high | u64::from(get32(window::BASE, word)) << window::SHIFT;
            let last_mib = limit_high | u64::from(get32(window::LIMIT, word)) << window::SHIFT;
            if let Some(size) = last_mib.checked_sub(first) {
                add(first, size.saturating_add(1 << window::SHIFT));
            }
        }
    }
    found
}
