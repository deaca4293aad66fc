//! Registers that the firmware goes on using although no ACPI table describes them: its variables, the code that it
//! executes in place, its clock.
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
/// Parts of a volume with blocks of one size; more than any has.
const PARTS_MAX: usize = 64;
/// Offset of the PrimeCell peripheral ID registers in a block of 4 KiB, and the part number of a PL031 (DDI 0224).
const PRIMECELL_ID: u64 = 0xfe0;
const PL031: u32 = 0x031;

/// A part of the firmware's storage.
#[repr(transparent)]
#[unsafe_protocol(FirmwareVolumeBlock2Protocol::GUID)]
struct Volume(FirmwareVolumeBlock2Protocol);

/// What the firmware uses, and as what.
pub fn find(spaces: &[SpaceEntry]) -> Vec<Registers> {
    let mut found = Vec::<Registers>::new();
    for volume in volumes() {
        let at = spaces.iter().find(|space| space.range.has(volume.base));
        let used = match at {
            Some(space) if space.kind == GCD_MMIO && space.attributes & RUNTIME != 0 => {
                Registers { range: space.range, used_as: Use::Variables }
            }
            Some(space) if space.kind != GCD_MMIO && space.kind != GCD_NONE => continue, // A copy in memory.
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

/// Whole pages around it.
fn pages(range: Range) -> Range {
    let base = range.base / PAGE * PAGE;
    let end = range.base.saturating_add(range.size).div_ceil(PAGE).saturating_mul(PAGE);
    Range { base, size: end.saturating_sub(base) }
}

/// Whether a PL031 is at `range`: its ID registers say so.
fn is_clock(range: Range) -> bool {
    if range.size != PAGE || !range.base.is_multiple_of(PAGE) {
        return false;
    }
    let id = |n: u64| {
        let register = range.base.saturating_add(PRIMECELL_ID).saturating_add(n.saturating_mul(4)) as *const u32;
        // SAFETY: (1) the firmware maps registers here, for its own use at run time; (2) ID registers of a PrimeCell
        // have no side effects, and other devices of one page have nothing at its end that a read would change.
        unsafe { register.read_volatile() }
    };
    (id(0) & 0xff) | (id(1) & 0xf) << 8 == PL031
}

/// The addresses of the firmware's volumes that the CPU reads as memory.
fn volumes() -> Vec<Range> {
    let handles = boot::find_handles::<Volume>().unwrap_or_default();
    handles
        .into_iter()
        .filter_map(|handle| {
            let params = OpenProtocolParams { handle, agent: image_handle(), controller: None };
            // SAFETY: (1) the firmware's volumes stay as they are while this program runs, which changes none.
            let volume = unsafe { boot::open_protocol::<Volume>(params, OpenProtocolAttributes::GetProtocol) }.ok()?;
            let mut base = 0;
            // SAFETY: (1) the protocol's function, with a result to fill in.
            let status = unsafe { (volume.0.get_physical_address)(&volume.0, &mut base) };
            status.is_success().then(|| Range { base, size: size(&volume.0) })
        })
        .collect()
}

fn size(volume: &FirmwareVolumeBlock2Protocol) -> u64 {
    let (mut total, mut block) = (0_u64, 0_u64);
    for _ in 0..PARTS_MAX {
        let (mut bytes, mut count) = (0_usize, 0_usize);
        // SAFETY: (1) the protocol's function, with two results to fill in.
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
