//! Traps from the host: the one way in.
//!
//! Each is decoded by [`hyp::esr`] and answered here; what has no answer becomes an exception in the host, never a
//! panic of EL2.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod abort;
mod call;
mod frame;
mod sysreg;

use crate::{arch, exit};
use aarch64_cpu::registers::{
    ELR_EL1, ELR_EL2, ESR_EL1, ESR_EL2, FAR_EL1, FAR_EL2, Readable, SCTLR_EL1, SPSR_EL1, SPSR_EL2, VBAR_EL1, Writeable,
};
pub use frame::Frame;
use hyp::esr::{self, Trap};
use hyp::inject::{self, Exception, HostControl};

/// PSTATE bits that stepping over an instruction clears: BTYPE and the software-step state.
const STEP_CLEARS: u64 = 0b11 << 10 | 1 << 21;

/// Answers a synchronous exception from the host.
#[unsafe(no_mangle)]
#[allow(unsafe_code)] // The vector names this function.
extern "C" fn lower_sync_handler(frame: &mut Frame) {
    let esr = ESR_EL2.get();
    match esr::decode(esr) {
        Trap::Hvc => call::hvc(frame),
        Trap::Smc => {
            call::smc(frame);
            skip_instruction();
        }
        Trap::DataAbort(abort) => abort::data(frame, abort),
        Trap::InstructionAbort(abort) => abort::instruction(abort),
        Trap::SystemRegister(access) => sysreg::access(frame, access),
        Trap::Other(_) => inject(Exception::Undefined),
    }
    #[cfg(feature = "ghost")]
    crate::watch::check(esr);
}

/// Reports an exception that EL2 itself took: a register that EL3 withholds, or a bug; nothing a host does leads here.
#[unsafe(no_mangle)]
#[allow(unsafe_code)] // The vector names this function.
extern "C" fn current_el_handler(kind: u64, stack: u64) -> ! {
    if let Some(withheld) = arch::withheld(ESR_EL2.get(), ELR_EL2.get()) {
        exit::withheld(withheld);
    }
    exit::broken(format_args!(
        "EL2 took an exception of its own (kind {kind}): ESR {:#x}, FAR {:#x}, ELR {:#x}, SP {stack:#x}",
        ESR_EL2.get(),
        FAR_EL2.get(),
        ELR_EL2.get()
    ))
}

/// Continues after the trapped instruction.
fn skip_instruction() {
    ELR_EL2.set(ELR_EL2.get().wrapping_add(4));
    SPSR_EL2.set(SPSR_EL2.get() & !STEP_CLEARS);
}

/// Makes the host continue in its own exception handler.
#[cold]
fn inject(exception: Exception) {
    let entry = inject::enter(exception, SPSR_EL2.get(), HostControl(SCTLR_EL1.get()));
    ESR_EL1.set(entry.esr);
    FAR_EL1.set(FAR_EL2.get());
    ELR_EL1.set(ELR_EL2.get());
    SPSR_EL1.set(SPSR_EL2.get());
    ELR_EL2.set(VBAR_EL1.get().wrapping_add(entry.vector));
    SPSR_EL2.set(entry.pstate);
}
