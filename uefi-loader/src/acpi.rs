//! Copies the ACPI tables. The firmware can change the originals later; EL2 uses only the copies.
#![allow(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr;
use uefi::system;
use uefi::table::cfg::ConfigTableEntry;

/// Offset of the XSDT's address in an RSDP of revision 2 (ACPI 6.5, 5.2.5.3).
const RSDP_XSDT: usize = 24;
const RSDP_REVISION: usize = 15;
/// Offset of a table's length, and length of its header.
const LENGTH: usize = 4;
const HEADER: usize = 36;
/// Maximum length of a table in bytes; tables that EL2 uses are shorter.
const LENGTH_MAX: usize = 16 << 20;

/// Copies all tables of the XSDT.
///
/// # Errors
/// A message, if there is no ACPI 2.0 or a table has an impossible length.
pub fn copy() -> Result<Vec<Vec<u8>>, String> {
    let rsdp = system::with_config_table(|entries| {
        entries.iter().find(|entry| entry.guid == ConfigTableEntry::ACPI2_GUID).map(|entry| entry.address.cast::<u8>())
    });
    let rsdp = rsdp.ok_or("the firmware has no ACPI 2.0 tables: enable ACPI in its setup (QEMU: acpi=on)")?;
    // SAFETY: (1) the configuration table points to an RSDP, which has more than 15 bytes in every revision.
    let revision = unsafe { rsdp.add(RSDP_REVISION).read() };
    if revision < 2 {
        return Err(format!("the RSDP at {rsdp:p} has revision {revision}, not 2 or more: update the firmware"));
    }
    // SAFETY: (1) an RSDP of this revision has 36 bytes.
    let xsdt = unsafe { ptr::read_unaligned(rsdp.add(RSDP_XSDT).cast::<u64>()) };
    let xsdt = table(xsdt)?;
    xsdt.get(HEADER..).unwrap_or_default().chunks_exact(8).map(|entry| table(address(entry))).collect()
}

fn address(entry: &[u8]) -> u64 {
    u64::from_le_bytes(entry.try_into().unwrap_or_default())
}

/// A copy of the table at `address`, of the length in its header.
fn table(address: u64) -> Result<Vec<u8>, String> {
    let start = address as *const u8;
    if start.is_null() {
        return Err("the XSDT has an entry of zero: update the firmware".into());
    }
    // SAFETY: (1) the XSDT or the RSDP points to a table here, and each table has a header.
    let length = unsafe { ptr::read_unaligned(start.wrapping_add(LENGTH).cast::<u32>()) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(HEADER..=LENGTH_MAX).contains(&length) {
        return Err(format!("the ACPI table at {address:#x} has the length {length:#x}: update the firmware"));
    }
    let mut copy = Vec::with_capacity(length);
    // SAFETY: (1) the table has this length, by its header; (2) the copy has at least this capacity, and does not
    // overlap it.
    unsafe {
        ptr::copy_nonoverlapping(start, copy.as_mut_ptr(), length);
        copy.set_len(length);
    }
    Ok(copy)
}
