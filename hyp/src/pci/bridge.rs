//! What resets or hides the functions behind a bridge: a bridge that was reset has no bus numbers, those behind it have the
//! number of the root bus, and the walk over the buses finds nothing there.

use super::config::{ConfigSpace, capability};
use super::rid::Rid;
use super::spec::{self, bridge_control, express, power};

/// A register of 16 bits, and bits of it.
#[derive(Clone, Copy)]
struct Bits {
    at: u16,
    mask: u16,
}

impl Bits {
    /// Whether a store of the lower `bytes` bytes of `value` at `offset` sets one of them.
    fn are_set_by(self, offset: u16, bytes: u16, value: u64) -> bool {
        let registers = [self.at, self.at.saturating_add(1)].into_iter().zip(self.mask.to_le_bytes());
        let stored = (offset..offset.saturating_add(bytes)).zip(value.to_le_bytes());
        registers.clone().any(|(at, mask)| stored.clone().any(|(byte, stored)| byte == at && stored & mask != 0))
    }

    fn are_set(self, config: &impl ConfigSpace, rid: Rid) -> bool {
        // Registers of 16 bits are at even offsets.
        let word = config.read32(rid, self.at & !3).to_le_bytes();
        let [a, b, c, d] = word;
        let half = if self.at & 2 == 0 { [a, b] } else { [c, d] };
        u16::from_le_bytes(half) & self.mask != 0
    }
}

/// Resets what is behind the bridge while it is set.
const RESET: Bits = Bits { at: bridge_control::AT, mask: bridge_control::RESET };

/// Another power state than full power: leaving it may reset the bridge, and in it nothing behind answers.
fn low_power(config: &impl ConfigSpace, rid: Rid) -> Option<Bits> {
    let at = capability(config, rid, spec::capability::POWER)?.checked_add(power::CONTROL)?;
    Some(Bits { at, mask: power::STATE })
}

/// Bits that switch the link or the slot below a port off: the functions behind are reset.
fn switched_off(config: &impl ConfigSpace, rid: Rid) -> [Option<Bits>; 2] {
    let express = capability(config, rid, spec::capability::EXPRESS);
    [(express::LINK_CONTROL, express::LINK_DISABLE), (express::SLOT_CONTROL, express::SLOT_POWER_OFF)]
        .map(|(offset, mask)| Some(Bits { at: express?.checked_add(offset)?, mask }))
}

/// Whether a store of the lower `bytes` bytes of `value` at `offset` would reset or hide what is behind the bridge.
pub fn is_reset_by(config: &impl ConfigSpace, rid: Rid, offset: u16, bytes: u16, value: u64) -> bool {
    let [link, slot] = switched_off(config, rid);
    let all = [Some(RESET), low_power(config, rid), link, slot];
    all.into_iter().flatten().any(|bits| bits.are_set_by(offset, bytes, value))
}

/// Whether what is behind the bridge is held in reset, or does not answer since the bridge does not have full power.
pub fn hides(config: &impl ConfigSpace, rid: Rid) -> bool {
    [Some(RESET), low_power(config, rid)].into_iter().flatten().any(|bits| bits.are_set(config, rid))
}
