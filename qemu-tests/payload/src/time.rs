//! Waiting without polling the counter, where the CPU or the GIC allows it.

use crate::{gic, sysreg};

/// Waits `us` microseconds of virtual time: by WFIT where there is FEAT_WFxT, else by the timer interrupt where the GIC
/// is set up, else by spinning.
pub fn delay_us(us: u64) {
    let deadline = sysreg::cntvct().saturating_add(sysreg::ticks(us));
    while sysreg::cntvct() < deadline {
        if !sysreg::wfit(deadline) && !gic::sleep_until(deadline) {
            sysreg::relax();
        }
    }
}
