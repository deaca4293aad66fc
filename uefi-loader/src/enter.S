// Enters EL2's image from firmware at EL2, and returns at EL1 or, if the image refuses, at EL2. The code runs with the
// MMU off in between: enter.rs cleans it to the point of coherency.

.equ M_C_I, 1 << 0 | 1 << 2 | 1 << 12

.text
.balign 64
.global portcullis_code
portcullis_code:

// fn portcullis_hand_over(tree, record, entry) -> refused. The stack has the callee-saved registers.
.global portcullis_hand_over
portcullis_hand_over:
    stp     x29, x30, [sp, #-112]!
    stp     x27, x28, [sp, #16]
    stp     x25, x26, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x21, x22, [sp, #64]
    stp     x19, x20, [sp, #80]
    str     x18, [sp, #96]
    mov     x3, sp
    str     x3, [x1, #RECORD_SP]
    adr     x3, 5f
    str     x3, [x1, #RECORD_RESUME]
    adr     x3, 4f
    str     x3, [x1, #RECORD_REFUSED]
    mrs     x3, daif
    str     x3, [x1, #RECORD_DAIF]
    add     x3, x3, #0x5             // EL1h; the masks are at the same bits
    str     x3, [x1, #RECORD_PSTATE]
    msr     daifset, #0xf
    // With E2H, the names of EL1's timers access EL2's timers, and EL1's have _EL02 names. A firmware that uses EL2's
    // gets EL1's in the same state; EDK2 already uses EL1's.
    ldr     x4, [x1, #RECORD_HCR]
    tbz     x4, #34, 1f
    mrs     x3, cntv_ctl_el0
    str     x3, [x1, #RECORD_CNTHV]
    tbz     x3, #0, 8f
    mrs     x4, cntv_cval_el0
    msr     s3_5_c14_c3_2, x4        // CNTV_CVAL_EL02
    msr     s3_5_c14_c3_1, x3        // CNTV_CTL_EL02
    msr     cntv_ctl_el0, xzr
8:  mrs     x3, cntp_ctl_el0
    str     x3, [x1, #RECORD_CNTHP]
    tbz     x3, #0, 1f
    mrs     x4, cntp_cval_el0
    msr     s3_5_c14_c2_2, x4        // CNTP_CVAL_EL02
    msr     s3_5_c14_c2_1, x3        // CNTP_CTL_EL02
    msr     cntp_ctl_el0, xzr
1:  mov     x3, #RECORD_SIZE
    add     x3, x3, x1
    and     x4, x1, #~63
2:  dc      civac, x4
    add     x4, x4, #16              // the smallest possible cache line
    cmp     x4, x3
    b.lo    2b
    dsb     sy
    isb
    mrs     x3, sctlr_el2
    mov     x4, #M_C_I
    bic     x3, x3, x4
    msr     sctlr_el2, x3
    isb
    br      x2

// The image refuses and branches here: x1 is the record, the MMU is off, HCR_EL2.E2H = 0.
4:  ldr     x4, [x1, #RECORD_HCR]
    dsb     sy
    msr     hcr_el2, x4
    isb
    ldr     x3, [x1, #RECORD_MAIR]
    msr     mair_el2, x3
    ldr     x3, [x1, #RECORD_TCR]
    msr     tcr_el2, x3
    ldr     x3, [x1, #RECORD_TTBR0]
    msr     ttbr0_el2, x3
    ldr     x3, [x1, #RECORD_VBAR]
    msr     vbar_el2, x3
    ldr     x3, [x1, #RECORD_TPIDR]
    msr     tpidr_el2, x3
    ldr     x3, [x1, #RECORD_CPTR]
    msr     cptr_el2, x3
    ldr     x3, [x1, #RECORD_CNTHCTL]
    msr     cnthctl_el2, x3
    tbz     x4, #34, 6f
    ldr     x3, [x1, #RECORD_TTBR1]
    msr     s3_4_c2_c0_1, x3         // TTBR1_EL2
    ldr     x3, [x1, #RECORD_CNTHV]
    tbz     x3, #0, 9f
    mrs     x4, s3_5_c14_c3_2
    msr     cntv_cval_el0, x4
    msr     cntv_ctl_el0, x3
    msr     s3_5_c14_c3_1, xzr
9:  ldr     x3, [x1, #RECORD_CNTHP]
    tbz     x3, #0, 6f
    mrs     x4, s3_5_c14_c2_2
    msr     cntp_cval_el0, x4
    msr     cntp_ctl_el0, x3
    msr     s3_5_c14_c2_1, xzr
6:  dsb     sy
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    ldr     x3, [x1, #RECORD_SCTLR]
    msr     sctlr_el2, x3
    isb
    ldr     x3, [x1, #RECORD_SP]
    mov     sp, x3
    ldr     x3, [x1, #RECORD_DAIF]
    mov     x0, #1
    msr     daif, x3
    b       7f
// The image resumes the firmware here, at EL1 with the firmware's tables.
5:  mov     x0, #0
7:  ldr     x18, [sp, #96]
    ldp     x19, x20, [sp, #80]
    ldp     x21, x22, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #32]
    ldp     x27, x28, [sp, #16]
    ldp     x29, x30, [sp], #112
    ret

.global portcullis_code_end
portcullis_code_end:
