//! What a boot's report looks like to a person.

use qemu_tests::qemu::Outcome;

use crate::exec::last_lines;
use crate::linux::verdict::{Finding, Mark};

/// What came of a boot.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Which boot.
    pub(crate) title: String,
    /// In the order they were made.
    pub(crate) findings: Vec<Finding>,
    /// How the machine ended.
    pub(crate) outcome: Outcome,
}

/// How much of a console explains a failure.
const SHOWN_CONSOLE: usize = 15;

impl Report {
    /// Whether everything is as it should be.
    pub(crate) fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.mark == Mark::Good)
    }

    /// Prints the findings; of a failed run, the ends of its consoles as well.
    pub(crate) fn print(&self) {
        println!("{}", self.title);
        for finding in &self.findings {
            finding.print();
        }
        let seconds = self.outcome.took.as_secs_f64();
        if self.passed() {
            println!("  passed in {seconds:.1} s");
            return;
        }
        for (name, text) in [("host console", &self.outcome.host_console), ("EL2's console", &self.outcome.el2_console)]
        {
            println!("  the end of the {name}:");
            for line in last_lines(text, SHOWN_CONSOLE).lines() {
                println!("    | {line}");
            }
        }
        println!("  failed after {seconds:.1} s; whole consoles in {}", self.outcome.dir.display());
    }
}
