//! The firmware's map of address spaces, from its DXE services table (PI 1.8, vol. 2, 7).
#![allow(unsafe_code)]

use acpi_machine::{Range, SpaceEntry};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::slice;
use uefi::{Guid, Status, boot, guid, system};
use uefi_raw::table::Header;

/// `DXE_SERVICES_TABLE_GUID`.
const DXE_SERVICES: Guid = guid!("05ad34ba-6f02-4214-952e-4da0398e2bb9");
/// `DXE_SERVICES_SIGNATURE`.
const SIGNATURE: u64 = u64::from_le_bytes(*b"DXE_SERV");
/// Maximum number of entries.
const ENTRIES_MAX: usize = 4096;

/// `EFI_DXE_SERVICES` up to the last function that this program calls.
#[repr(C)]
struct DxeServices {
    header: Header,
    /// AddMemorySpace, AllocateMemorySpace, FreeMemorySpace, RemoveMemorySpace, GetMemorySpaceDescriptor,
    /// SetMemorySpaceAttributes.
    unused: [*const c_void; 6],
    get_memory_space_map: unsafe extern "efiapi" fn(count: *mut usize, map: *mut *mut Descriptor) -> Status,
}

/// `EFI_GCD_MEMORY_SPACE_DESCRIPTOR`.
#[repr(C)]
struct Descriptor {
    base: u64,
    length: u64,
    capabilities: u64,
    attributes: u64,
    kind: u32,
    image: *const c_void,
    device: *const c_void,
}

/// The entries of the map.
///
/// # Errors
/// A message, if the firmware has no DXE services table.
pub fn map() -> Result<Vec<SpaceEntry>, String> {
    let found = system::with_config_table(|entries| {
        entries.iter().find(|entry| entry.guid == DXE_SERVICES).map(|entry| entry.address.cast::<DxeServices>())
    });
    let without = "the firmware has no DXE services table, so it does not implement the UEFI PI \
                   specification, and EL2 cannot find the windows of PCI root bridges: use firmware that has the table";
    let services = NonNull::new(found.unwrap_or(ptr::null()).cast_mut()).ok_or(without)?;
    // SAFETY: (1) the configuration table points to the services table, which is never changed.
    let services = unsafe { services.as_ref() };
    if services.header.signature != SIGNATURE {
        return Err(without.into());
    }
    let (mut count, mut map) = (0, ptr::null_mut());
    // SAFETY: (1) a function of the firmware's table, called with pointers to local variables for its results.
    let status = unsafe { (services.get_memory_space_map)(&mut count, &mut map) };
    let Some(first) = NonNull::new(map).filter(|_| status.is_success() && count <= ENTRIES_MAX) else {
        return Err(alloc::format!("the firmware does not return its GCD map: {status}, {count} entries"));
    };
    // SAFETY: (1) the firmware allocated a list of this length for the caller.
    let entries = unsafe { slice::from_raw_parts(first.as_ptr(), count) };
    let copy = entries.iter().map(|entry| SpaceEntry {
        kind: entry.kind,
        range: Range { base: entry.base, size: entry.length },
        attributes: entry.attributes,
    });
    let copy = copy.collect();
    // SAFETY: (1) the caller must free the list, and no reference to it exists. If the call fails, the list leaks.
    let _ = unsafe { boot::free_pool(first.cast()) };
    Ok(copy)
}
