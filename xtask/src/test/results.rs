//! Counts passed and failed tests, and prints a summary.

use std::time::Duration;

use test_machines::exec;
use test_machines::progress::{say, step};

/// The results of the tests that have run.
#[derive(Debug, Default)]
pub(crate) struct TestResults {
    suites: Vec<Suite>,
}

#[derive(Debug, Default)]
struct Suite {
    name: String,
    passed: usize,
    failures: Vec<String>,
}

impl TestResults {
    /// Number of failed tests.
    pub(crate) fn failed(&self) -> usize {
        self.suites.iter().map(|suite| suite.failures.len()).sum()
    }

    fn passed(&self) -> usize {
        self.suites.iter().map(|suite| suite.passed).sum()
    }

    /// Counts one passed test of a suite.
    pub(crate) fn pass(&mut self, suite: &str) {
        self.suite(suite).passed += 1;
    }

    /// Counts one failed test of a suite, and prints it immediately.
    pub(crate) fn fail(&mut self, suite: &str, what: &str) {
        say(&format!("FAILED {suite}: {what}"));
        let headline = what.lines().next().unwrap_or_default().to_owned();
        self.suite(suite).failures.push(headline);
    }

    fn suite(&mut self, name: &str) -> &mut Suite {
        let index = match self.suites.iter().position(|suite| suite.name == name) {
            Some(index) => index,
            None => {
                self.suites.push(Suite { name: name.to_owned(), ..Suite::default() });
                self.suites.len() - 1
            }
        };
        &mut self.suites[index]
    }

    /// Runs `cargo test` or a program with the same output format.
    pub(crate) fn cargo_test(&mut self, suite: &str, command: &mut std::process::Command) {
        let output = step(&format!("Testing {suite}"), || exec::capture(command));
        let output = match output {
            Ok(output) => output,
            Err(error) => return self.fail(suite, &format!("{error:#}")),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let (passed, failed) = parse(&text);
        self.suite(suite).passed += passed;
        for name in &failed {
            let summary_line =
                summary_line(&text, name).map(|summary_line| format!(": {summary_line}")).unwrap_or_default();
            self.fail(suite, &format!("{name}{summary_line}"));
        }
        for line in failure_reports(&text) {
            eprintln!("    | {line}");
        }
        if !output.status.success() && failed.is_empty() {
            // A failing exit status without a failed test counts as a failure.
            let what = format!("`{}` ended with {}\n{}", exec::shown(command), output.status, exec::tail(&output));
            self.fail(suite, &what);
        } else if passed == 0 && failed.is_empty() {
            self.fail(suite, "no test ran");
        }
    }

    /// Prints the summary; the last line has the totals.
    pub(crate) fn print(&self, took: Duration) {
        for line in self.render() {
            println!("{line}");
        }
        println!("in {:.0} s", took.as_secs_f64());
        println!("{} passed, {} failed", self.passed(), self.failed());
    }

    fn render(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for suite in &self.suites {
            lines.push(format!("{:40} {:5} passed {:4} failed", suite.name, suite.passed, suite.failures.len()));
            lines.extend(suite.failures.iter().map(|what| format!("    FAILED {what}")));
        }
        lines
    }
}

/// Reads the number of passed tests and the names of the failed ones from the output of
/// a test harness.
fn parse(text: &str) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut failed = Vec::new();
    for line in text.lines() {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let words: Vec<&str> = counts.split_whitespace().collect();
            passed += words
                .windows(2)
                .find(|pair| pair[1] == "passed;")
                .and_then(|pair| pair[0].parse::<usize>().ok())
                .unwrap_or(0);
        } else if let Some(rest) = line.strip_prefix("test ")
            && let Some(name) = rest.strip_suffix(" ... FAILED")
        {
            failed.push(name.trim().to_owned());
        }
    }
    (passed, failed)
}

/// Number of shown lines of each harness's failure report.
const SHOWN_LINES: usize = 40;

/// A test harness's output about its failures: from `failures:` to its result line.
fn failure_reports(text: &str) -> Vec<&str> {
    let mut shown = Vec::new();
    let mut left = 0;
    for line in text.lines() {
        if line == "failures:" && left == 0 {
            left = SHOWN_LINES;
        } else if line.starts_with("test result: ") {
            left = 0;
        } else if left > 0 {
            left -= 1;
            shown.push(line);
        }
    }
    shown
}

/// Number of characters of a reason in the summary.
const SUMMARY_CHARS: usize = 300;

/// The last line of a failed test's report, for the summary.
fn summary_line(text: &str, name: &str) -> Option<String> {
    let heads = [format!("---- {name} ----"), format!("---- {name} stdout ----")];
    let last = text
        .lines()
        .skip_while(|line| !heads.iter().any(|head| line == head))
        .skip(1)
        .take_while(|line| !line.starts_with("---- ") && *line != "failures:" && !line.starts_with("test result: "))
        .filter(|line| !line.trim().is_empty() && !line.starts_with("note: "))
        .last()?;
    Some(last.trim().chars().take(SUMMARY_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn results_of_several_harnesses_are_added() {
        let text = "test a ... ok\ntest b::c ... FAILED\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored\n\
            test result: ok. 4 passed; 0 failed; 0 ignored\n";
        assert_eq!(parse(text), (7, vec!["b::c".to_owned()]));
    }

    #[test]
    fn only_reports_of_failures_are_shown() {
        let text = "test a ... FAILED\n\nfailures:\n---- a stdout ----\nwhy\n\nfailures:\n    a\n\n\
            test result: FAILED. 0 passed; 1 failed\nnoise\n";
        let shown = failure_reports(text);
        assert!(shown.contains(&"why"));
        assert!(!shown.contains(&"noise"));
    }

    #[test]
    fn the_summary_of_a_failure_is_its_last_line() {
        let text = "failures:\n\n---- a stdout ----\n\nthread 'a' panicked at x.rs:1:\nleft is not right\n\
            note: run with `RUST_BACKTRACE=1`\n\n---- b ----\nconsole:\n  EL2 panicked\n\n\nfailures:\n    a\n    b\n";
        assert_eq!(summary_line(text, "a").as_deref(), Some("left is not right"));
        assert_eq!(summary_line(text, "b").as_deref(), Some("EL2 panicked"));
        assert_eq!(summary_line(text, "c"), None);
    }

    #[test]
    fn a_test_program_that_does_not_start_counts_as_failed() {
        let mut results = TestResults::default();
        results.cargo_test("s", &mut Command::new("/nonexistent/program"));
        assert_eq!(results.failed(), 1);
    }

    #[test]
    fn a_failing_status_without_a_failed_test_counts_as_failed() {
        let mut results = TestResults::default();
        let script = "echo 'test result: ok. 4 passed; 0 failed'; exit 101";
        results.cargo_test("s", Command::new("sh").args(["-c", script]));
        assert_eq!((results.passed(), results.failed()), (4, 1));
    }

    #[test]
    fn a_harness_that_runs_nothing_counts_as_failed() {
        let mut results = TestResults::default();
        results.cargo_test("s", &mut Command::new("true"));
        assert_eq!(results.failed(), 1);
    }
}
