//! A start from UEFI: reads the loader's record and checks that the device tree is from the same loader.
#![allow(unsafe_code)]

use super::{mmu_is_on, normal};
use crate::arch::{self, Conduit, uefi};
use crate::exit::refuse;
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use hand_over::Record;
use hyp::boot_info::{Entry, PhysRange, Platform};
use hyp::smccc;
use io_pgtable::Pa;

/// Affinity fields of an MPIDR.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Reads the record at `record`, so that a refusal returns to the firmware; does nothing if `record` is 0.
pub fn begin(record: u64) {
    if record == 0 {
        return;
    }
    if mmu_is_on()
        && let Some(range) = PhysRange::new(Pa(record), size_of::<Record>() as u64)
    {
        normal("the loader's record", &range);
    }
    // SAFETY: (1) the assembly passes a record only from the entry for loaders in firmware; (2) it is mapped, or the
    // MMU is off.
    if let Err(other) = unsafe { uefi::take(record) } {
        // EL2 cannot return to the firmware: the offsets in another version of the record are unknown.
        refuse(format_args!("the loader's record has version {}, not this image's", other.0), Conduit::Smc);
    }
}

/// Refuses to boot when only one of entry and device tree is from a start from UEFI, or when firmware runs on another
/// CPU, since that CPU would stay at EL2.
pub fn check(platform: &Platform<'_>) {
    match (&platform.entry, uefi::record()) {
        (Entry::BootLoader(_), None) => {}
        (Entry::Uefi(_), Some(_)) => check_others(platform),
        (Entry::Uefi(_), None) => {
            let why =
                "the device tree is for a start by portcullis.efi, but a boot loader started EL2: start portcullis.efi";
            refuse(format_args!("{why}"), Conduit::Smc)
        }
        (Entry::BootLoader(_), Some(_)) => {
            let why = "the device tree has no memory reserved for EL2: use the loader of this version";
            refuse(format_args!("{why}"), Conduit::Smc)
        }
    }
}

/// Refuses to boot unless every other CPU is off.
fn check_others(platform: &Platform<'_>) {
    /// The result of `AFFINITY_INFO` for a CPU that is off.
    const OFF: i64 = 1;
    for cpu in platform.cpus.iter().filter(|cpu| cpu.mpidr != MPIDR_EL1.get() & AFFINITY) {
        let [state, ..] = arch::smc([u64::from(smccc::AFFINITY_INFO_64), cpu.mpidr, 0, 0]);
        let state = smccc::status(state);
        if state != OFF {
            let path = platform.path(cpu.node);
            refuse(
                format_args!("{path} is not off (AFFINITY_INFO {state}): the firmware must run on one CPU only"),
                Conduit::Smc,
            );
        }
    }
}
