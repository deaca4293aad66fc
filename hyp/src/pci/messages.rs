//! Capabilities with which a function sends messages: MSIs, translation requests, PASIDs. The host may have enabled them. A reset disables them, but
//! some functions have no reset.

use super::config::{ConfigSpace, capability, extended};
use super::rid::Rid;
use super::spec::{capability, extended, power};

/// Control registers of capabilities: the capability, the offset in it, and the bits that must be 0.
const PLAIN: [(u32, u16, u16); 3] = [
    (capability::POWER, power::CONTROL, power::STATE),
    (capability::MSI, capability::MSI_CONTROL, capability::MSI_ENABLE),
    (capability::MSIX, capability::MSI_CONTROL, capability::MSIX_ENABLE),
];
/// The same for extended capabilities.
const EXTENDED: [(u32, u16, u16); 3] = [
    (extended::ATS, extended::ATS_CONTROL, extended::ATS_ENABLE),
    (extended::PRI, extended::PRI_CONTROL, extended::PRI_ENABLE),
    (extended::PASID, extended::PASID_CONTROL, extended::PASID_ENABLE),
];

/// Disables MSI, MSI-X, ATS, PRI and PASID and sets full power; returns whether the registers show it.
#[must_use]
pub fn switch_off(config: &mut impl ConfigSpace, rid: Rid) -> bool {
    let mut all = true;
    for (id, control, bits) in PLAIN {
        all &= capability(config, rid, id).is_none_or(|at| clear(config, rid, at.saturating_add(control), bits));
    }
    for (id, control, bits) in EXTENDED {
        all &= match extended(config, rid, id) {
            Ok(at) => at.is_none_or(|at| clear(config, rid, at.saturating_add(control), bits)),
            Err(_) => false,
        };
    }
    all
}

/// Sets the power state of a function to full power.
pub fn power_on(config: &mut impl ConfigSpace, rid: Rid) {
    if let Some(at) = capability(config, rid, capability::POWER) {
        let _ = clear(config, rid, at.saturating_add(power::CONTROL), power::STATE);
    }
}

/// Clears bits of the 16-bit register at `at`, if one of them is set; returns whether they read as clear.
fn clear(config: &mut impl ConfigSpace, rid: Rid, at: u16, bits: u16) -> bool {
    let was = half(config, rid, at);
    if was & bits == 0 {
        return true;
    }
    config.write16(rid, at, was & !bits);
    half(config, rid, at) & bits == 0
}

/// The 16-bit register at `at`, a multiple of 2.
fn half(config: &impl ConfigSpace, rid: Rid, at: u16) -> u16 {
    let [a, b, c, d] = config.read32(rid, at & 0xffc).to_le_bytes();
    if at & 2 == 0 { u16::from_le_bytes([a, b]) } else { u16::from_le_bytes([c, d]) }
}
