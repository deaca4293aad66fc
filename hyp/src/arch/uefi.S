// The two returns to firmware that ran at EL2 (crate hand-over). The entry from firmware is in head.S.

// fn back_to_firmware(record, refused) -> !: branches to the loader's code with the MMU off. EL2 wrote only to
// its own memory with caches on, so nothing else has to be cleaned.
.section .text.switch, "ax"
.global back_to_firmware
back_to_firmware:
    mrs     x2, sctlr_el2
    bic     x2, x2, #SCTLR_M
    bic     x2, x2, #SCTLR_C
    bic     x2, x2, #SCTLR_I
    dsb     sy
    isb                              // without it, Falkor may fetch from any address (docs/cpu-errata.md)
    msr     sctlr_el2, x2
    isb
    mov     x3, x1
    mov     x1, x0
    br      x3

// fn resume_firmware(stack_top, sp, resume, pstate) -> !: to EL1 with all general-purpose registers zero: the loader
// saves its state on its stack.
.global resume_firmware
resume_firmware:
    mov     sp, x0
    msr     sp_el1, x1
    msr     elr_el2, x2
    msr     spsr_el2, x3
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    mov     x\n, xzr
    .endr
    eret
    dsb     nsh
    isb
