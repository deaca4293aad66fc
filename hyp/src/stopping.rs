//! Whether the run ends after a bug of EL2, on this machine ([`hyp::ending`]), and how a CPU stands still meanwhile.

use aarch64_cpu::asm;
use hyp::ending::Ending;

static ENDING: Ending = Ending::new();

/// Whether the run ends after a bug of EL2.
#[inline]
pub fn ending() -> &'static Ending {
    &ENDING
}

/// Stands still until the power is off.
#[cold]
#[inline(never)]
pub fn park() -> ! {
    loop {
        asm::wfi();
    }
}
