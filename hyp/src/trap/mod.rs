//! Traps from the host.
//!
//! Each is decoded by [`hyp::esr`] and handled here; unhandled ones are injected into the host as an exception and
//! never panic EL2.

mod abort;
mod call;
mod frame;
mod locks;
mod sysreg;

use crate::arch::{self, features};
use crate::exit;
use aarch64_cpu::registers::{
    ELR_EL1, ELR_EL2, ESR_EL1, ESR_EL2, FAR_EL1, FAR_EL2, ID_AA64DFR1_EL1, ID_AA64MMFR1_EL1, ID_AA64PFR1_EL1, Readable,
    SCTLR_EL1, SPSR_EL1, SPSR_EL2, VBAR_EL1, Writeable,
};
pub use frame::Frame;
use hyp::esr::{self, Trap};
use hyp::inject::{self, Exception, HostControl};
use hyp::step::{self, Condition, State};

/// Handles a synchronous exception from the host.
#[unsafe(no_mangle)]
#[allow(unsafe_code)] // The vector names this function.
extern "C" fn lower_sync_handler(frame: &mut Frame) {
    let esr = ESR_EL2.get();
    match esr::decode(esr) {
        Trap::Hvc => call::hvc(frame),
        Trap::Smc => {
            call::smc(frame);
            skip_aarch64();
        }
        Trap::DataAbort(abort) => abort::data(frame, abort),
        Trap::InstructionAbort(abort) => abort::instruction(abort),
        Trap::SystemRegister(access) => sysreg::access(frame, access),
        Trap::Other(_) => other(esr),
    }
    #[cfg(feature = "ghost")]
    locks::with_ownership(|ownership| crate::ghost::check(ownership, esr));
}

/// Reports an exception that EL2 itself took: a register that EL3 traps, or a bug; the host cannot cause it.
#[unsafe(no_mangle)]
#[allow(unsafe_code)] // The vector names this function.
extern "C" fn current_el_handler(kind: u64, stack: u64) -> ! {
    if let Some(withheld) = arch::withheld(ESR_EL2.get(), ELR_EL2.get()) {
        exit::withheld(withheld);
    }
    exit::fatal(format_args!(
        "EL2 took an exception of its own (kind {kind}): ESR {:#x}, FAR {:#x}, ELR {:#x}, SP {stack:#x}",
        ESR_EL2.get(),
        FAR_EL2.get(),
        ELR_EL2.get()
    ))
}

/// An instruction that the host must not use. An AArch32 instruction whose condition fails has no effect, even if it trapped.
#[cold]
fn other(esr: u64) {
    match step::condition(esr, SPSR_EL2.get()) {
        Condition::Passed => inject(Exception::Undefined),
        Condition::Failed => skip_instruction(),
    }
}

/// Continues after the trapped instruction.
fn skip_instruction() {
    if step::is_aarch32(SPSR_EL2.get()) {
        resume(step::over_aarch32(ESR_EL2.get(), interrupted()));
    } else {
        skip_aarch64();
    }
}

/// As [`skip_instruction`], for AArch64.
#[inline]
fn skip_aarch64() {
    resume(step::over_aarch64(interrupted()));
}

#[inline]
fn interrupted() -> State {
    State { pc: ELR_EL2.get(), pstate: SPSR_EL2.get() }
}

#[inline]
fn resume(at: State) {
    ELR_EL2.set(at.pc);
    SPSR_EL2.set(at.pstate);
}

/// The control registers for exception entry to EL1.
fn host_control() -> HostControl {
    HostControl {
        sctlr: SCTLR_EL1.get(),
        sctlr2: if features::sctlrx() != 0 { arch::sctlr2_el1() } else { 0 },
        gcscr: if features::gcs() != 0 { arch::gcscr_el1() } else { 0 },
        pfr1: ID_AA64PFR1_EL1.get(),
        dfr1: ID_AA64DFR1_EL1.get(),
        mmfr1: ID_AA64MMFR1_EL1.get(),
    }
}

/// Lets the host continue in its own exception handler.
#[cold]
fn inject(exception: Exception) {
    let entry = inject::enter(exception, SPSR_EL2.get(), host_control());
    ESR_EL1.set(entry.esr);
    if exception.has_address() {
        FAR_EL1.set(FAR_EL2.get());
    }
    ELR_EL1.set(ELR_EL2.get());
    SPSR_EL1.set(SPSR_EL2.get());
    ELR_EL2.set(VBAR_EL1.get().wrapping_add(entry.vector));
    SPSR_EL2.set(entry.pstate);
}
