//! The layout in a start from UEFI: all of EL2's memory is in the range that the firmware reserved, and all other
//! memory is the host's.

use super::{Layout, Request, Start, host_ram};
use crate::boot_info::error::BootError;
use crate::boot_info::platform::Platform;
use crate::boot_info::range::PhysRange;

/// `own` is the reserved memory: the image, the tree and the record, in any order, then the pool up to its end.
pub(super) fn plan<'a>(
    platform: &Platform<'a>,
    own: &PhysRange,
    request: &Request<'_>,
) -> Result<Layout, BootError<'a>> {
    let parts = [
        ("EL2's image", request.image.page_rounded()),
        ("EL2's device tree", request.dtb.page_rounded()),
        ("the loader's record", request.record.page_rounded()),
    ];
    let mut rest = parts.as_slice();
    let mut used = own.base();
    while let Some(((what, range), others)) = rest.split_first() {
        let inside = own.base() <= range.base() && range.end() <= own.end();
        if range.is_empty() || !inside {
            return Err(BootError::NotInRam { what, range: *range, ram_end: own.end() });
        }
        if let Some((second, second_range)) = others.iter().find(|(_, other)| other.overlaps(range)) {
            let second_range = *second_range;
            return Err(BootError::Overlap { first: what, first_range: *range, second, second_range });
        }
        used = used.max(range.end());
        rest = others;
    }
    let wanted = platform.options.pool.unwrap_or(request.pool_size);
    let pool = PhysRange::between(used, own.end()).filter(|pool| pool.size() >= wanted);
    let pool = pool.ok_or(BootError::NoRoom { what: "EL2's pool", wanted, ram: own.size() })?;
    let image = PhysRange::between(own.base(), used).unwrap_or(request.image);
    Ok(Layout {
        start: Start::Firmware,
        image,
        pool,
        host_ram: host_ram(&platform.memory, &[*own])?,
        scrub: request.dtb,
    })
}
