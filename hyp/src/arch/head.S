// The arm64 Image header, and the code from the boot loader's state (MMU off, caches unknown) to Rust.
//
// x19 DTB, x20 exception level, x26 the record of a loader in firmware or 0, x23 on the boot CPU the address at which
// it continues after an exception. No code before `1:` below accesses the stack, .bss or .data.
//
// The image runs at any page boundary below 512 GiB. Code has no absolute addresses; those in constants and data are
// the linked addresses until `relocate` adds the load offset.

.equ SCTLR_EL2_RES1,  0x30c50830
.equ SCTLR_M,         1 << 0
.equ SCTLR_C,         1 << 2
.equ SCTLR_SA,        1 << 3
.equ SCTLR_I,         1 << 12
.equ TCR_EL2_RES1,    (1 << 31) | (1 << 23)
.equ BLOCK_NORMAL,    0x741          // block, AttrIndx 0, AP[1] RES1, SH inner, AF
.equ BLOCK_DEVICE,    0x0040000000000445 // block, AttrIndx 1, AP[1] RES1, AF, XN
.equ VHE_ONLY,        0x22           // used instead of the exception level
.equ EARLY_TRAP,      0x23           // also instead of the exception level: an exception before EL2's vectors are set
.equ BOOT_L2,         13             // level-2 tables; TABLES of boot_table.rs
.equ BOOT_HIGH,       4              // level-1 tables above 512 GiB; HIGH_REGIONS of hyp::boot_info::boot_map
.equ MAIR_BOOT,       0x00ff         // 0: normal write-back; 1: device-nGnRnE

// Replaces the index of a CPU in \top by the top of its stack; index -1 is the boot stack, which is below the first
// stack.
.macro stack_top top, base, stride
    adrp    \base, __stacks_start
    add     \base, \base, :lo12:__stacks_start
    ldr     \stride, =__stack_stride
    add     \top, \top, #1
    madd    \top, \top, \stride, \base
.endm

// Resets registers that change the meaning of EL2's own stage 1 and instructions, on CPUs that have them: after a warm
// reset their values are unknown. With the value zero the features are off, so that the registers that they use (PIR,
// POR, MAIR2, the stack of return addresses, flags in table descriptors) need no value. The MMU is off.
.macro reset_el2
    mrs     x1, s3_0_c0_c7_4         // ID_AA64MMFR4_EL1.SRMASK: write masks over the registers below
    ubfx    x1, x1, #44, #4
    cbz     x1, 91f
    msr     s3_4_c1_c4_0, xzr        // SCTLRMASK_EL2
    msr     s3_4_c1_c4_1, xzr        // ACTLRMASK_EL2
    msr     s3_4_c1_c4_2, xzr        // CPTRMASK_EL2
    msr     s3_4_c1_c4_3, xzr        // SCTLR2MASK_EL2
    msr     s3_4_c2_c7_2, xzr        // TCRMASK_EL2
    msr     s3_4_c2_c7_3, xzr        // TCR2MASK_EL2
    isb
91: mrs     x1, s3_0_c0_c7_4         // ID_AA64MMFR4_EL1.HACDBS: hardware writes descriptors of stage 2
    tst     x1, #0xf000
    b.eq    95f
    msr     s3_4_c2_c3_4, xzr        // HACDBSBR_EL2
95: mrs     x1, s3_0_c0_c7_3         // ID_AA64MMFR3_EL1
    tst     x1, #0xf                 // TCRX
    b.eq    92f
    msr     s3_4_c2_c0_3, xzr        // TCR2_EL2
92: tst     x1, #0xf0                // SCTLRX
    b.eq    93f
    msr     s3_4_c1_c0_3, xzr        // SCTLR2_EL2
93: mrs     x1, s3_0_c0_c4_1         // ID_AA64PFR1_EL1.GCS
    ubfx    x1, x1, #44, #4
    cbz     x1, 94f
    msr     s3_4_c2_c5_0, xzr        // GCSCR_EL2
94: isb
.endm

.section .head.text, "ax"
.global _head
_head:
    b       _start
    .word   0
    .quad   0                        // text_offset
    .quad   __image_size
    .quad   0xa                      // little endian, 4 KiB pages, position: a multiple of 2 MiB anywhere in memory
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .word   0

// At HAND_OVER_ENTRY of the image, from a loader in firmware that has turned the MMU off (the crate hand-over): x0 DTB,
// x1 record.
.org _head + HAND_OVER_ENTRY
    b       uefi_start
    .word   HAND_OVER_VERSION
uefi_start:
    mov     x26, x1
    b       start

_start:
    mov     x26, xzr
start:
    mov     x19, x0
    mrs     x20, CurrentEL
    ubfx    x20, x20, #2, #2
    adr     x23, 1f
    msr     DAIFSet, #0xf
    adr     x1, _head
    tst     x1, #0xfff               // ADRP computes addresses for a page boundary
    b.ne    misplaced
    adrp    x2, __image_end
    lsr     x2, x2, #39              // the end of the boot table's range
    cbnz    x2, misplaced
    cmp     x20, #2
    b.ne    1f
    // EL2 requires HCR_EL2.E2H = 0; a CPU on which the bit stays 1 is refused below, with its MMU off.
    mov     x1, #(1 << 31)           // RW
    dsb     sy                       // no access is in progress while HCR_EL2 changes (docs/cpu-errata.md)
    msr     hcr_el2, x1
    isb
    mrs     x1, hcr_el2
    mov     x2, #VHE_ONLY
    tst     x1, #(1 << 34)
    csel    x20, x2, x20, ne
    b.ne    1f
    adrp    x1, early_vectors
    add     x1, x1, :lo12:early_vectors
    msr     tpidr_el2, xzr
    msr     vbar_el2, x1
    isb
    reset_el2

    // The blocks of 2 MiB with the image and the start of the DTB are normal memory, the rest is device memory: there
    // may be devices in the same gigabyte. The final table replaces this one before the host runs. A dirty or stale
    // cache line of the boot loader could overwrite or hide the tables: invalidate those lines first.
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4
    mov     x3, #4
    lsl     x3, x3, x2               // bytes of the smallest data cache line
    adrp    x1, boot_l1
    adrp    x2, boot_tables_end
8:  dc      ivac, x1
    add     x1, x1, x3
    cmp     x1, x2
    b.lo    8b
    dsb     sy
    adrp    x1, boot_l1
    add     x3, x1, #4096
9:  stp     xzr, xzr, [x3], #16
    cmp     x3, x2
    b.lo    9b
    mov     x2, #0
    ldr     x3, =BLOCK_DEVICE
0:  orr     x4, x3, x2, lsl #30
    str     x4, [x1, x2, lsl #3]
    add     x2, x2, #1
    cmp     x2, #512
    b.lo    0b
    adrp    x5, boot_l2
    adrp    x2, _head
    bl      map_block
    adrp    x2, __image_end          // the image is not larger than a block (link.ld)
    sub     x2, x2, #1
    bl      map_block
    mov     x2, x19                  // Rust maps the rest of the DTB
    bl      map_block
    adrp    x6, boot_l0              // its first entry; Rust adds others for devices above 512 GiB
    orr     x2, x1, #0x3             // table
    str     x2, [x6]
    // The walker reads these tables uncached (TCR IRGN0 = ORGN0 = 0), so no stale line can hide them.
    mov     x2, #MAIR_BOOT
    msr     mair_el2, x2
    mrs     x3, id_aa64mmfr0_el1
    and     x3, x3, #0xf
    mov     x4, #5
    cmp     x3, x4
    csel    x3, x3, x4, lo
    ldr     x2, =TCR_EL2_RES1 | 16   // T0SZ: 48 bits
    orr     x2, x2, x3, lsl #16
    msr     tcr_el2, x2
    msr     ttbr0_el2, x6
    dsb     sy
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    ldr     x2, =SCTLR_EL2_RES1 | SCTLR_M | SCTLR_C | SCTLR_I | SCTLR_SA
    msr     sctlr_el2, x2
    isb

1:  adrp    x1, __bss_start
    adrp    x2, __bss_end
3:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    3b
    bl      relocate
    adrp    x1, __boot_stack_top
    msr     SPSel, #1
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    cmp     x20, #2
    b.ne    4f
    mov     x1, #-1                  // no index yet: the boot stack
    msr     tpidr_el2, x1
    adrp    x1, el2_vectors          // exceptions of EL2 are reported from here on
    add     x1, x1, :lo12:el2_vectors
    msr     vbar_el2, x1
    isb
    mov     x1, x26
    bl      rust_main
4:  cmp     x20, #EARLY_TRAP
    b.ne    6f
    mov     x1, #-1                  // another exception stops this CPU
    msr     tpidr_el2, x1
6:  mov     x1, x20
    mov     x2, x21
    mov     x3, x22
    mov     x4, x26
    bl      rust_wrong_el

// Maps the block of 2 MiB with the address x2 as normal memory in the table x1, whose gigabyte gets a level-2 table of
// device memory at x5 if it has none. Rust handles an address beyond the table. Changes x3 to x8.
map_block:
    lsr     x6, x2, #30
    cmp     x6, #512
    b.hs    3f
    ldr     x4, [x1, x6, lsl #3]
    tbnz    x4, #1, 2f               // a table
    mov     x8, x5
    mov     x7, #512
1:  str     x4, [x8], #8             // the gigabyte's own block is the first one of 2 MiB, with the same attributes
    add     x4, x4, #0x200000
    subs    x7, x7, #1
    b.ne    1b
    orr     x4, x5, #0x3             // table
    str     x4, [x1, x6, lsl #3]
    add     x5, x5, #4096
2:  and     x4, x4, #~0xfff
    ubfx    x6, x2, #21, #9
    lsr     x3, x2, #21
    lsl     x3, x3, #21
    mov     x7, #BLOCK_NORMAL
    orr     x3, x3, x7
    str     x3, [x4, x6, lsl #3]
3:  ret

// Adds the load offset, the image's address minus its linked address, to each address in constants and data. The
// linker lists their locations in the format RELR [ELF gABI, "Relative relocations"]: an even entry is the location of
// an address; an odd entry has a bit for each of the 63 doublewords after the last location. Runs once, with the MMU
// on; changes x1 to x8.
relocate:
    adrp    x1, _head
    ldr     x2, =LINKED_AT
    subs    x1, x1, x2
    b.eq    5f
    adrp    x2, __relr_start
    add     x2, x2, :lo12:__relr_start
    adrp    x3, __relr_end
    add     x3, x3, :lo12:__relr_end
    mov     x4, xzr                  // the doubleword after the last location
1:  cmp     x2, x3
    b.hs    5f
    ldr     x5, [x2], #8
    tbnz    x5, #0, 2f
    add     x4, x5, x1
    ldr     x6, [x4]
    add     x6, x6, x1
    str     x6, [x4], #8
    b       1b
2:  mov     x7, x4
3:  lsr     x5, x5, #1
    cbz     x5, 4f
    tbz     x5, #0, 6f
    ldr     x6, [x7]
    add     x6, x6, x1
    str     x6, [x7]
6:  add     x7, x7, #8
    b       3b
4:  add     x4, x4, #(63 * 8)
    b       1b
5:  ret

// An exception before the MMU is on: EL3 traps a register. On the boot CPU x21 is the syndrome and x22 the address of
// the instruction, and the code continues as for a wrong exception level.
early_exception:
    mrs     x24, tpidr_el2           // not zero while the first exception is reported: Rust then uses x23
4:  cbnz    x24, 4b
    cbz     x23, 2f
    mrs     x21, esr_el2
    mrs     x22, elr_el2
    mov     x20, #EARLY_TRAP
    br      x23
    // A later CPU cannot report the exception here: other CPUs share the console and the state of the run, and
    // exclusive accesses work in cacheable memory only. So it continues without the register, whose value is treated as
    // zero while EL3 traps it (DDI 0487 issue L.a, D24.2.169), and reports the exception with the MMU on. It stops at
    // any other exception. Only x24 and x25 are free: the interrupted code uses all others.
2:  mrs     x24, esr_el2
    lsr     x25, x24, #26            // EC 0: the instruction is undefined
3:  cbnz    x25, 3b
    mrs     x25, elr_el2
    cbnz    x21, 5f                  // only the first exception is reported; its address is not zero
    mov     x20, x24
    mov     x21, x25
5:  add     x25, x25, #4
    br      x25                      // not ERET: it may be illegal while registers such as GCSCR_EL2 are not reset

.balign 0x800
early_vectors:
    .rept   16
    .balign 0x80
    b       early_exception
    .endr

// The image is not at a page boundary, or outside the boot table's range. The console is unknown, so nothing is
// printed: end with an error status.
misplaced:
    adr     x1, exit_block
    mov     w0, #0x18                // SYS_EXIT
    hlt     #0xf000
5:  wfi
    b       5b

// SYS_EXIT's argument: ADP_Stopped_ApplicationExit, status 1.
.balign 8
.global exit_block
exit_block:
    .quad   0x20026
    .quad   1

// Sizes of code, for Rust, which cannot take the address of a symbol that is not relative to the image.
.section .rodata.text_size, "a"
.balign 8
.global text_size
text_size:
    .quad   __text_size

// Secondary CPUs and resumed ones: x0 is the index of the CPU, the MMU is off. The data that they load was cleaned to
// memory.
.section .text.secondary, "ax"
.global secondary_entry
secondary_entry:
    msr     DAIFSet, #0xf
    mov     x19, x0
    mov     x21, #0                  // the address of an instruction that EL3 traps; x20 is its syndrome
    mov     x23, #0
    mov     x1, #(1 << 31)           // as at _start: no VHE; a CPU that cannot disable it stays in this loop
    dsb     sy                       // no access is in progress while HCR_EL2 changes (docs/cpu-errata.md)
    msr     hcr_el2, x1
    isb
    mrs     x1, hcr_el2
6:  tbnz    x1, #34, 6b
    adrp    x1, early_vectors
    add     x1, x1, :lo12:early_vectors
    msr     tpidr_el2, xzr
    msr     vbar_el2, x1
    isb
    reset_el2
    adrp    x1, SECONDARY_REGS
    add     x1, x1, :lo12:SECONDARY_REGS
    ldp     x2, x3, [x1]
    ldp     x4, x5, [x1, #16]
    msr     mair_el2, x2
    msr     tcr_el2, x3
    msr     ttbr0_el2, x4
    dsb     sy
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    msr     sctlr_el2, x5
    isb
    mrs     x1, sctlr_el2
7:  tbz     x1, #0, 7b               // EL3 masks the write (SCTLRMASK_EL2): do not run without the MMU
    msr     tpidr_el2, x19
    mov     x1, x19
    stack_top x1, x2, x3
    msr     SPSel, #1
    mov     sp, x1
    adrp    x1, el2_vectors
    add     x1, x1, :lo12:el2_vectors
    msr     vbar_el2, x1
    isb
    mov     x29, xzr
    mov     x30, xzr
    cbnz    x21, 8f
    mov     x0, x19
    bl      rust_secondary
8:  mov     x0, x20
    mov     x1, x21
    bl      rust_secondary_withheld
    b       .

// fn switch_tables(mair, tcr, ttbr, sctlr): replaces the whole stage 1 of EL2 with the MMU off in between, since the
// two tables map the same addresses with different sizes and attributes. The code is identity mapped; no memory is
// accessed while the MMU is off.
.section .text.switch, "ax"
.global switch_tables
switch_tables:
    mrs     x4, sctlr_el2
    bic     x4, x4, #SCTLR_M
    bic     x4, x4, #SCTLR_C
    dsb     sy
    isb                              // without it, Falkor may fetch from any address (docs/cpu-errata.md)
    msr     sctlr_el2, x4
    isb
    msr     mair_el2, x0
    msr     tcr_el2, x1
    msr     ttbr0_el2, x2
    isb
    tlbi    alle2
    dsb     sy
    isb
    msr     sctlr_el2, x3
    isb
    ret

// fn enter_host(dtb_or_context, entry, spsr, stack_top) -> !: EL1 with every register but x0 zero.
.global enter_host
enter_host:
    mov     sp, x3
    msr     elr_el2, x1
    msr     spsr_el2, x2
    .irp    n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    mov     x\n, xzr
    .endr
    eret
    dsb     nsh
    isb

.section .boot_table, "aw", @nobits
.balign 4096
.global boot_l1
boot_l1:
    .space  4096
.global boot_l0
boot_l0:
    .space  4096
.global boot_high
boot_high:                           // BOOT_HIGH tables
    .space  BOOT_HIGH * 4096
.global boot_l2
boot_l2:                             // BOOT_L2 tables, for hyp::arch::boot_table
    .space  BOOT_L2 * 4096
boot_tables_end:
