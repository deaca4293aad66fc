//! Checks each core for errata when it enters EL2.

use crate::arch::tlb;
use aarch64_cpu::registers::{ID_AA64PFR1_EL1, MIDR_EL1, MPIDR_EL1, Readable};
use core::fmt;
use hyp::errata::{self, Core, Erratum, Workaround};

/// The core must not run the host.
#[derive(Clone, Copy, Debug)]
pub struct Refused(&'static Erratum);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Erratum { part, number, .. }) = self;
        write!(
            f,
            "{} (MIDR_EL1 {:#x}) has erratum {number}: it cannot be isolated, see docs/cpu-errata.md",
            part.name,
            MIDR_EL1.get()
        )
    }
}

/// Looks up this core's errata and applies the workaround, before the host runs on it.
///
/// # Errors
/// The erratum for which the core must not run the host.
pub fn this_core() -> Result<Option<&'static Erratum>, Refused> {
    let core = Core { midr: MIDR_EL1.get(), mpidr: MPIDR_EL1.get(), pfr1: ID_AA64PFR1_EL1.get() };
    let mut repeats = None;
    for erratum in errata::of(core) {
        match erratum.workaround {
            Workaround::RepeatTlbi => {
                tlb::repeat_from_now_on();
                repeats = Some(erratum);
            }
            Workaround::Refuse => return Err(Refused(erratum)),
            // Every core does this where it writes HCR_EL2.
            Workaround::HcrBetweenBarriers => {}
        }
    }
    Ok(repeats)
}
