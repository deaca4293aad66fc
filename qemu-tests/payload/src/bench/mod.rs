//! Benchmarks: EL2's overhead in instructions.
//!
//! Under `-icount shift=0` the counter of a 1 GHz CPU advances by one for each instruction executed, at EL1 or EL2. So
//! the ticks of an access that traps, minus those of the same access without a trap, are the instructions of EL2.
//! Each benchmark is a registered test that runs only on request
//! ([`Runs::ON_REQUEST`](crate::registry::Runs::ON_REQUEST)); it writes `BENCH <name> <total>/<count> <unit>` lines,
//! and fails only if the measured operation fails.

pub mod boot;
pub mod commands;
pub mod count;
pub mod transitions;
pub mod traps;

use crate::outcome::TestResult;
use crate::setup::Ctx;
use crate::{ensure, sysreg};

/// Counter frequency at which one tick is one instruction.
const ONE_TICK_PER_INSTRUCTION: u64 = 1_000_000_000;

/// Whether the counter counts instructions here; the runner adds `-icount shift=0`.
fn counts_instructions(_ctx: &Ctx) -> TestResult {
    let frequency = sysreg::cntfrq();
    ensure!(frequency == ONE_TICK_PER_INSTRUCTION, "the counter runs at {frequency} Hz: -cpu max counts instructions");
    Ok(())
}

/// One figure: `total` of `count` measurements.
#[macro_export]
macro_rules! bench_line {
    ($total:expr, $count:expr, $unit:literal, $($name:tt)*) => {
        $crate::println!("BENCH {} {}/{} {}", format_args!($($name)*), $total, $count, $unit)
    };
}
