//! Checks whether EL2 can start on this CPU, and starts it.
#![allow(unsafe_code)]

use alloc::format;
use alloc::string::{String, ToString};
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use hand_over::{ENTRY_OFFSET, El1, El2, Record};
use uefi_loader::el1::{self, HCR_E2H};

use crate::own::Places;
use crate::translation;

global_asm!(
    ".equ RECORD_SP, {sp}",
    ".equ RECORD_RESUME, {resume}",
    ".equ RECORD_REFUSED, {refused}",
    ".equ RECORD_PSTATE, {el1} + {pstate}",
    ".equ RECORD_DAIF, {el2} + {daif}",
    ".equ RECORD_HCR, {el2} + {hcr}",
    ".equ RECORD_SCTLR, {el2} + {sctlr}",
    ".equ RECORD_TCR, {el2} + {tcr}",
    ".equ RECORD_MAIR, {el2} + {mair}",
    ".equ RECORD_TTBR0, {el2} + {ttbr0}",
    ".equ RECORD_TTBR1, {el2} + {ttbr1}",
    ".equ RECORD_VBAR, {el2} + {vbar}",
    ".equ RECORD_TPIDR, {el2} + {tpidr}",
    ".equ RECORD_CPTR, {el2} + {cptr}",
    ".equ RECORD_CNTHCTL, {el2} + {cnthctl}",
    ".equ RECORD_CNTHV, {el2} + {cnthv}",
    ".equ RECORD_CNTHP, {el2} + {cnthp}",
    ".equ RECORD_SIZE, {size}",
    sp = const offset_of!(Record, sp),
    resume = const offset_of!(Record, resume),
    refused = const offset_of!(Record, refused),
    el1 = const offset_of!(Record, el1),
    el2 = const offset_of!(Record, el2),
    pstate = const offset_of!(El1, pstate),
    daif = const offset_of!(El2, daif),
    hcr = const offset_of!(El2, hcr),
    sctlr = const offset_of!(El2, sctlr),
    tcr = const offset_of!(El2, tcr),
    mair = const offset_of!(El2, mair),
    ttbr0 = const offset_of!(El2, ttbr0),
    ttbr1 = const offset_of!(El2, ttbr1),
    vbar = const offset_of!(El2, vbar),
    tpidr = const offset_of!(El2, tpidr),
    cptr = const offset_of!(El2, cptr),
    cnthctl = const offset_of!(El2, cnthctl),
    cnthv = const offset_of!(El2, cnthv_ctl),
    cnthp = const offset_of!(El2, cnthp_ctl),
    size = const size_of::<Record>(),
);
global_asm!(include_str!("enter.S"));

unsafe extern "C" {
    fn portcullis_hand_over(tree: u64, record: *mut Record, entry: u64) -> u64;
    static portcullis_code: u8;
    static portcullis_code_end: u8;
}

macro_rules! read {
    ($reg:literal) => {{
        let value: u64;
        // SAFETY: (1) the register is readable at the exception level that the caller has checked, without side effect.
        unsafe { asm!(concat!("mrs {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// Checks that EL2 can be started on this CPU.
///
/// # Errors
/// A message with the remedy.
pub fn check() -> Result<(), String> {
    let level = (read!("CurrentEL") >> 2) & 0b11;
    if level != 2 {
        return Err(format!(
            "the firmware runs at EL{level}, not at EL2: a hypervisor runs, or the firmware must start UEFI at EL2 \
             (QEMU: -machine virtualization=on)"
        ));
    }
    // ID_AA64MMFR4_EL1.E2H0: zero where HCR_EL2.E2H can be cleared (DDI 0487 issue L.a, D24.2.99).
    let e2h0 = (read!("s3_0_c0_c7_4") >> 24) & 0xf;
    if e2h0 != 0 {
        return Err("HCR_EL2.E2H is fixed to one on this CPU: use a CPU that can run EL2 without VHE".into());
    }
    if read!("sctlr_el2") & 1 == 0 {
        return Err("the firmware runs with its MMU off, but UEFI requires it on: update the firmware".into());
    }
    Ok(())
}

/// Enters EL2's image; returns at EL1.
///
/// # Errors
/// A message: why the firmware cannot continue at EL1, or why EL2 refuses. The firmware then still runs at EL2.
pub fn hand_over(places: &Places) -> Result<(), String> {
    let el2 = el2();
    let has_vhe = el2.hcr & HCR_E2H != 0;
    let tcr = el1::tcr(el2.hcr, el2.tcr).map_err(|unknown| unknown.to_string())?;
    if !has_vhe {
        translation::for_el1(el2.ttbr0, el2.tcr)?;
    }
    let Places { image, tree, record, written } = places;
    // SAFETY: (1) `Own::fill` wrote a record there, which only this function uses.
    let record = unsafe { &mut *record.as_ptr() };
    record.el1 = El1 {
        sctlr: el1::sctlr(el2.sctlr),
        tcr,
        mair: el2.mair,
        ttbr0: el2.ttbr0,
        ttbr1: el2.ttbr1,
        vbar: el2.vbar,
        tpidr: el2.tpidr,
        pstate: 0,
    };
    record.el2 = el2;
    clean(written.base, written.base.saturating_add(written.size));
    clean((&raw const portcullis_code) as u64, (&raw const portcullis_code_end) as u64);
    let entry = image.wrapping_add(ENTRY_OFFSET as u64);
    // SAFETY: (1) image, tree, record and the code that runs with the MMU off are complete and cleaned to memory; (2)
    // the function preserves the callee-saved registers; (3) at EL1 the program has access to the same memory and
    // devices.
    match unsafe { portcullis_hand_over(*tree, record, entry) } {
        0 => Ok(()),
        _ => Err(record.reason().to_string()),
    }
}

fn el2() -> El2 {
    let hcr = read!("hcr_el2");
    El2 {
        hcr,
        sctlr: read!("sctlr_el2"),
        tcr: read!("tcr_el2"),
        mair: read!("mair_el2"),
        ttbr0: read!("ttbr0_el2"),
        // TTBR1_EL2 exists with FEAT_VHE.
        ttbr1: if hcr & HCR_E2H == 0 { 0 } else { read!("s3_4_c2_c0_1") },
        vbar: read!("vbar_el2"),
        tpidr: read!("tpidr_el2"),
        cptr: read!("cptr_el2"),
        cnthctl: read!("cnthctl_el2"),
        daif: 0,
        cnthv_ctl: 0,
        cnthp_ctl: 0,
    }
}

/// Cleans and invalidates `[start, end)` to the point of coherency.
fn clean(start: u64, end: u64) {
    let line = 4_u64 << ((read!("ctr_el0") >> 16) & 0xf);
    let mut at = start & line.wrapping_neg();
    while at < end {
        // SAFETY: (1) maintenance by address changes no value; the range is mapped.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at = at.saturating_add(line);
    }
    // Completes the cache maintenance before the MMU is disabled.
    // SAFETY: (1) a barrier has no other effect.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}
