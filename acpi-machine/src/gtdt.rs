//! GTDT: the timers (ACPI 6.5, 5.2.25). EL2 uses no interrupt of a timer. A machine whose timers have interrupts that
//! are not PPIs is refused.

use crate::error::{Error, FIRMWARE};
use crate::table::Table;

const LENGTH: usize = 96;
/// The offset of each timer's interrupt, and the message if the interrupt is not a PPI.
const INTERRUPTS: [(usize, &str); 3] = [
    (56, "the interrupt of the EL1 physical timer is not a PPI"),
    (64, "the interrupt of the virtual timer is not a PPI"),
    (72, "the interrupt of the EL2 timer is not a PPI"),
];

/// Checks the interrupts of the CPU's own timers.
pub(crate) fn check(gtdt: &Table<'_>) -> Result<(), Error> {
    gtdt.expect(&[2, 3], LENGTH)?;
    for (at, problem) in INTERRUPTS {
        let gsiv = gtdt.u32(at)?;
        // 0 means that the timer has no interrupt.
        if gsiv != 0 && !(16..32).contains(&gsiv) {
            return Err(gtdt.bad(at, gsiv.into(), problem, FIRMWARE));
        }
    }
    Ok(())
}
