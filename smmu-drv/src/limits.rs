//! Limits that an integrator may choose, with their ranges.

use core::ops::RangeInclusive;

/// Maximum waits for hardware. An SMMU that exceeds one is failed permanently.
///
/// The architecture only says "finite time" [S 6.3.9]. During a wait the CPU does nothing else, and callers hold their
/// locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the acknowledgement of a register, in microseconds.
    pub register_us: u32,
    /// For a CMD_SYNC, in microseconds: everything that was queued before it has to complete too.
    pub sync_us: u32,
}

impl Timeouts {
    /// Valid values: 1 ms to 10 s.
    pub const RANGE: RangeInclusive<u32> = 1_000..=10_000_000;
}

/// One second each, as in Linux.
impl Default for Timeouts {
    fn default() -> Self {
        Self { register_us: 1_000_000, sync_us: 1_000_000 }
    }
}

/// A value of the configuration is not in its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The name of the field in [`ProbeConfig`](crate::ProbeConfig).
    pub name: &'static str,
    /// The value.
    pub value: u32,
    /// The minimum and the maximum.
    pub range: (u32, u32),
}

impl OutOfRange {
    /// # Errors
    /// `value`, of the field `name`, is not in `range`.
    pub(crate) fn check(name: &'static str, value: u32, range: &RangeInclusive<u32>) -> Result<(), Self> {
        if range.contains(&value) { Ok(()) } else { Err(Self { name, value, range: (*range.start(), *range.end()) }) }
    }
}
