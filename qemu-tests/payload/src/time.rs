//! Waits without polling the counter, if the CPU or the GIC permits it.

use crate::{gic, sysreg};

/// Waits `us` microseconds of virtual time: with WFIT if there is FEAT_WFxT, otherwise with the timer interrupt if the
/// GIC is set up, otherwise by spinning.
pub fn delay_us(us: u64) {
    let deadline = sysreg::cntvct().saturating_add(sysreg::ticks(us));
    while sysreg::cntvct() < deadline {
        if !sysreg::wfit(deadline) && !gic::sleep_until(deadline) {
            sysreg::relax();
        }
    }
}
