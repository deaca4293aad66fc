//! All forms of loads and stores that a hypervisor must handle: each register as target, sign extension, and forms
//! without a valid syndrome.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

use crate::num::usize_of;

global_asm!(
    r#"
    .section .text.access, "ax"
    .macro  save
    stp     x18, x19, [sp, #-112]!
    stp     x20, x21, [sp, #16]
    stp     x22, x23, [sp, #32]
    stp     x24, x25, [sp, #48]
    stp     x26, x27, [sp, #64]
    stp     x28, x29, [sp, #80]
    str     x30, [sp, #96]
    .endm
    .macro  restore
    ldp     x20, x21, [sp, #16]
    ldp     x22, x23, [sp, #32]
    ldp     x24, x25, [sp, #48]
    ldp     x26, x27, [sp, #64]
    ldp     x28, x29, [sp, #80]
    ldr     x30, [sp, #96]
    ldp     x18, x19, [sp], #112
    ret
    .endm

// x0 = address; returns all 64 bits of register n after a 32-bit load.
    .macro  load_into n
    .balign 128
load_\n:
    save
    .if \n == 1
    mov     x2, x0
    mov     x1, #-1
    ldr     w1, [x2]
    mov     x0, x1
    .else
    mov     x1, x0
    mov     x\n, #-1
    ldr     w\n, [x1]
    mov     x0, x\n
    .endif
    restore
    .endm

// x0 = address, x1 = value; stores the low 32 bits from register n.
    .macro  store_from n
    .balign 128
store_\n:
    save
    .if \n == 2
    mov     x3, x0
    mov     x2, x1
    str     w2, [x3]
    .else
    mov     x2, x0
    mov     x\n, x1
    str     w\n, [x2]
    .endif
    restore
    .endm

    .balign 128
payload_loads:
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    load_into \n
    .endr
    .balign 128
payload_stores:
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    store_from \n
    .endr
    .global payload_loads
    .global payload_stores
    "#
);

/// Bytes between two of the routines above.
const STRIDE: usize = 128;
/// General registers.
pub const REGISTERS: u64 = 31;

unsafe extern "C" {
    fn payload_loads();
    fn payload_stores();
}

/// Loads 32 bits from `addr` into register `register` (0..=30); returns all 64 bits of the register.
pub fn load_into(register: u64, addr: u64) -> u64 {
    let base: unsafe extern "C" fn() = payload_loads;
    let routine = (base as *const ()).wrapping_byte_add(usize_of(register % REGISTERS) * STRIDE);
    // SAFETY: (1) the routines, one for each register, are `STRIDE` bytes apart; (2) it follows the C calling
    // convention.
    let routine: extern "C" fn(u64) -> u64 = unsafe { core::mem::transmute(routine) };
    routine(addr)
}

/// Stores the low 32 bits of `value` to `addr` from register `register` (0..=30).
pub fn store_from(register: u64, addr: u64, value: u64) {
    let base: unsafe extern "C" fn() = payload_stores;
    let routine = (base as *const ()).wrapping_byte_add(usize_of(register % REGISTERS) * STRIDE);
    // SAFETY: (1) and (2) as in [`load_into`].
    let routine: extern "C" fn(u64, u64) = unsafe { core::mem::transmute(routine) };
    routine(addr, value);
}

macro_rules! access_forms {
    ($($(#[$doc:meta])* $name:ident $asm:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(addr: u64) -> u64 {
            let value: u64;
            // SAFETY: (1) the address is of a device or of foreign memory, and the caller is a test under `catch`; (2)
            // every register that the instructions change is declared.
            unsafe {
                asm!($asm, a = inout(reg) addr => _, v = inout(reg) 0_u64 => value, t = inout(reg) 0_u64 => _, options(nostack));
            }
            value
        }
    )*};
}

access_forms! {
    /// Sign-extending load of 32 bits.
    load_sign32 "ldrsw {v}, [{a}]\n/* {t} */";
    /// Sign-extending load of 16 bits into 64.
    load_sign16 "ldrsh {v}, [{a}]\n/* {t} */";
    /// Sign-extending load of 8 bits into 32.
    load_sign8 "ldrsb {v:w}, [{a}]\n/* {t} */";
    /// Load into the zero register.
    load_zero "ldr wzr, [{a}]\n/* {v} {t} */";
    /// 64-bit load into the zero register.
    load_zero64 "ldr xzr, [{a}]\n/* {v} {t} */";
    /// Store of the zero register.
    store_zero "str wzr, [{a}]\n/* {v} {t} */";
    /// Load acquire.
    load_acquire "ldar {v:w}, [{a}]\n/* {t} */";
    /// Store release.
    store_release "stlr {v:w}, [{a}]\n/* {t} */";
    /// Pair load: no valid syndrome.
    load_pair "ldp {v}, {t}, [{a}]";
    /// Pair store: no valid syndrome.
    store_pair "stp {v}, {t}, [{a}]";
    /// Post-indexed load: no valid syndrome.
    load_post "ldr {v:w}, [{a}], #4\n/* {t} */";
    /// Pre-indexed load: no valid syndrome.
    load_pre "ldr {v:w}, [{a}, #4]!\n/* {t} */";
    /// Post-indexed store: no valid syndrome.
    store_post "str {v:w}, [{a}], #4\n/* {t} */";
    /// Exclusive load: no valid syndrome.
    load_exclusive "ldxr {v:w}, [{a}]\nclrex\n/* {t} */";
    /// Exclusive store: no valid syndrome, or no store.
    store_exclusive "ldxr {v:w}, [{a}]\nstxr {t:w}, {v:w}, [{a}]";
    /// Zeroing by block: no valid syndrome, or an alignment fault of the device memory type.
    zero_block "dc zva, {a}\n/* {v} {t} */";
    /// Cache clean by address.
    clean "dc cvac, {a}\n/* {v} {t} */";
    /// Cache invalidate by address.
    invalidate "dc ivac, {a}\n/* {v} {t} */";
    /// SIMD load (with FP access enabled): no valid syndrome.
    load_simd "mrs {t}, cpacr_el1\norr {t}, {t}, #(3 << 20)\nmsr cpacr_el1, {t}\nisb\n.arch_extension fp\nldr q0, [{a}]\n/* {v} */";
    /// SIMD store: no valid syndrome.
    store_simd "mrs {t}, cpacr_el1\norr {t}, {t}, #(3 << 20)\nmsr cpacr_el1, {t}\nisb\n.arch_extension fp\nstr q0, [{a}]\n/* {v} */";
}

/// Atomic add (FEAT_LSE), which has no valid syndrome.
pub fn atomic_add(addr: u64) -> u64 {
    let value: u64;
    // SAFETY: (1) as for the forms above; (2) `.inst` is LDADD w0, w1, [x2].
    unsafe { asm!(".inst 0xb8200041", in("x0") 0_u64, out("x1") value, in("x2") addr, options(nostack)) };
    value
}
