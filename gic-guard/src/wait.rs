//! Bounded waits for registers.

use crate::platform::Platform;

/// Longest wait for a register, in microseconds. Linux also waits up to a second.
const TIMEOUT_US: u64 = 1_000_000;

/// The register did not change within the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// Waits until `done` is true.
pub(crate) fn until<P: Platform>(platform: &P, mut done: impl FnMut() -> bool) -> Result<(), TimedOut> {
    let start = platform.now_us();
    loop {
        if done() {
            return Ok(());
        }
        if platform.now_us().wrapping_sub(start) > TIMEOUT_US {
            return Err(TimedOut);
        }
        platform.relax();
    }
}
