//! Register fields that reset or hide the functions behind a bridge. After its reset a bridge has no bus numbers,
//! functions behind it have the number of the root bus, and enumeration does not find them.

use super::config::{ConfigSpace, Endless, capability, extended};
use super::rid::Rid;
use super::spec::{self, bridge_control, express, extended as spec_extended, power};

/// Bits of a 16-bit register.
#[derive(Clone, Copy)]
struct Bits {
    at: u16,
    mask: u16,
}

impl Bits {
    /// Whether a store of the lower `bytes` bytes of `value` at `offset` sets one of the bits.
    fn are_set_by(self, offset: u16, bytes: u16, value: u64) -> bool {
        let registers = [self.at, self.at.saturating_add(1)].into_iter().zip(self.mask.to_le_bytes());
        let stored = (offset..offset.saturating_add(bytes)).zip(value.to_le_bytes());
        registers.clone().any(|(at, mask)| stored.clone().any(|(byte, stored)| byte == at && stored & mask != 0))
    }

    fn are_set(self, config: &impl ConfigSpace, rid: Rid) -> bool {
        // 16-bit registers are at even offsets.
        let word = config.read32(rid, self.at & !3).to_le_bytes();
        let [a, b, c, d] = word;
        let half = if self.at & 2 == 0 { [a, b] } else { [c, d] };
        u16::from_le_bytes(half) & self.mask != 0
    }
}

/// Secondary Bus Reset: while it is set, the devices behind the bridge are in reset.
const RESET: Bits = Bits { at: bridge_control::AT, mask: bridge_control::RESET };

/// A power state other than D0: the functions behind the bridge do not respond, and the return to D0 may reset it.
fn low_power(config: &impl ConfigSpace, rid: Rid) -> Option<Bits> {
    let at = capability(config, rid, spec::capability::POWER)?.checked_add(power::CONTROL)?;
    Some(Bits { at, mask: power::STATE })
}

/// Bits that disable the link or power off the slot below a port, which resets the functions behind it.
fn switched_off(config: &impl ConfigSpace, rid: Rid) -> [Option<Bits>; 2] {
    let express = capability(config, rid, spec::capability::EXPRESS);
    [(express::LINK_CONTROL, express::LINK_DISABLE), (express::SLOT_CONTROL, express::SLOT_POWER_OFF)]
        .map(|(offset, mask)| Some(Bits { at: express?.checked_add(offset)?, mask }))
}

/// Bits of Downstream Port Containment (DPC) that disable the link below a port: by software, or at the next error.
fn containment(config: &impl ConfigSpace, rid: Rid) -> Result<Option<Bits>, Endless> {
    let at = extended(config, rid, spec_extended::DPC)?;
    let control = at.and_then(|at| at.checked_add(spec_extended::DPC_CONTROL));
    Ok(control.map(|at| Bits { at, mask: spec_extended::DPC_TRIGGERS }))
}

/// Whether a store of the lower `bytes` bytes of `value` at `offset` would reset or hide functions behind the bridge.
pub fn is_reset_by(config: &impl ConfigSpace, rid: Rid, offset: u16, bytes: u16, value: u64) -> bool {
    if offset >= spec_extended::FIRST {
        // Without a valid capability list, any register may have such a field.
        return containment(config, rid).map_or(true, |bits| bits.is_some_and(|b| b.are_set_by(offset, bytes, value)));
    }
    let [link, slot] = switched_off(config, rid);
    let all = [Some(RESET), low_power(config, rid), link, slot];
    all.into_iter().flatten().any(|bits| bits.are_set_by(offset, bytes, value))
}

/// Whether the functions behind the bridge are held in reset, or do not respond because the bridge is not in D0.
pub fn hides(config: &impl ConfigSpace, rid: Rid) -> bool {
    [Some(RESET), low_power(config, rid)].into_iter().flatten().any(|bits| bits.are_set(config, rid))
}
