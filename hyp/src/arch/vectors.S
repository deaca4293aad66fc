// Exception vectors of EL2. A trap from the host saves x0 to x30 in the order of `Frame`, since a data abort may name
// any of them.

.equ FRAME, 256

.macro vector label
    .balign 0x80
    b       \label
.endm

.section .vectors, "ax"
.balign 0x800
.global el2_vectors
el2_vectors:
    // Current EL with SP_EL0, then with SP_EL2: only a defect of EL2 causes these.
    vector  current_sync
    vector  current_other
    vector  current_other
    vector  current_other
    vector  current_sync
    vector  current_other
    vector  current_other
    vector  current_other
    // Lower EL, AArch64: the host handles IRQ, FIQ and SError; they are not routed to EL2.
    vector  lower_sync
    vector  current_other
    vector  current_other
    vector  current_other
    // Lower EL, AArch32 (EL0 only).
    vector  lower_sync
    vector  current_other
    vector  current_other
    vector  current_other

// Vectors for the end of a run: if HLT is not handled as a semihosting call, its exception is taken here, and PSCI ends the
// run instead.
.balign 0x800
.global exit_vectors
exit_vectors:
    .rept   16
    .balign 0x80
    b       power_off
    .endr

.text
lower_sync:
    sub     sp, sp, #FRAME
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    str     x30, [sp, #240]
    mov     x29, xzr
    mov     x0, sp
    bl      lower_sync_handler
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp, #0]
    add     sp, sp, #FRAME
    eret
    dsb     nsh                      // no speculation past the return
    isb

// A fault of EL2 itself may be a stack overflow, and other CPUs may take one at the same time: it is reported from the top of
// this CPU's own stack, whose contents are no longer needed. TPIDR_EL2 is the CPU's index; -1, before it is known, is
// the boot stack.
current_sync:
    mov     x0, #0
    b       fatal
current_other:
    mov     x0, #1
fatal:
    mov     x1, sp
    mrs     x2, tpidr_el2
    stack_top x2, x3, x4
    mov     sp, x2
    mov     x29, xzr
    mov     x30, xzr
    bl      current_el_handler
    b       .

// x9: 0 for SMC, 1 for HVC.
power_off:
    movz    x0, #0x8400, lsl #16
    movk    x0, #0x0008              // PSCI SYSTEM_OFF
    cbnz    x9, 1f
    smc     #0
    b       2f
1:  hvc     #0
2:  wfi
    b       2b

// fn leave(failed, hvc) -> !: semihosting SYS_EXIT with an error status if `failed`, otherwise only PSCI.
.global leave
leave:
    mov     x9, x1
    cbz     x0, power_off
    mrs     x3, CurrentEL
    adrp    x2, exit_vectors
    add     x2, x2, :lo12:exit_vectors
    cmp     x3, #(1 << 2)
    b.eq    3f
    cmp     x3, #(3 << 2)
    b.eq    4f
    msr     vbar_el2, x2
    b       5f
3:  msr     vbar_el1, x2
    b       5f
4:  msr     vbar_el3, x2
5:  isb
    adrp    x1, exit_block
    add     x1, x1, :lo12:exit_block
    mov     w0, #0x18                // SYS_EXIT
    hlt     #0xf000
    b       power_off
