//! The attacks in order.
#![allow(unsafe_code)]

use alloc::format;
use alloc::string::String;
use core::arch::asm;
use uefi::boot::{self, AllocateType, MemoryType};
use uefi::prelude::*;
use uefi::runtime::{self, ResetType};
use uefi::table::cfg::ConfigTableEntry;
use uefi::{println, system};

use crate::edu::Edu;
use crate::loader::{self, Loader};

/// Bytes of a transfer: an SMMU reports each 4 of them that it blocks.
const COUNT: usize = 8;
/// The byte that the transfer in flight writes, and the content of the device's buffer before a read attack.
const WRITTEN: u8 = 0xa5;
const CANARY: u8 = 0x5a;
/// Offset of the magic number in EL2's image; a read that is not blocked returns it.
const MAGIC: u64 = 56;

#[entry]
fn main() -> Status {
    match run() {
        Ok(()) => println!("TEST t70_firmware: PASS"),
        Err(why) => println!("TEST t70_firmware: FAIL {why}"),
    }
    runtime::reset(ResetType::SHUTDOWN, Status::SUCCESS, None)
}

fn run() -> Result<(), String> {
    let edu = Edu::find()?;
    let loader = Loader::read()?;
    let page = loader::page()?;
    check(level() == 2, "the firmware does not run at EL2")?;

    // A refused start must change nothing. It also shows the address of EL2's memory in the next start.
    check(loader.start("misspelt=1", || ()).is_error(), "a misspelt option is not refused")?;
    check(level() == 2, "after a refusal the firmware does not run at EL2")?;
    println!("CONTROL refused_untouched: ok");
    let target = loader::freed_image().ok_or("no EL2 image in free memory")? + MAGIC;

    // A transfer to EL2's image is in flight while EL2 takes over.
    loader::fill(page, WRITTEN, COUNT);
    edu.load(page, COUNT as u64);
    // portcullis.efi returns an error if a boot entry started it, so that firmware starts the next entry.
    let status = loader.start("", || edu.start_store(target, COUNT as u64));
    check(level() == 1, &format!("the firmware does not continue at EL1; portcullis.efi: {status}"))?;
    edu.wait();
    let own = loader::reserved_range(target).ok_or("EL2's memory has another address than in the refused start")?;
    println!("ANNOUNCED iova={target:#x} write");
    let seen = read(&edu, page, target);
    attack("firmware_in_flight", seen == [WRITTEN; 4]);

    after(&edu, page, target, "firmware_dma")?;
    allocate_by_address(own)?;
    change_tables()?;
    after(&edu, page, target, "firmware_dma_tables_changed")
}

/// Prints the result of an attack; the runner compares it with the expected result.
fn attack(name: &str, landed: bool) {
    println!("ATTACK {name}: {}", if landed { "landed" } else { "blocked" });
}

fn check(good: bool, why: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(why.into()) }
}

/// The exception level that this code runs at.
fn level() -> u64 {
    let level: u64;
    // SAFETY: (1) the register is readable at EL1 and above, without side effect.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack, preserves_flags)) };
    level >> 2
}

/// Checks that DMA to memory of the host works; then the attack `name` reads EL2's memory by DMA.
fn after(edu: &Edu, page: u64, target: u64, name: &str) -> Result<(), String> {
    loader::fill(page, CANARY, COUNT);
    edu.load(page, COUNT as u64);
    loader::fill(page, 0, COUNT);
    edu.store(page, COUNT as u64);
    check(loader::bytes(page, COUNT) == [CANARY; COUNT], "DMA to the host's memory does not work")?;
    println!("CONTROL {name}: ok");
    let seen = read(edu, page, target);
    attack(name, seen == *b"ARM\x64" || seen == [WRITTEN; 4]);
    Ok(())
}

/// The bytes that the device reads at `target`; zeroes or the canary if the read is blocked.
fn read(edu: &Edu, page: u64, target: u64) -> [u8; 4] {
    loader::fill(page, CANARY, COUNT);
    edu.load(page, COUNT as u64);
    edu.load(target, 4);
    loader::fill(page, 0, COUNT);
    edu.store(page, 4);
    loader::bytes(page, 4).try_into().unwrap_or_default()
}

/// Checks that the firmware neither allocates EL2's memory by address nor frees it.
fn allocate_by_address((base, size): (u64, u64)) -> Result<(), String> {
    for address in [base, base + size / 2, base + size - 4096] {
        let given = boot::allocate_pages(AllocateType::Address(address), MemoryType::LOADER_DATA, 1);
        check(given.is_err(), &format!("the firmware allocates or frees {address:#x} in EL2's memory"))?;
    }
    println!("CONTROL memory_by_address: ok");
    Ok(())
}

/// Overwrites all ACPI tables except their headers: EL2 must use only its copies.
fn change_tables() -> Result<(), String> {
    let rsdp = system::with_config_table(|entries| {
        entries.iter().find(|entry| entry.guid == ConfigTableEntry::ACPI2_GUID).map(|entry| entry.address as u64)
    });
    let rsdp = rsdp.ok_or("no ACPI tables")?;
    // SAFETY: (1) the RSDP points to the XSDT, and the XSDT to the other tables; nothing else runs.
    unsafe {
        let xsdt = ((rsdp + 24) as *const u64).read_unaligned();
        let length = u64::from(((xsdt + 4) as *const u32).read_unaligned());
        for entry in (xsdt + 36..xsdt + length).step_by(8) {
            let table = (entry as *const u64).read_unaligned();
            let length = u64::from(((table + 4) as *const u32).read_unaligned());
            for byte in table + 36..table + length {
                (byte as *mut u8).write_volatile(0x77);
            }
        }
    }
    println!("CONTROL tables_changed: ok");
    Ok(())
}
