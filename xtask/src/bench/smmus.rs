//! Cost of a revocation by number of SMMUs, on the model, measured by a test of the driver.

use anyhow::{Result, ensure};
use test_machines::exec;
use test_machines::progress::step;

use crate::bench::figure::{Figure, Report, markdown, number};
use crate::bench::scaling::section;
use crate::bench::traps::from_count;
use crate::checkout::Checkout;

/// The test.
const TEST: &str = "a_revocation_takes_as_long_as_the_slowest_smmu";
/// The start of each of the test's lines.
const LINE: &str = "SCALING ";
/// The values in a line, in this order.
const NAMES: [&str; 6] = ["smmus", "commands", "syncs", "ticks", "slowest", "one_by_one"];

/// Measures, and writes the table to `out`.
///
/// # Errors
/// When the test fails, or does not print its lines.
pub(crate) fn measure(checkout: &Checkout, report: &mut Report, out: &mut Vec<String>) -> Result<()> {
    let text = step("Revoking on 1 to 8 modelled SMMUs", || {
        let mut cargo = checkout.cargo();
        cargo.args(["test", "--quiet", "-p", "smmu-drv", "--test", "several", TEST, "--", "--exact", "--nocapture"]);
        exec::output(&mut cargo)
    })?;
    let found = lines(&text);
    ensure!(!found.is_empty(), "{TEST} printed no values:\n{text}");
    let header = ["SMMUs", "commands each", "SYNCs each", "ticks", "the slowest alone", "one after the other"];
    let mut rows = vec![header.map(str::to_owned)];
    for [smmus, commands, syncs, ticks, slowest, one_by_one] in found {
        let mut add = |what: &str, figure: Figure| report.add(format!("scaling.smmus.{smmus}.{what}"), figure);
        add("commands", Figure::new(from_count(commands), "commands").note("for each SMMU; one page"));
        add("syncs", Figure::new(from_count(syncs), "SYNCs").note("for each SMMU; one page"));
        let note = format!("one after the other {one_by_one}; target: the slowest alone");
        add("ticks", Figure::new(from_count(ticks), "ticks of the model").target(from_count(slowest)).note(note));
        rows.push([smmus, commands, syncs, ticks, slowest, one_by_one].map(|value| number(from_count(value))));
    }
    section(out, "Cost of a revocation of one page by number of SMMUs", markdown(&rows));
    Ok(())
}

/// The numbers of each line, in the order of [`NAMES`]; other lines are ignored.
fn lines(text: &str) -> Vec<[u64; NAMES.len()]> {
    // The test runner may have written dots before the text.
    let words = text.lines().filter_map(|line| line.split_once(LINE)).map(|(_, words)| words);
    words.filter_map(values).collect()
}

fn values(words: &str) -> Option<[u64; NAMES.len()]> {
    let mut values = [0; NAMES.len()];
    let mut words = words.split_whitespace();
    for (name, value) in NAMES.iter().zip(&mut values) {
        *value = words.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok()?;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_test_are_read() {
        let text = "running 1 test\n.SCALING smmus=2 commands=2 syncs=3 ticks=36 slowest=37 one_by_one=48\nok\n\
            SCALING smmus=4 commands=2\nSCALING syncs=4 smmus=1 commands=2 ticks=1 slowest=1 one_by_one=1\n";
        assert_eq!(lines(text), [[2, 2, 3, 36, 37, 48]]);
    }
}
