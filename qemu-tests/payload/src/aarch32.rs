//! Runs AArch32 code at EL0, on cores that support it. The code is entered from EL1 and returns with `SVC`.
//!
//! Stage 1 is disabled while it runs, so that EL0 can access all host memory.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

use crate::mem::page;
use crate::num::{u64_of, usize_of};
use crate::{mmio, mmu, sysreg};

global_asm!(
    r#"
    .section .text.aarch32, "ax"
    .balign 2048
aarch32_vectors:
    .rept   16
    .balign 128
    b       aarch32_back
    .endr

// x0 = code, x1 = its PSTATE, x2 = r0 to r7 as eight 64-bit words, updated on return. Returns ESR_EL1.
    .global payload_aarch32
payload_aarch32:
    stp     x19, x20, [sp, #-112]!
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    mrs     x3, vbar_el1
    mrs     x4, sctlr_el1
    stp     x3, x4, [sp, #-32]!
    str     x2, [sp, #16]
    adrp    x3, aarch32_vectors
    add     x3, x3, :lo12:aarch32_vectors
    msr     vbar_el1, x3
    bic     x4, x4, #1
    dsb     sy
    msr     sctlr_el1, x4
    isb
    msr     elr_el1, x0
    msr     spsr_el1, x1
    mov     x8, x2
    ldp     x0, x1, [x8]
    ldp     x2, x3, [x8, #16]
    ldp     x4, x5, [x8, #32]
    ldp     x6, x7, [x8, #48]
    eret
aarch32_back:
    ldr     x8, [sp, #16]
    stp     x0, x1, [x8]
    stp     x2, x3, [x8, #16]
    stp     x4, x5, [x8, #32]
    stp     x6, x7, [x8, #48]
    mrs     x0, esr_el1
    ldp     x3, x4, [sp], #32
    msr     vbar_el1, x3
    msr     sctlr_el1, x4
    isb
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     x19, x20, [sp], #112
    ret
    "#
);

unsafe extern "C" {
    fn payload_aarch32(code: u64, pstate: u64, registers: *mut u64) -> u64;
}

/// Exception class of an SVC from AArch32.
const EC_SVC32: u64 = 0x11;
/// User mode, interrupts masked.
const USER: u64 = 0x10 | 0x1c0;

/// Instruction set of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Words of 32 bits.
    A32,
    /// Halfwords.
    T32,
}

/// Whether this core runs AArch32 code at EL0 (ID_AA64PFR0_EL1.EL0).
pub fn is_supported() -> bool {
    sysreg::id_aa64pfr0() & 0xf == 2
}

/// Runs `code`, whose last instruction must be an `SVC`, with `registers` in r0 to r7. Returns their values
/// afterwards.
///
/// # Errors
/// ESR_EL1, if another exception than `SVC` ended it.
pub fn run(set: Set, code: &[u16], registers: [u32; 8]) -> Result<[u32; 8], u64> {
    let at = page();
    for (index, half) in code.iter().enumerate() {
        mmio::write16(at + u64_of(index) * 2, *half);
    }
    mmu::cache_clean_invalidate(at);
    mmu::cache_clean_invalidate(at + 64);
    let pstate = USER | if set == Set::T32 { 1 << 5 } else { 0 };
    // A separate page, which is cleaned: with stage 1 off the accesses are non-cacheable.
    let memory = page();
    for (index, value) in registers.iter().enumerate() {
        mmio::write64(memory + u64_of(index) * 8, u64::from(*value));
    }
    mmu::cache_clean_invalidate(memory);
    // SAFETY: (1) the code runs at EL0 and always returns through the vectors above; (2) the registers
    // that a call preserves are preserved, and so are VBAR_EL1 and SCTLR_EL1; (3) the page of registers is not shared.
    let esr = unsafe {
        asm!("ic iallu", "dsb sy", "isb", options(nostack));
        payload_aarch32(at, pstate, usize_of(memory) as *mut u64)
    };
    if esr >> 26 & 0x3f != EC_SVC32 {
        return Err(esr);
    }
    Ok(core::array::from_fn(|index| crate::num::low32(mmio::read64(memory + u64_of(index) * 8))))
}
