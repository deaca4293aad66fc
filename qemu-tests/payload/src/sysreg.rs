//! System registers, barriers and hints of the CPU that the payload runs on.
#![allow(unsafe_code)]

use core::arch::asm;

/// Maximum number of CPUs; [`cpu_index`] is lower.
pub const MAX_CPUS: usize = 8;

macro_rules! read_register {
    ($(#[$doc:meta] $name:ident = $register:literal;)*) => {$(
        #[$doc]
        pub fn $name() -> u64 {
            let value;
            // SAFETY: (1) reading this register has no side effect and is allowed at EL1.
            unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    )*};
}

read_register! {
    /// Exception level, in bits 3:2.
    current_el = "CurrentEL";
    /// Syndrome of the last exception taken to EL1.
    esr_el1 = "esr_el1";
    /// Fault address of the last exception taken to EL1.
    far_el1 = "far_el1";
    /// Index of this CPU, set by the boot code.
    cpu_index = "tpidr_el1";
    /// Part and revision of this CPU.
    midr_el1 = "midr_el1";
    /// Affinity of this CPU.
    mpidr_el1 = "mpidr_el1";
    /// Counter frequency in Hz.
    cntfrq = "cntfrq_el0";
    /// System control.
    sctlr_el1 = "sctlr_el1";
    /// Instruction set features 2: WFxT.
    id_aa64isar2 = "S3_0_C0_C6_2";
    /// Debug features 0: PMU, SPE, trace, TRBE.
    id_aa64dfr0 = "id_aa64dfr0_el1";
    /// Memory model features 0.
    id_aa64mmfr0 = "id_aa64mmfr0_el1";
    /// Processor features 0.
    id_aa64pfr0 = "id_aa64pfr0_el1";
}

/// Virtual counter, ordered after earlier instructions.
pub fn cntvct() -> u64 {
    isb();
    let value;
    // SAFETY: (1) reading the counter has no side effect.
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Instruction synchronisation.
pub fn isb() {
    // SAFETY: (1) a barrier changes no state.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Completes earlier memory and device accesses before later ones.
pub fn dsb() {
    // SAFETY: (1) a barrier changes no state.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Spin-loop hint.
pub fn relax() {
    // SAFETY: (1) a hint changes no state.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// Waits for an interrupt, possibly forever.
pub fn wfi() {
    // SAFETY: (1) a hint changes no state.
    unsafe { asm!("wfi", options(nostack, preserves_flags)) };
}

/// Waits for an interrupt until the virtual counter reaches `deadline`; returns whether this CPU can do this
/// (FEAT_WFxT).
pub fn wfit(deadline: u64) -> bool {
    let supported = id_aa64isar2() & 0xf == 2;
    if supported {
        // SAFETY: (1) WFIT x0 (FEAT_WFxT, just checked) only waits, and returns at the deadline at the latest.
        unsafe { asm!(".inst 0xd5031020", in("x0") deadline, options(nostack, preserves_flags)) };
    }
    supported
}

/// `us` microseconds in counter ticks.
pub fn ticks(us: u64) -> u64 {
    us.saturating_mul(cntfrq()) / 1_000_000
}

/// Polls `done` for at most `us` microseconds; returns whether it became true.
pub fn poll_us(us: u64, mut done: impl FnMut() -> bool) -> bool {
    let deadline = cntvct().saturating_add(ticks(us));
    loop {
        if done() {
            return true;
        }
        if cntvct() > deadline {
            return false;
        }
        relax();
    }
}
