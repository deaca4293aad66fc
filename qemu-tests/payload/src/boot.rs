//! Entry at EL1, as for Linux: an arm64 Image header, x0 = device tree, MMU off, any 2 MiB aligned address.
//!
//! Secondaries enter at [`secondary_entry`] with x0 = their index (the PSCI context id).
#![allow(unsafe_code)]

use core::arch::global_asm;

use crate::num::u64_of;
use crate::sysreg::MAX_CPUS;

/// Size of each CPU's stack in bytes.
pub const STACK_SIZE: usize = 0x1_0000;

/// The CPUs' stacks, used by the boot code only.
#[repr(C, align(4096))]
struct Stacks([[u8; STACK_SIZE]; MAX_CPUS]);

// SAFETY: (1) the name is the payload's own and unique; (2) only assembly refers to it.
#[unsafe(no_mangle)]
static mut PAYLOAD_STACKS: Stacks = Stacks([[0; STACK_SIZE]; MAX_CPUS]);

global_asm!(
    r#"
    .section .head.text, "ax"
    .global _head
_head:
    b       _start
    .long   0
    .quad   0                       // text_offset
    .quad   _image_size
    .quad   0xa                     // flags: little endian, 4K pages, anywhere in memory
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

_start:
    mrs     x20, CurrentEL
    cmp     x20, #(3 << 2)
    b.eq    el3_firmware            // el3.rs: the image was started as firmware
    mov     x20, x0
    mrs     x21, cntpct_el0         // for the boot benchmark
    adrp    x0, _head               // also the load offset: the image is linked at 0
    adrp    x1, __rela_start
    add     x1, x1, :lo12:__rela_start
    adrp    x2, __rela_end
    add     x2, x2, :lo12:__rela_end
1:  cmp     x1, x2
    b.hs    2f
    ldp     x3, x4, [x1]            // r_offset, r_info
    ldr     x5, [x1, #16]           // r_addend
    add     x1, x1, #24
    cmp     x4, #0x403              // R_AARCH64_RELATIVE
    b.ne    1b
    add     x5, x5, x0
    str     x5, [x0, x3]
    b       1b
2:  adrp    x1, __bss_start
    adrp    x2, __bss_end
3:  cmp     x1, x2
    b.hs    4f
    stp     xzr, xzr, [x1], #16
    b       3b
4:  mov     x19, xzr
    bl      cpu_setup
    mov     x0, x20
    mov     x1, x21
    b       payload_main

    .global payload_secondary
payload_secondary:
    mov     x19, x0
    bl      cpu_setup
    mov     x0, x19
    b       payload_secondary_main

// x19 = CPU index. Gives this CPU a stack, vectors, and its index in TPIDR_EL1.
cpu_setup:
    msr     SPSel, #1
    msr     daifset, #0xf
    adrp    x1, {vectors}
    add     x1, x1, :lo12:{vectors}
    msr     vbar_el1, x1
    msr     tpidr_el1, x19
    adrp    x1, PAYLOAD_STACKS
    add     x1, x1, :lo12:PAYLOAD_STACKS
    mov     x2, #{stack}
    madd    x1, x19, x2, x1
    add     x1, x1, x2
    mov     sp, x1
    isb
    ret
    "#,
    vectors = sym crate::vectors::payload_vectors,
    stack = const STACK_SIZE,
);

unsafe extern "C" {
    fn payload_secondary();
}

/// Entry point of secondaries.
pub fn secondary_entry() -> u64 {
    let entry: unsafe extern "C" fn() = payload_secondary;
    u64_of((entry as *const ()).addr())
}
