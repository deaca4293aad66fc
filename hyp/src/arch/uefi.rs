//! The state of firmware that ran at EL2 and continues at EL1 as the host, and the two returns to it (crate
//! `hand-over`).
//!
//! One of the modules that may use `unsafe`: it accesses the loader's record by address, and leaves EL2 by assembly.

use super::{clean_to_poc, stack_top};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CPACR_EL1, MAIR_EL1, SCTLR_EL1, TCR_EL1, TPIDR_EL1, TTBR0_EL1, TTBR1_EL1, VBAR_EL1, Writeable,
};
use core::arch::asm;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use hand_over::{El1, Record, VERSION};
use hyp::boot_info::PhysRange;
use io_pgtable::Pa;
use spin::Once;

/// `CPACR_EL1.FPEN`: EL1 may use floating point, as it did at EL2.
const CPACR_FPEN: u64 = 0b11 << 20;
/// `ICC_SRE_EL1`: SRE, DFB, DIB. EL1 uses the GIC by system registers, as it did at EL2.
const ICC_SRE_EL1: u64 = 0b111;
/// Size of the record in bytes.
const RECORD_SIZE: u64 = size_of::<Record>() as u64;

unsafe extern "C" {
    fn back_to_firmware(record: u64, refused: u64) -> !;
    fn resume_firmware(stack_top: u64, sp: u64, resume: u64, pstate: u64) -> !;
}

/// Address of the record while EL2 can still return to the firmware at EL2; 0 otherwise.
static PENDING: AtomicU64 = AtomicU64::new(0);
/// The address and the register values with which the firmware continues.
static FIRMWARE: Once<Firmware> = Once::new();

struct Firmware {
    /// Address of the record, in the loader's memory.
    record: u64,
    sp: u64,
    resume: u64,
    refused: u64,
    el1: El1,
}

/// The record has another version.
#[derive(Clone, Copy, Debug)]
pub struct OtherVersion(pub u64);

/// Reads the record at `record`. Until [`commit`], a refusal returns to the firmware.
///
/// # Errors
/// [`OtherVersion`]; EL2 then cannot return to the firmware.
///
/// # Safety
/// A loader passed the record, and its memory is mapped.
pub unsafe fn take(record: u64) -> Result<(), OtherVersion> {
    // SAFETY: (1) by the caller's contract; (2) no other CPU runs.
    let found = unsafe { (record as *const Record).read_volatile() };
    if found.version != u64::from(VERSION) {
        return Err(OtherVersion(found.version));
    }
    let Record { sp, resume, refused, el1, .. } = found;
    FIRMWARE.call_once(|| Firmware { record, sp, resume, refused, el1 });
    PENDING.store(record, Ordering::Relaxed);
    Ok(())
}

/// The memory of the record, if firmware started EL2.
pub fn record() -> Option<PhysRange> {
    PhysRange::new(Pa(FIRMWARE.get()?.record), RECORD_SIZE)
}

/// Call this before EL2 changes a device: later errors end the run instead of returning to the firmware.
pub fn commit() {
    PENDING.store(0, Ordering::Relaxed);
}

/// Returns to the firmware, which continues at EL2, if [`commit`] has not been called; otherwise this function
/// returns.
pub fn refuse(why: fmt::Arguments<'_>) {
    let pending = PENDING.swap(0, Ordering::Relaxed);
    let Some(firmware) = FIRMWARE.get().filter(|_| pending != 0) else { return };
    // SAFETY: (1) EL2 maps the record until `commit`, and no other CPU runs; (2) the loader wrote a whole record.
    let record = unsafe { &mut *(pending as *mut Record) };
    // A longer reason is truncated.
    let _ = record.write_fmt(why);
    clean_to_poc(pending, RECORD_SIZE);
    // SAFETY: (1) by the contract of `hand-over`, the loader's code at this address runs with the MMU off.
    unsafe { back_to_firmware(pending, firmware.refused) }
}

/// Resumes the firmware at EL1, on CPU `cpu`, whose EL2 stack is reset; returns `None` if no
/// firmware started EL2.
pub fn resume(cpu: usize) -> Option<core::convert::Infallible> {
    let firmware = FIRMWARE.get()?;
    let el1 = &firmware.el1;
    MAIR_EL1.set(el1.mair);
    TCR_EL1.set(el1.tcr);
    TTBR0_EL1.set(el1.ttbr0);
    TTBR1_EL1.set(el1.ttbr1);
    VBAR_EL1.set(el1.vbar);
    TPIDR_EL1.set(el1.tpidr);
    CPACR_EL1.set(CPACR_FPEN);
    // SAFETY: (1) the register controls the host's interface to the GIC; (2) a GICv3 has it (`Platform::parse`).
    unsafe { asm!("msr icc_sre_el1, {}", in(reg) ICC_SRE_EL1, options(nostack, preserves_flags)) };
    // Orders the writes of TTBR0_EL1, TTBR1_EL1, TCR_EL1 and MAIR_EL1 before SCTLR_EL1 enables the MMU.
    barrier::isb(barrier::SY);
    SCTLR_EL1.set(el1.sctlr);
    barrier::isb(barrier::SY);
    // SAFETY: (1) only this CPU uses the stack; (2) the caller has set up every EL2 control, so EL1 runs under
    // stage 2.
    unsafe { resume_firmware(stack_top(cpu), firmware.sp, firmware.resume, firmware.el1.pstate) }
}
