//! Prints the report of a boot.

use crate::exec::last_lines;
use crate::linux::verdict::{Finding, Mark};
use crate::qemu::Outcome;

/// Result of a boot.
#[derive(Clone, Debug)]
pub struct Report {
    /// Title of the boot.
    pub title: String,
    /// The findings, in order.
    pub findings: Vec<Finding>,
    /// How the machine ended.
    pub outcome: Outcome,
}

/// Console lines shown after a failure.
const SHOWN_CONSOLE: usize = 15;

impl Report {
    /// Whether the boot passed.
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.mark == Mark::Good)
    }

    /// Prints the findings and, for a failed run, the ends of its consoles.
    pub fn print(&self) {
        println!("{}", self.title);
        for finding in &self.findings {
            finding.print();
        }
        let seconds = self.outcome.took.as_secs_f64();
        if self.passed() {
            println!("  passed in {seconds:.1} s");
            return;
        }
        let (host, el2) = (&self.outcome.host_console, &self.outcome.el2_console);
        for (whose, text) in [("the host's", host), ("EL2's", el2)] {
            for line in console_end(whose, text) {
                println!("{line}");
            }
        }
        println!("  failed after {seconds:.1} s; whole consoles in {}", self.outcome.dir.display());
    }
}

/// The end of a console under a heading; nothing if it is empty.
fn console_end(whose: &str, text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let end = last_lines(text, SHOWN_CONSOLE);
    let lines = end.lines().map(|line| format!("    | {line}"));
    [format!("  the end of {whose} console:")].into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_console_is_omitted() {
        assert_eq!(console_end("EL2's", "a\n"), ["  the end of EL2's console:", "    | a"]);
        assert!(console_end("EL2's", "").is_empty() && console_end("EL2's", "\r\n").is_empty());
    }
}
