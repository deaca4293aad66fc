//! Changes the firmware's translation tables so that they map the same at EL1 as at EL2. They are changed in place,
//! since the firmware continues to edit them. The changed bits have no effect at EL2.
#![allow(unsafe_code)]

use alloc::format;
use alloc::string::String;
use core::arch::asm;
use uefi_loader::tables::{Kind, at_el1, start_entries, start_level};

/// Number of descriptors of a table.
const ENTRIES: usize = 512;
/// `TCR_EL2.T0SZ` and `TG0`.
const T0SZ: u64 = 0x3f;
const TG0: u64 = 0b11 << 14;
/// The address in TTBR0_EL2, without CnP.
const BADDR: u64 = 0x0000_ffff_ffff_fffe;

/// Changes the tables at `ttbr0`, for a stage 1 without VHE.
///
/// # Errors
/// A message if the granule is not 4 KiB. Then the tables are unchanged.
pub fn for_el1(ttbr0: u64, tcr: u64) -> Result<(), String> {
    if tcr & TG0 != 0 {
        return Err(format!("the firmware's translation granule is not 4 KiB (TCR_EL2 {tcr:#x}): report it"));
    }
    let root = (ttbr0 & BADDR) as *mut u64;
    // SAFETY: (1) TTBR0_EL2 points to the tables in use, which the firmware maps to their own addresses; (2) the size
    // of the first one follows from TCR_EL2.
    unsafe { change(root, start_entries(tcr & T0SZ), start_level(tcr & T0SZ)) };
    // Orders the stores and the cache maintenance before the first walk at EL1.
    // SAFETY: (1) barriers have no other effect.
    unsafe { asm!("dsb sy", "isb", options(nostack, preserves_flags)) };
    Ok(())
}

/// # Safety
/// `table` is a table of `level` in use with `entries` descriptors, writable at its own address.
unsafe fn change(table: *mut u64, entries: usize, level: u8) {
    for index in 0..entries {
        let slot = table.wrapping_add(index);
        // SAFETY: (1) by the caller's contract; descriptors are doublewords.
        let descriptor = unsafe { slot.read_volatile() };
        let (kind, same) = at_el1(descriptor, level);
        if same != descriptor {
            // SAFETY: (1) as above; (2) EL2's walker ignores the changed bits, and reads a descriptor in one access.
            unsafe { slot.write_volatile(same) };
            // SAFETY: (1) maintenance by address changes no value; it makes the descriptor visible to uncached walks.
            unsafe { asm!("dc cvac, {}", in(reg) slot, options(nostack, preserves_flags)) };
        }
        if let Kind::Table(next) = kind {
            // SAFETY: (1) the descriptor points to a table of the next level, which the firmware also maps to its own
            // address.
            unsafe { change(next as *mut u64, ENTRIES, level.saturating_add(1)) };
        }
    }
}
