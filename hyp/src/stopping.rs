//! Whether the run ends after a bug of EL2, on this machine ([`hyp::ending`]), and parking of the other CPUs.

use aarch64_cpu::asm;
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use hyp::ending::Ending;

static ENDING: Ending = Ending::new();

/// Whether the run ends after a bug of EL2.
#[inline]
pub fn ending() -> &'static Ending {
    &ENDING
}

/// Whether the run ends on another CPU.
pub fn elsewhere() -> bool {
    ENDING.has_begun_elsewhere(MPIDR_EL1.get())
}

/// Waits until the power is off.
#[cold]
#[inline(never)]
pub fn park() -> ! {
    loop {
        asm::wfi();
    }
}
