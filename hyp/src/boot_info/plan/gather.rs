//! Builds the plan from the parsed device tree.

use super::{Conflict, Name, Named, Part, Plan};
use crate::boot_info::error::BootError;
use crate::boot_info::gic::ITS_MAX;
use crate::boot_info::layout::{HOST_RAM_MAX, Layout};
use crate::boot_info::memory::is_memory;
use crate::boot_info::platform::Platform;
use crate::boot_info::policy::MmioPolicy;
use crate::boot_info::range::{PAGE_SIZE, PhysRange};
use crate::boot_info::smmu::SMMUS_MAX;
use crate::boot_info::tree::{NodeId, Path, Reg};
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

/// The error for an overlap of `first` and `second`.
pub(in crate::boot_info) fn overlap<'a>(
    platform: &Platform<'a>,
    first: &Part<Name>,
    second: &Part<Name>,
) -> BootError<'a> {
    BootError::PlanOverlap {
        first: named(platform, first, &second.range),
        first_range: first.range,
        second: named(platform, second, &first.range),
        second_range: second.range,
    }
}

fn named<'a>(platform: &Platform<'a>, part: &Part<Name>, other: &PhysRange) -> Named<'a> {
    Named { name: part.name, path: path(platform, part, other) }
}

/// The node that describes it; for memory, the node that contains `other`.
fn path<'a>(platform: &Platform<'a>, part: &Part<Name>, other: &PhysRange) -> Option<Path<'a>> {
    let mut found: Option<NodeId> = None;
    match part.name {
        Name::Node(node) => found = Some(node),
        Name::Memory => {
            // Cannot fail, since the tree was already read; the name is only for a message.
            let _ = platform.tree.walk(&mut |node| {
                if found.is_none() && is_memory(node) && node.enabled() {
                    for reg in node.reg()? {
                        if let Reg::Visible(range) = reg?
                            && range.overlaps(other)
                        {
                            found = Some(node.id);
                        }
                    }
                }
                Ok(())
            });
        }
        Name::Image
        | Name::Pool
        | Name::Dtb
        | Name::HostDtb
        | Name::Kernel
        | Name::Ramdisk
        | Name::Reservation
        | Name::Doorbell => {}
    }
    found.map(|node| platform.path(node))
}
