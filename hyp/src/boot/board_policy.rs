//! Reads the policy module, the rules of the board's author.

use super::normal;
use crate::arch;
use hyp::boot_info::rules::POLICY_MAX;
use hyp::boot_info::{BootError, PhysRange, Platform};
use io_pgtable::Pa;

/// Reads the rules of `platform` into `copy`: a device that firmware left active could change the original after the
/// check.
///
/// # Errors
/// As [`Platform::read_rules`], and [`BootError::Overlap`] for a module in EL2's image.
pub fn read<'a>(mut platform: Platform<'a>, copy: &'a mut [u8; POLICY_MAX]) -> Result<Platform<'a>, BootError<'a>> {
    let Some(module) = platform.modules().and_then(|modules| modules.policy) else { return Ok(platform) };
    let image = arch::image();
    if let Some(first_range) = PhysRange::between(Pa(image.start), Pa(image.end)).filter(|r| r.overlaps(&module.range))
    {
        let (first, second, second_range) = ("EL2's image", "the policy module", module.range);
        return Err(BootError::Overlap { first, first_range, second, second_range });
    }
    normal("the policy module", &module.range);
    let size = usize::try_from(module.range.size()).unwrap_or(usize::MAX).min(POLICY_MAX);
    // SAFETY: (1) the module is in memory and of at most this size, which was checked; (2) it is outside EL2's image,
    // so of Rust's memory it can contain only the device tree, which is only read; (3) the destination has room.
    unsafe { core::ptr::copy_nonoverlapping(module.range.base().0 as *const u8, copy.as_mut_ptr(), size) };
    platform.read_rules(copy.get(..size).unwrap_or_default())?;
    Ok(platform)
}
