//! Registers that no ACPI table describes and that the firmware uses at run time: flash with its variables, flash with
//! code that it executes in place, and its clock.
#![allow(unsafe_code)]

use acpi_machine::{Range, Registers, SpaceEntry, Use};
use alloc::vec::Vec;
use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, image_handle};
use uefi::proto::unsafe_protocol;
use uefi_raw::protocol::firmware_volume::FirmwareVolumeBlock2Protocol;

/// `EfiGcdMemoryTypeMemoryMappedIo`.
const GCD_MMIO: u32 = 3;
/// `EfiGcdMemoryTypeNonExistent`.
const GCD_NONE: u32 = 0;
/// `EFI_MEMORY_RUNTIME`.
const RUNTIME: u64 = 1 << 63;
const PAGE: u64 = 4096;
/// Maximum number of parts of a volume that differ in block size.
const PARTS_MAX: usize = 64;
/// Offset of the PrimeCell peripheral ID registers in a block of 4 KiB, and the part number of a PL031 (DDI 0224).
const PRIMECELL_ID: u64 = 0xfe0;
const PL031: u32 = 0x031;

/// A firmware volume.
#[repr(transparent)]
#[unsafe_protocol(FirmwareVolumeBlock2Protocol::GUID)]
struct Volume(FirmwareVolumeBlock2Protocol);

/// The registers that the firmware uses, with their use.
pub fn find(spaces: &[SpaceEntry]) -> Vec<Registers> {
    let mut found = Vec::<Registers>::new();
    for volume in volumes() {
        let at = spaces.iter().find(|space| space.range.has(volume.base));
        let used = match at {
            Some(space) if space.kind == GCD_MMIO && space.attributes & RUNTIME != 0 => {
                Registers { range: space.range, used_as: Use::Variables }
            }
            // The volume is a copy in memory.
            Some(space) if space.kind != GCD_MMIO && space.kind != GCD_NONE => continue,
            _ => Registers { range: pages(volume), used_as: Use::Code },
        };
        if !found.iter().any(|other| other.range.overlaps(&used.range)) {
            found.push(used);
        }
    }
    let runtime = spaces.iter().filter(|space| space.kind == GCD_MMIO && space.attributes & RUNTIME != 0);
    for space in runtime {
        if !found.iter().any(|other| other.range.overlaps(&space.range)) && is_clock(space.range) {
            found.push(Registers { range: space.range, used_as: Use::Clock });
        }
    }
    found
}

/// The whole pages that contain `range`.
fn pages(range: Range) -> Range {
    let base = range.base / PAGE * PAGE;
    let end = range.base.saturating_add(range.size).div_ceil(PAGE).saturating_mul(PAGE);
    Range { base, size: end.saturating_sub(base) }
}

/// Whether the ID registers at `range` are those of a PL031.
fn is_clock(range: Range) -> bool {
    if range.size != PAGE || !range.base.is_multiple_of(PAGE) {
        return false;
    }
    let id = |n: u64| {
        let register = range.base.saturating_add(PRIMECELL_ID).saturating_add(n.saturating_mul(4)) as *const u32;
        // SAFETY: (1) the firmware maps registers here, for its own use at run time; (2) ID registers of a PrimeCell
        // have no side effects, and other devices have no registers with read side effects at the end of a page.
        unsafe { register.read_volatile() }
    };
    (id(0) & 0xff) | (id(1) & 0xf) << 8 == PL031
}

/// The addresses of the memory-mapped firmware volumes.
fn volumes() -> Vec<Range> {
    let handles = boot::find_handles::<Volume>().unwrap_or_default();
    handles
        .into_iter()
        .filter_map(|handle| {
            let params = OpenProtocolParams { handle, agent: image_handle(), controller: None };
            // SAFETY: (1) the protocol is not removed while this program runs, and this program only reads it.
            let volume = unsafe { boot::open_protocol::<Volume>(params, OpenProtocolAttributes::GetProtocol) }.ok()?;
            let mut base = 0;
            // SAFETY: (1) a function of the protocol, called with a pointer to a local variable for its result.
            let status = unsafe { (volume.0.get_physical_address)(&volume.0, &mut base) };
            status.is_success().then(|| Range { base, size: size(&volume.0) })
        })
        .collect()
}

fn size(volume: &FirmwareVolumeBlock2Protocol) -> u64 {
    let (mut total, mut block) = (0_u64, 0_u64);
    for _ in 0..PARTS_MAX {
        let (mut bytes, mut count) = (0_usize, 0_usize);
        // SAFETY: (1) a function of the protocol, called with pointers to local variables for its results.
        let status = unsafe { (volume.get_block_size)(volume, block, &mut bytes, &mut count) };
        if !status.is_success() || count == 0 {
            break;
        }
        let (bytes, count) = (bytes as u64, count as u64);
        total = total.saturating_add(bytes.saturating_mul(count));
        block = block.saturating_add(count);
    }
    total
}
