//! PCI hosts whose SMMUs cover the RequesterIDs of the buses in `bus-range`, but not all other RequesterIDs.
//! A RequesterID of another bus would bypass the SMMUs. A device could have one if a bridge had the number of another
//! bus, or if virtual functions were enabled, since their IDs begin at an offset and may be on the next bus. So the bus
//! numbers are checked at boot, and the host can change neither: its accesses to configuration space always trap.

use super::config::{ConfigSpace, extended, header_type};
use super::ecam::{self, Answer};
use super::numbering::functions;
use super::rid::Rid;
use super::spec::{self, buses, extended as spec_extended};
use host_access::field::get32;

/// The reason why the bus numbers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusNumberError {
    /// This bridge leads to a bus outside `bus-range`, or this function has virtual functions: their RequesterIDs may
    /// bypass the SMMUs.
    Outside(Rid),
    /// This bridge has no bus numbers yet, so the bus behind it is bus 0, which is outside `bus-range`.
    Unnumbered(Rid),
}

/// Checks that no bridge on the buses `first` to `last` leads to another bus, and that no function has virtual
/// functions.
///
/// # Errors
/// The first function that fails the check.
pub fn check(config: &impl ConfigSpace, (first, last): (u8, u8)) -> Result<(), BusNumberError> {
    let inside = |number: u32| (u32::from(first)..=u32::from(last)).contains(&number);
    let mut unnumbered = Ok(());
    for rid in (first..=last).flat_map(|bus| functions(config, bus)) {
        let fits = match header_type(config, rid) {
            spec::TYPE_ENDPOINT => true,
            spec::TYPE_BRIDGE => {
                let numbers = config.read32(rid, spec::BUSES);
                let (secondary, subordinate) = (get32(buses::SECONDARY, numbers), get32(buses::SUBORDINATE, numbers));
                if (secondary, subordinate) == (0, 0) && !inside(0) {
                    unnumbered = unnumbered.and(Err(BusNumberError::Unnumbered(rid)));
                    true
                } else {
                    inside(secondary) && inside(subordinate)
                }
            }
            _ => false,
        };
        let enabled = match extended(config, rid, spec_extended::SRIOV) {
            Ok(None) => false,
            Ok(Some(at)) => is_enabled(config, rid, at),
            Err(_) => true,
        };
        if !fits || enabled {
            return Err(BusNumberError::Outside(rid));
        }
    }
    unnumbered
}

/// Whether the function whose SR-IOV capability is at `at` has virtual functions.
fn is_enabled(config: &impl ConfigSpace, rid: Rid, at: u16) -> bool {
    let control = at.checked_add(spec_extended::SRIOV_CONTROL).filter(|control| *control < 4096);
    control.is_none_or(|control| get32(spec_extended::SRIOV_ENABLE, config.read32(rid, control)) != 0)
}

/// The handling of a store of the lower `bytes` bytes of `value`: as while a function is away. In addition, a store
/// that enables virtual functions is denied.
pub fn store(
    config: &impl ConfigSpace,
    is_away: impl FnOnce() -> bool,
    rid: Rid,
    (offset, bytes): (u16, u16),
    value: u64,
) -> Answer {
    if ecam::store(config, is_away, rid, (offset, bytes), value) == Answer::Denied {
        return Answer::Denied;
    }
    if offset < spec_extended::FIRST {
        return Answer::Hardware;
    }
    let control = match extended(config, rid, spec_extended::SRIOV) {
        Ok(None) => return Answer::Hardware,
        Ok(Some(at)) => at.saturating_add(spec_extended::SRIOV_CONTROL),
        Err(_) => return Answer::Denied,
    };
    let end = offset.saturating_add(bytes);
    let shift = control.checked_sub(offset).filter(|_| control < end).map(|at| u32::from(at).saturating_mul(8));
    let byte = shift.map_or(0, |shift| u32::try_from(value.checked_shr(shift).unwrap_or(0) & 0xff).unwrap_or(0));
    if get32(spec_extended::SRIOV_ENABLE, byte) == 0 { Answer::Hardware } else { Answer::Denied }
}
