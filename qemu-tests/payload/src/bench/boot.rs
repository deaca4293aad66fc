//! Instructions from reset to the host's first instruction.

use core::sync::atomic::{AtomicU64, Ordering};

use super::counts_instructions;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::{bench_line, payload_test};

/// The physical counter at the payload's first instruction.
static ENTERED: AtomicU64 = AtomicU64::new(0);

/// Stores the counter read by the boot code.
pub fn entered_at(counter: u64) {
    ENTERED.store(counter, Ordering::Relaxed);
}

payload_test!(bench_boot, Runs::ON_REQUEST);
/// Instructions from reset to the payload's first one. Without a hypervisor the result is that of the loader's stub.
fn bench_boot(ctx: &Ctx) -> TestResult {
    counts_instructions(ctx)?;
    bench_line!(ENTERED.load(Ordering::Relaxed), 1, "instructions", "reset_to_host");
    Ok(())
}
