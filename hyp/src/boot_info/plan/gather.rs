//! Builds the plan from the parsed device tree.

use super::{Conflict, Name, Part, Plan};
use crate::boot_info::error::BootError;
use crate::boot_info::gic::ITS_MAX;
use crate::boot_info::layout::{HOST_RAM_MAX, Layout};
use crate::boot_info::overlap::{named, overlap};
use crate::boot_info::platform::Platform;
use crate::boot_info::policy::MmioPolicy;
use crate::boot_info::range::{PAGE_SIZE, PhysRange};
use crate::boot_info::smmu::SMMUS_MAX;
use arrayvec::ArrayVec;

/// Checks the results of `policy` and `layout` for `platform`. Called after all decisions and before any write.
///
/// # Errors
/// [`BootError::PlanOverlap`] or [`BootError::PlanOutside`] for the first conflict. The host must
/// not be started then.
pub fn check<'a>(platform: &Platform<'a>, policy: &MmioPolicy, layout: &Layout) -> Result<(), BootError<'a>> {
    let mut memory = ArrayVec::<Part<Name>, HOST_RAM_MAX>::new();
    let mut doorbells = ArrayVec::<Part<Name>, ITS_MAX>::new();
    let mut devices = ArrayVec::<Part<Name>, { SMMUS_MAX + 1 }>::new();
    let full = |_| BootError::TooMany { what: "parts of the plan", limit: HOST_RAM_MAX };
    let part = |name, range| Part { range, name };
    for range in &layout.host_ram {
        memory.try_push(part(Name::Memory, *range)).map_err(full)?;
    }
    for page in policy.translaters(platform) {
        let range = PhysRange::new(page, PAGE_SIZE).unwrap_or_default();
        doorbells.try_push(part(Name::Doorbell, range)).map_err(full)?;
    }
    for smmu in &platform.smmus {
        devices.try_push(part(Name::Node(smmu.node), smmu.range)).map_err(full)?;
    }
    if let Some(console) = platform.uarts.el2 {
        devices.try_push(part(Name::Node(console.node), console.range)).map_err(full)?;
    }
    let mut loaded = ArrayVec::<Part<Name>, 3>::new();
    let mut scrubbed = ArrayVec::<Part<Name>, 1>::new();
    if let Some(kernel) = layout.kernel() {
        let ramdisk = platform.modules().and_then(|modules| modules.ramdisk);
        let ramdisk = ramdisk.map_or_else(PhysRange::default, |module| module.range);
        loaded.push(part(Name::Kernel, kernel.room));
        loaded.push(part(Name::Ramdisk, ramdisk));
        loaded.push(part(Name::HostDtb, kernel.dtb));
        // In a start from UEFI, EL2's device tree is in EL2's own memory.
        scrubbed.push(part(Name::Dtb, layout.scrub));
    }
    let plan = Plan {
        memory: &memory,
        loaded: &loaded,
        registers: policy.given(),
        windows: policy.windows(),
        doorbells: &doorbells,
        own: &[part(Name::Image, layout.image), part(Name::Pool, layout.pool)],
        scrubbed: &scrubbed,
        devices: &devices,
        withheld: policy.withheld(),
        buses: policy.buses(),
    };
    plan.check().map_err(|clash| refused(platform, clash))
}

fn refused<'a>(platform: &Platform<'a>, clash: Conflict<Name>) -> BootError<'a> {
    match clash {
        Conflict::Overlap(first, second) => overlap(platform, &first, &second),
        Conflict::Outside(part) => {
            BootError::PlanOutside { name: named(platform, &part, &part.range), range: part.range }
        }
    }
}
