//! The host's accesses to configuration space while a function of the segment is away.
//! All accesses are allowed, with two exceptions: a function that is away reads as absent, and stores that change the
//! bus numbers of a bridge, also by a reset, are ignored.

use super::bridge;
use super::config::{ConfigSpace, exists, header_type};
use super::rid::Rid;
use super::spec;

/// The handling of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done by the hardware.
    Hardware,
    /// Handled as if the function did not exist: loads read all ones, stores have no effect. Counted.
    Denied,
}

/// Offsets of the bus numbers in the header of a bridge.
const NUMBERS: core::ops::Range<u16> = spec::BUSES..spec::BUSES + 4;

/// Whether an access of `bytes` bytes at `offset` is a valid access to configuration space.
fn is_plain(offset: u16, bytes: u16) -> bool {
    bytes <= 4 && offset & bytes.saturating_sub(1) == 0
}

/// The handling of a load; `is_away` returns whether the function is away.
#[must_use]
pub fn load(is_away: impl FnOnce() -> bool, offset: u16, bytes: u16) -> Answer {
    if is_plain(offset, bytes) && !is_away() { Answer::Hardware } else { Answer::Denied }
}

/// The handling of a store of the lower `bytes` bytes of `value`.
pub fn store(
    config: &impl ConfigSpace,
    is_away: impl FnOnce() -> bool,
    rid: Rid,
    (offset, bytes): (u16, u16),
    value: u64,
) -> Answer {
    if load(is_away, offset, bytes) == Answer::Denied {
        return Answer::Denied;
    }
    if header_type(config, rid) == spec::TYPE_ENDPOINT {
        return Answer::Hardware;
    }
    let end = offset.saturating_add(bytes);
    let numbers = offset < NUMBERS.end && NUMBERS.start < end;
    let resets = || exists(config, rid) && bridge::is_reset_by(config, rid, offset, bytes, value);
    if numbers || resets() { Answer::Denied } else { Answer::Hardware }
}
