//! The figures of io-pgtable's own benchmark, which compares it with other crates in one process.

use std::fs;

use anyhow::{Context, Result, bail};
use test_machines::exec;
use test_machines::progress::{say, step};

use crate::bench::figure::Report;
use crate::checkout::Checkout;

/// Exit status of the benchmark if a figure misses its target.
const MISSED: i32 = 3;

/// Builds and runs the benchmark, with instruction counts if valgrind is installed.
///
/// # Errors
/// When it does not build or run.
pub(crate) fn measure(checkout: &Checkout, report: &mut Report) -> Result<()> {
    let json = checkout.work_dir("bench")?.join("io-pgtable.json");
    let valgrind = exec::capture(std::process::Command::new("valgrind").arg("--version")).is_ok();
    if !valgrind {
        say("valgrind is not installed: no instruction counts of io-pgtable (apt-get install valgrind)");
    }
    let finished = step("Measuring io-pgtable against its peers", || {
        let mut cargo = checkout.cargo();
        cargo.args(["run", "--quiet", "--release", "-p", "pgtable-bench", "--"]);
        cargo.arg("--json").arg(&json);
        if valgrind {
            cargo.arg("--insns");
        }
        exec::capture(&mut cargo)
    })?;
    if !finished.status.success() && finished.status.code() != Some(MISSED) {
        bail!("pgtable-bench failed ({}):\n{}", finished.status, exec::tail(&finished));
    }
    print!("{}", String::from_utf8_lossy(&finished.stdout));
    let text = fs::read_to_string(&json).with_context(|| format!("cannot read {}", json.display()))?;
    let object = serde_json::from_str(&text).with_context(|| format!("{} is not a JSON object", json.display()))?;
    report.merge_json(&object);
    Ok(())
}
