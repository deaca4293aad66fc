//! Exceptions: a test that expects an abort uses [`catch`], which records the syndrome and skips the instruction; any
//! other exception fails the test.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::num::usize_of;
use crate::sysreg::MAX_CPUS;
use crate::{gic, sysreg};

global_asm!(
    r#"
    .section .text.vectors, "ax"
    .balign 2048
    .global payload_vectors
payload_vectors:
    .set    vector, 0
    .rept   16
    .balign 128
    sub     sp, sp, #272
    stp     x0, x1, [sp]
    mov     x1, #vector
    b       exception_common
    .set    vector, vector + 1
    .endr

    .balign 128
exception_common:
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
    mrs     x2, elr_el1
    stp     x30, x2, [sp, #240]
    mrs     x2, spsr_el1
    str     x2, [sp, #256]
    mov     x0, sp
    bl      payload_exception
    ldr     x2, [sp, #256]
    msr     spsr_el1, x2
    ldp     x30, x2, [sp, #240]
    msr     elr_el1, x2
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
    ldp     x0, x1, [sp]
    add     sp, sp, #272
    eret
    "#
);

unsafe extern "C" {
    /// The vector table, which only the boot code uses.
    pub fn payload_vectors();
}

/// Registers of the interrupted code, in the order in which the vectors store them.
#[repr(C)]
struct Frame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
}

/// A caught exception.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caught {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
}

impl Caught {
    /// Exception class (ESR_EL1.EC).
    pub fn class(&self) -> u64 {
        (self.esr >> 26) & 0x3f
    }

    /// Whether this is a data abort taken without a change of exception level.
    pub fn is_data_abort(&self) -> bool {
        self.class() == EC_DATA_ABORT
    }

    /// Whether this is an instruction abort taken without a change of exception level.
    pub fn is_instruction_abort(&self) -> bool {
        self.class() == EC_INSTRUCTION_ABORT
    }

    /// Fault status code of an abort (ESR_EL1.ISS DFSC/IFSC).
    pub fn fault_status(&self) -> u64 {
        self.esr & 0x3f
    }

    /// Whether an abort is a synchronous external abort, on the access itself or on a table walk.
    pub fn is_external(&self) -> bool {
        matches!(self.fault_status(), 0x10 | 0x13..=0x17)
    }
}

const EC_INSTRUCTION_ABORT: u64 = 0x21;
const EC_DATA_ABORT: u64 = 0x25;
/// Vector index of a synchronous exception from the current level with SP_EL1.
const VECTOR_SYNC: u64 = 4;
/// Vector index of an interrupt from the current level with SP_EL1.
const VECTOR_IRQ: u64 = 5;
/// Vector index of an SError from the current level with SP_EL1.
const VECTOR_SERROR: u64 = 7;

/// State of one CPU: whether it is in `catch`, and its last exception.
struct Slot {
    expecting: AtomicBool,
    count: AtomicU32,
    esr: AtomicU64,
    far: AtomicU64,
}

static SLOTS: [Slot; MAX_CPUS] = [const {
    Slot { expecting: AtomicBool::new(false), count: AtomicU32::new(0), esr: AtomicU64::new(0), far: AtomicU64::new(0) }
}; MAX_CPUS];

fn slot() -> &'static Slot {
    &SLOTS[usize_of(sysreg::cpu_index()) % MAX_CPUS]
}

/// Runs `body`; exceptions in it are recorded and their instruction skipped (an instruction abort returns to the caller).
///
/// The second value is the last exception caught, if there was one. Must not be nested.
pub fn catch<R>(body: impl FnOnce() -> R) -> (R, Option<Caught>) {
    let slot = slot();
    slot.count.store(0, Ordering::SeqCst);
    slot.expecting.store(true, Ordering::SeqCst);
    let result = body();
    sysreg::isb();
    slot.expecting.store(false, Ordering::SeqCst);
    let caught = (slot.count.load(Ordering::SeqCst) != 0)
        .then(|| Caught { esr: slot.esr.load(Ordering::SeqCst), far: slot.far.load(Ordering::SeqCst) });
    (result, caught)
}

/// Called by the vectors.
// SAFETY: (1) the name is the payload's own and unique; (2) the vectors pass a frame they have just stored.
#[unsafe(no_mangle)]
extern "C" fn payload_exception(frame: &mut Frame, vector: u64) {
    if vector == VECTOR_IRQ {
        return gic::take();
    }
    let esr = sysreg::esr_el1();
    let far = sysreg::far_el1();
    let slot = slot();
    if slot.expecting.load(Ordering::SeqCst) && (vector == VECTOR_SYNC || vector == VECTOR_SERROR) {
        slot.count.fetch_add(1, Ordering::SeqCst);
        slot.esr.store(esr, Ordering::SeqCst);
        slot.far.store(far, Ordering::SeqCst);
        if vector == VECTOR_SYNC {
            let caught = Caught { esr, far };
            // ELR of a completed HVC or SMC is the next instruction; of an UNDEFINED one it is the instruction itself.
            frame.elr = if caught.is_instruction_abort() { frame.x[30] } else { frame.elr.wrapping_add(4) };
        }
        return;
    }
    panic!(
        "unexpected exception: vector {vector} esr {esr:#x} far {far:#x} elr {:#x} spsr {:#x} lr {:#x} cpu {}",
        frame.elr,
        frame.spsr,
        frame.x[30],
        sysreg::cpu_index()
    );
}
