//! The rows' tests on the build machine. If possible the tests also run the attack without its defence, and print that
//! it landed.

use anyhow::{Result, bail};
use test_machines::exec;
use test_machines::progress::step;

use crate::checkout::Checkout;
use crate::threats::table::{End, Found};

/// The packages with such tests, and which of their targets are run.
const PACKAGES: [(&str, &[&str]); 9] = [
    ("io-pgtable", &["--lib", "--tests"]),
    ("model-tests", &["--tests"]),
    ("smmu-drv", &["--tests"]),
    ("gic-guard", &["--tests"]),
    ("gic-tests", &["--tests"]),
    ("shadow-s2", &["--tests"]),
    ("mem-protect", &["--tests"]),
    ("hyp", &["--lib"]),
    ("acpi-machine", &["--lib"]),
];

/// Printed by a test that also runs the attack without its defence and fails unless it lands: `UNDEFENDED` of
/// model-tests.
const UNDEFENDED: &str = "attack run without its defence";

/// Runs every test whose name starts with a row, or with one of the given rows.
///
/// # Errors
/// When the tests do not build.
pub(crate) fn run(checkout: &Checkout, rows: &[u8]) -> Result<Vec<Found>> {
    // Shows progress while compiling. The packages with a row's tests are known only after the build.
    step("Building the tests on the build machine", || {
        PACKAGES.iter().try_for_each(|(package, targets)| {
            exec::output(checkout.cargo().args(["test", "--no-run", "-p", package]).args(*targets)).map(|_| ())
        })
    })?;
    let mut found = Vec::new();
    for (package, targets) in PACKAGES {
        let mut cargo = checkout.cargo();
        cargo.args(["test", "--no-fail-fast", "-p", package]).args(targets).args(["--", "--show-output"]);
        if rows.is_empty() {
            cargo.args((0..=7).map(|tens| format!("t{tens}")));
        }
        cargo.args(rows.iter().map(|row| format!("t{row:02}")));
        let output = step(&format!("Running the attacks of {package}"), || exec::capture(&mut cargo))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let tests = parse(package, &text);
        if !output.status.success() && tests.iter().all(|test| test.with != End::Failed) {
            bail!("`{}` ended with {}\n{}", exec::shown(&cargo), output.status, exec::tail(&output));
        }
        found.extend(tests);
    }
    Ok(found)
}

/// Parses the results, and the tests that printed that the attack landed.
fn parse(package: &str, text: &str) -> Vec<Found> {
    let mut tests: Vec<Found> = Vec::new();
    let mut printing = None;
    for line in text.lines() {
        if let Some((name, end)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            let with = match end {
                "ok" => End::Blocked,
                "FAILED" => End::Failed,
                _ => continue,
            };
            let (found, test) = (format!("{package}: {name}"), name.to_owned());
            tests.push(Found { name: found, test, without: End::NotRun, with, reason: None });
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            printing = tests.iter().rposition(|test| test.test == name);
        } else if let Some((_, how)) = line.split_once(UNDEFENDED)
            && let Some(test) = printing.and_then(|index| tests.get_mut(index))
        {
            // `: what was missing: how it was detected`; the second part only for an assertion.
            let reason = how.strip_prefix(": ").map(str::to_owned);
            test.without = if reason.is_some() && test.without != End::Landed { End::Detected } else { End::Landed };
            test.reason = test.reason.take().or(reason);
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_assertion_is_reported() {
        let text =
            format!("test t01_a ... ok\n\n---- t01_a stdout ----\n{UNDEFENDED}: budget: 9000 commands in one trap\n");
        let tests = parse("p", &text);
        let ends: Vec<_> = tests.iter().map(|test| (test.without, test.reason.as_deref())).collect();
        assert_eq!(ends, [(End::Detected, Some("budget: 9000 commands in one trap"))]);
    }

    #[test]
    fn printed_text_is_assigned_to_its_test() {
        let text = format!(
            "test t01_a ... ok\ntest t02_b ... ok\ntest t03_c ... FAILED\n\nsuccesses:\n\n---- t02_b stdout ----\n{UNDEFENDED}\n"
        );
        let ends: Vec<_> = parse("p", &text).iter().map(|test| (test.without, test.with)).collect();
        assert_eq!(ends, [(End::NotRun, End::Blocked), (End::Landed, End::Blocked), (End::NotRun, End::Failed)]);
    }
}
