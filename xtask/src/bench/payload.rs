//! Runs one benchmark of the EL1 payload and reads its `BENCH <name> <total>/<count> <unit>` lines.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use test_machines::payload::{HypervisorKind, Images, Report as RunReport, Run, Verdict};

use crate::checkout::Checkout;

/// Results of a payload benchmark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Name to mean value and unit.
    lines: BTreeMap<String, (f64, String)>,
    /// EL2's console.
    pub(crate) el2_console: String,
}

impl Measured {
    /// The mean of a figure.
    ///
    /// # Errors
    /// When the payload did not print it.
    pub(crate) fn value(&self, name: &str) -> Result<f64> {
        self.lines.get(name).map(|(value, _)| *value).with_context(|| format!("the payload did not print {name}"))
    }

    /// All figures.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64, &str)> {
        self.lines.iter().map(|(name, (value, unit))| (name.as_str(), *value, unit.as_str()))
    }
}

/// Boots `bench` on one CPU with the clock counting instructions.
///
/// # Errors
/// When the benchmark test fails.
pub(crate) fn run(
    checkout: &Checkout,
    images: &Images,
    hypervisor: HypervisorKind,
    bench: &str,
    mem: &str,
) -> Result<Measured> {
    let dir = checkout.work_dir(&format!("runs/{bench}-{}-{mem}", hypervisor.name()))?;
    // Memory is not preallocated: a large guest that uses little memory runs on a small machine.
    let backend = format!("memory-backend-ram,id=ram,size={mem},reserve=off");
    let qemu_args = ["-object", &backend, "-machine", "memory-backend=ram"];
    let report = Run { mem, qemu_args: &qemu_args, ..Run::new(images, hypervisor, bench) }.run(&dir)?;
    match report.verdict().with_context(|| format!("{bench} with {mem}"))? {
        Verdict::Passed => Ok(read(&report)),
        Verdict::Skipped(why) => bail!("{bench}: {why}"),
    }
}

fn read(report: &RunReport) -> Measured {
    Measured {
        lines: report.outcome.host_console.lines().filter_map(line).collect(),
        el2_console: report.outcome.el2_console.clone(),
    }
}

fn line(text: &str) -> Option<(String, (f64, String))> {
    let mut words = text.trim().strip_prefix("BENCH ")?.split_whitespace();
    let name = words.next()?;
    let (total, count) = words.next()?.split_once('/')?;
    let (total, count): (f64, f64) = (total.parse().ok()?, count.parse().ok()?);
    let unit = words.next()?;
    (count > 0.0).then(|| (name.to_owned(), (total / count, unit.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_the_mean() {
        let expected = ("el2_insns.id_read".to_owned(), (150.5, "instructions".to_owned()));
        assert_eq!(line("BENCH el2_insns.id_read 301/2 instructions\r"), Some(expected));
        assert_eq!(line("BENCH a 1/0 x"), None);
        assert_eq!(line("TEST a: PASS"), None);
    }
}
