//! The boot table, extended from Rust: maps more memory as normal before boot writes to it
//! (`hyp::boot_info::boot_map`).
//!
//! One of the modules that may use `unsafe`: it changes EL2's current table, while no other CPU runs.

use super::clean_to_poc;
use aarch64_cpu::asm::barrier;
use core::arch::asm;
use core::ptr;
use hyp::boot_info::PhysRange;
use hyp::boot_info::boot_map::{BLOCK, GIGABYTE, HIGH_REGIONS, LIMIT, Part, parts, regions};

/// Descriptors of a table.
const ENTRIES: usize = 512;
/// Level-2 tables: two ends for each of the image, the device tree, the kernel's header, the policy module, the pool
/// and the host's device tree, and the start of the device tree; `BOOT_L2` of head.S.
const TABLES: usize = 13;

/// As in head.S: normal write-back, inner shareable; and device, never executable.
const NORMAL: u64 = 0x741;
const DEVICE: u64 = 0x0040_0000_0000_0445;
/// The bits that distinguish a block from a table.
const KIND: u64 = 0b11;
const TABLE: u64 = 0b11;
const ATTR_DEVICE: u64 = 1 << 2;

unsafe extern "C" {
    static mut boot_l0: [u64; ENTRIES];
    static mut boot_l1: [u64; ENTRIES];
    static mut boot_high: [[u64; ENTRIES]; HIGH_REGIONS];
    static mut boot_l2: [[u64; ENTRIES]; TABLES];
}

/// The range ends above the addresses that the table can map, or every table is in use.
#[derive(Clone, Copy, Debug)]
pub struct Beyond;

/// Maps `range` as normal memory, in blocks of 2 MiB or more. Memory that is already normal is unchanged.
///
/// # Errors
/// [`Beyond`]; parts of the range may then be normal.
///
/// # Safety
/// Only the boot CPU runs, on the boot table, and no device is within the blocks of `range`.
pub unsafe fn make_normal(range: &PhysRange) -> Result<(), Beyond> {
    for (gigabyte, part) in parts(range).ok_or(Beyond)? {
        let index = usize::try_from(gigabyte).map_err(|_| Beyond)?;
        // SAFETY: (1) the index is below 512, since `parts` ends below the limit; (2) no other code uses the table.
        let entry = unsafe { (&raw mut boot_l1).cast::<u64>().add(index) };
        // SAFETY: (1) as above.
        let old = unsafe { entry.read_volatile() };
        let base = gigabyte.wrapping_mul(GIGABYTE);
        let is_table = old & KIND == TABLE;
        if !is_table && old & ATTR_DEVICE == 0 {
            continue;
        }
        match part {
            // SAFETY: (1) as the caller promises; code, stacks and tables are in a gigabyte that has a table.
            Part::Whole => unsafe { replace(entry, base | NORMAL) },
            Part::Blocks(from, to) => {
                let table = if is_table { Some((old & !0xfff) as *mut u64) } else { new_table(base) };
                let table = table.ok_or(Beyond)?;
                for block in from..to {
                    let block_index = usize::try_from(block).map_err(|_| Beyond)?;
                    // SAFETY: (1) a block's number is below 512.
                    let slot = unsafe { table.add(block_index) };
                    // SAFETY: (1) as above.
                    if unsafe { slot.read_volatile() } & ATTR_DEVICE == 0 {
                        // The block is already normal. It may contain the running code, so its descriptor must not
                        // become invalid.
                        continue;
                    }
                    // SAFETY: (1) as above.
                    unsafe { replace(slot, base.wrapping_add(block.wrapping_mul(BLOCK)) | NORMAL) };
                }
                if !is_table {
                    // SAFETY: (1) the table is complete and in memory.
                    unsafe { replace(entry, table as u64 | TABLE) };
                }
            }
        }
    }
    Ok(())
}

/// Maps `range` as device memory. Below 512 GiB, everything that is not normal memory is already device memory.
///
/// # Errors
/// [`Beyond`].
///
/// # Safety
/// Only the boot CPU runs, on the boot table, and the CPU has these addresses.
pub unsafe fn make_device(range: &PhysRange) -> Result<(), Beyond> {
    for region in regions(range).ok_or(Beyond)? {
        let index = usize::try_from(region).map_err(|_| Beyond)?;
        // SAFETY: (1) the index is below 512, since `regions` ends below 48 bits; (2) no other code uses the table.
        let entry = unsafe { (&raw mut boot_l0).cast::<u64>().add(index) };
        // SAFETY: (1) as above.
        if unsafe { entry.read_volatile() } != 0 {
            continue;
        }
        let tables = (&raw mut boot_high).cast::<[u64; ENTRIES]>();
        let table = new_table_of(tables, HIGH_REGIONS, region.wrapping_mul(LIMIT), GIGABYTE).ok_or(Beyond)?;
        // SAFETY: (1) the table is complete and in memory; (2) the entry maps nothing yet.
        unsafe { replace(entry, table as u64 | TABLE) };
    }
    Ok(())
}

/// A level-2 table of device blocks for the gigabyte at `base`; `None` if all are in use.
fn new_table(base: u64) -> Option<*mut u64> {
    new_table_of((&raw mut boot_l2).cast::<[u64; ENTRIES]>(), TABLES, base, BLOCK)
}

/// One of the `count` tables at `tables`, with device blocks of `size` bytes from `base` on; `None` if all are in use
/// (the first descriptor is then not 0).
fn new_table_of(tables: *mut [u64; ENTRIES], count: usize, base: u64, size: u64) -> Option<*mut u64> {
    for n in 0..count {
        // SAFETY: (1) `n` is an index of the tables, which only this module uses, on one CPU.
        let table = unsafe { tables.add(n).cast::<u64>() };
        // SAFETY: (1) as above; the tables are zero at the start.
        if unsafe { table.read_volatile() } != 0 {
            continue;
        }
        let mut block = base | DEVICE;
        for index in 0..ENTRIES {
            // SAFETY: (1) as above; (2) the table is not linked yet.
            unsafe { table.add(index).write_volatile(block) };
            block = block.wrapping_add(size);
        }
        clean_to_poc(table as u64, size_of::<[u64; ENTRIES]>() as u64);
        return Some(table);
    }
    None
}

/// Break before make.
///
/// # Safety
/// `entry` is a descriptor of the boot table, and no address that it maps is used during the call.
unsafe fn replace(entry: *mut u64, value: u64) {
    for step in [0, value] {
        // SAFETY: (1) by the caller's contract.
        unsafe { ptr::write_volatile(entry, step) };
        // The walker does not snoop the caches: clean_to_poc ends with a DSB, which orders the store before the
        // invalidation.
        clean_to_poc(entry as u64, size_of::<u64>() as u64);
        // SAFETY: (1) a TLB invalidation only causes a new table walk.
        unsafe { asm!("tlbi alle2", options(nostack, preserves_flags)) };
        barrier::dsb(barrier::NSH);
        barrier::isb(barrier::SY);
    }
}
