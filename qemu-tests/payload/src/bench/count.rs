//! Reads the counter before and after one instruction.
//!
//! Measurement and reference run the same instructions except for the measured one.
#![allow(unsafe_code)]

use core::arch::asm;

/// Ticks of a 32-bit load from `addr`.
#[inline(never)]
pub fn load32(addr: u64) -> u64 {
    let (start, end): (u64, u64);
    // SAFETY: (1) the benchmark passes the address of a register or of memory outside the image; (2) all changed
    // registers are declared.
    unsafe {
        asm!("isb", "mrs {s}, cntvct_el0", "ldr {v:w}, [{a}]", "isb", "mrs {e}, cntvct_el0",
            s = out(reg) start, e = out(reg) end, v = out(reg) _, a = in(reg) addr, options(nostack));
    }
    end - start
}

/// Ticks of a 32-bit store of `value` to `addr`.
#[inline(never)]
pub fn store32(addr: u64, value: u32) -> u64 {
    let (start, end): (u64, u64);
    // SAFETY: (1) as in [`load32`]; no memory of the image is written.
    unsafe {
        asm!("dsb sy", "isb", "mrs {s}, cntvct_el0", "str {v:w}, [{a}]", "isb", "mrs {e}, cntvct_el0",
            s = out(reg) start, e = out(reg) end, v = in(reg) value, a = in(reg) addr, options(nostack));
    }
    end - start
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident $instruction:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// X0 to X2 are arguments. Returns X0 and the ticks.
        #[inline(never)]
        pub fn $name(function: u64, x1: u64, x2: u64) -> (u64, u64) {
            let (start, end, x0): (u64, u64, u64);
            // SAFETY: (1) SMCCC: x0 to x17 may change and are declared, all others are preserved; (2) pages that
            // change owner are outside the image, as the benchmark selects them.
            unsafe {
                asm!("isb", "mrs {s}, cntvct_el0", $instruction, "isb", "mrs {e}, cntvct_el0",
                    s = out(reg) start, e = out(reg) end,
                    inout("x0") function => x0, inout("x1") x1 => _, inout("x2") x2 => _, inout("x3") 0_u64 => _,
                    out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
                    out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
                    options(nostack));
            }
            (end - start, x0)
        }
    )*};
}

calls! {
    /// Ticks of an HVC.
    hvc "hvc #0";
    /// Ticks of an SMC.
    smc "smc #0";
    /// Ticks of a NOP in place of a call.
    nothing "nop";
}
