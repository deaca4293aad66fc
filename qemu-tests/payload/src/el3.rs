//! Minimal EL3 firmware that traps some registers: the payload's image, started at EL3.
//!
//! The runner writes `SCR_EL3`, `CPTR_EL3`, EL2's entry point, `SCR_EL3` of later CPUs, the number of later CPUs, and
//! the flags of CPU_SUSPEND to [`SETTINGS`]. A trapped register access is returned to EL2 as an Undefined Instruction
//! exception, as newer firmware does. Four calls are implemented: SYSTEM_OFF ends the run; CPU_ON starts no later CPU
//! until it was called for all of them, then starts all at the same time; CPU_SUSPEND resets the SMMU, like the
//! power-off of its power domain, and resumes the CPU immediately; PSCI_FEATURES of CPU_SUSPEND returns the flags, or
//! NOT_SUPPORTED if the runner passes an error. At every entry, also that of a later CPU and after a power-down, EL2's
//! and the host's registers contain all ones, which a warm reset allows. The image is in flash; the firmware writes no
//! memory except the entry points of later CPUs.
#![allow(unsafe_code)]

use core::arch::global_asm;

/// Address of the runner's settings.
pub const SETTINGS: u64 = 0x4800_0000;
/// Address of the entry points of eight CPUs, by Aff0, and their contexts.
const MAILBOXES: u64 = 0x100;
/// Address of QEMU's device tree.
const DEVICE_TREE: u64 = 0x4000_0000;
/// QEMU virt's SMMU.
const SMMU: u64 = 0x0905_0000;

global_asm!(
    r#"
    // Writes \value to a register of a feature, if the ID register in x1 shows the feature.
    .macro  write_if_feature lsb, register, value
    ubfx    x2, x1, #\lsb, #4
    cbz     x2, 90f
    mov     x2, #\value
    msr     \register, x2
90:
    .endm

    .section .text.el3, "ax"
    .global el3_firmware
el3_firmware:
    ldr     x1, ={settings}
    ldp     x2, x3, [x1]
    ldr     x4, [x1, #16]
    ldr     x7, ={tree}
    mrs     x5, mpidr_el1
    ands    x5, x5, #0xff
    b.eq    6f
    // A later CPU waits until all of them have an entry point.
    ldp     x2, x6, [x1, #24]
    add     x8, x1, #{mailboxes}
4:  mov     x9, x6
5:  ldr     x4, [x8, x9, lsl #3]
    cbz     x4, 4b
    subs    x9, x9, #1
    b.ne    5b
    add     x8, x8, x5, lsl #3
    ldr     x4, [x8]
    ldr     x7, [x8, #64]
6:  msr     scr_el3, x2
    mov     x2, #0x1100             // EZ, ESM
    msr     cptr_el3, x2
    msr     mdcr_el3, xzr
    adr     x2, el3_vectors
    msr     vbar_el3, x2
    mov     x2, #0xf
    msr     s3_6_c12_c12_5, x2      // ICC_SRE_EL3
    isb
    mrs     x1, id_aa64pfr0_el1
    write_if_feature 32, s3_6_c1_c2_0, 15    // ZCR_EL3
    mrs     x1, s3_0_c0_c4_1        // ID_AA64PFR1_EL1
    write_if_feature 24, s3_6_c1_c2_6, 15    // SMCR_EL3
    // CNTFRQ_EL0 keeps its reset value: QEMU sets it to the rate of its counter.
    bl      el3_unknown
    msr     cptr_el3, x3
    msr     elr_el3, x4
    mov     x2, #0x3c9              // EL2h, all masked
    msr     spsr_el3, x2
    mov     x0, x7
    mov     x1, xzr
    eret

el3_unknown:
    mov     x2, #-1
    msr     mdcr_el2, x2
    msr     cptr_el2, x2
    msr     hstr_el2, x2
    msr     cntvoff_el2, x2
    msr     vpidr_el2, x2
    msr     vmpidr_el2, x2
    msr     cpacr_el1, x2
    msr     cnthctl_el2, xzr
    mrs     x1, id_aa64pfr0_el1
    write_if_feature 32, s3_4_c1_c2_0, 0     // ZCR_EL2
    mrs     x1, s3_0_c0_c4_1        // ID_AA64PFR1_EL1
    write_if_feature 24, s3_4_c1_c2_6, 0     // SMCR_EL2
    write_if_feature 44, s3_4_c2_c5_0, -1    // GCSCR_EL2
    write_if_feature 44, s3_0_c2_c5_0, -1    // GCSCR_EL1
    mrs     x1, id_aa64mmfr0_el1
    write_if_feature 56, s3_4_c1_c1_4, -1    // HFGRTR_EL2
    write_if_feature 56, s3_4_c1_c1_5, -1    // HFGWTR_EL2
    write_if_feature 56, s3_4_c1_c1_6, -1    // HFGITR_EL2
    write_if_feature 56, s3_4_c3_c1_4, -1    // HDFGRTR_EL2
    write_if_feature 56, s3_4_c3_c1_5, -1    // HDFGWTR_EL2
    mrs     x1, s3_0_c0_c7_1        // ID_AA64MMFR1_EL1
    write_if_feature 40, s3_4_c1_c2_2, -1    // HCRX_EL2
    mrs     x1, s3_0_c0_c7_3        // ID_AA64MMFR3_EL1
    write_if_feature 0, s3_4_c2_c0_3, -1     // TCR2_EL2
    write_if_feature 0, s3_0_c2_c0_3, -1     // TCR2_EL1
    write_if_feature 4, s3_4_c1_c0_3, -1     // SCTLR2_EL2
    write_if_feature 4, s3_0_c1_c0_3, -1     // SCTLR2_EL1
    ret

el3_trap:
    mrs     x9, esr_el3
    lsr     x9, x9, #26
    cmp     x9, #0x17               // SMC
    b.eq    el3_off
    mrs     x9, elr_el3
    msr     elr_el2, x9
    mrs     x9, spsr_el3
    msr     spsr_el2, x9
    mov     x9, #0x02000000         // unknown reason, 32-bit instruction
    msr     esr_el2, x9
    mrs     x9, vbar_el2
    add     x9, x9, #0x200
    msr     elr_el3, x9
    mov     x9, #0x3c9
    msr     spsr_el3, x9
    eret

el3_off:
    movz    w9, #0x8400, lsl #16
    movk    w9, #0x0008             // SYSTEM_OFF
    cmp     w0, w9
    b.ne    2f
    adr     x1, el3_exit
    mov     w0, #0x18               // SYS_EXIT
    hlt     #0xf000
2:  movz    w9, #0xc400, lsl #16
    movk    w9, #0x0001             // CPU_SUSPEND
    cmp     w0, w9
    b.eq    el3_suspend
    add     w9, w9, #2              // CPU_ON
    cmp     w0, w9
    b.eq    el3_on
    movz    w9, #0x8400, lsl #16
    movk    w9, #0x000a             // PSCI_FEATURES
    cmp     w0, w9
    mov     x0, #-1                 // NOT_SUPPORTED
    b.ne    4f
    movz    w9, #0xc400, lsl #16
    movk    w9, #0x0001             // of CPU_SUSPEND
    cmp     w1, w9
    b.ne    4f
    ldr     x9, ={settings}
    ldr     x0, [x9, #40]
4:  eret

el3_on:
    ldr     x9, ={settings}
    add     x9, x9, #{mailboxes}
    and     x1, x1, #0xff
    add     x9, x9, x1, lsl #3
    str     x3, [x9, #64]
    dsb     sy
    str     x2, [x9]
    dsb     sy
    mov     x0, #0                  // SUCCESS
    eret

el3_suspend:
    ldr     x9, ={smmu}
    str     wzr, [x9, #0x20]        // CR0
    mov     w0, #0x80000000         // GBPA: UPDATE, and no ABORT
    str     w0, [x9, #0x44]
    str     xzr, [x9, #0x80]        // STRTAB_BASE
    str     xzr, [x9, #0x90]        // CMDQ_BASE
    dsb     sy
    ldr     x9, ={settings}
    ldr     x9, [x9, #40]
    lsr     w0, w1, #16             // bit 16 is set for a power-down state,
    tbnz    x9, #63, 5f
    tbz     x9, #1, 5f
    lsr     w0, w1, #30             // in the extended format bit 30
5:  tbnz    w0, #0, 3f
    mov     x0, #0                  // SUCCESS, after a standby
    eret
3:  msr     elr_el3, x2             // after a power-down: at the entry, with the MMU off
    mov     x0, x3
    bl      el3_unknown
    mov     x9, #0x0830
    movk    x9, #0x30c5, lsl #16
    msr     sctlr_el2, x9
    mov     x9, #0x3c9
    msr     spsr_el3, x9
    isb
    eret

    .balign 8
el3_exit:
    .quad   0x20026, 0

    .balign 2048
el3_vectors:
    .rept   16
    .balign 128
    b       el3_trap
    .endr
    "#,
    settings = const SETTINGS,
    mailboxes = const MAILBOXES,
    tree = const DEVICE_TREE,
    smmu = const SMMU,
);
