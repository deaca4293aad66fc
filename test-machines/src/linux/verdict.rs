//! Compares a run's output with the expected one.

use crate::console::AttackResult;
use crate::linux::guest_lines::GuestLines;

/// One line of a run's report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Good or bad.
    pub mark: Mark,
    /// Text.
    pub text: String,
}

/// Result of a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// Good.
    Good,
    /// Bad; the run fails.
    Bad,
}

impl Finding {
    /// A good finding.
    pub fn good(text: impl Into<String>) -> Self {
        Self { mark: Mark::Good, text: text.into() }
    }

    /// A bad finding.
    pub fn bad(text: impl Into<String>) -> Self {
        Self { mark: Mark::Bad, text: text.into() }
    }

    /// Prints the finding. ATTACK and CONTROL are at the start of the line, for grep.
    pub fn print(&self) {
        let result = self.text.starts_with("ATTACK ") || self.text.starts_with("CONTROL ");
        match self.mark {
            Mark::Good if result => println!("{}", self.text),
            Mark::Good => println!("  ok    {}", self.text),
            Mark::Bad if result => println!("{}  <- FAIL", self.text),
            Mark::Bad => println!("  FAIL  {}", self.text),
        }
    }
}

/// Expected output of the guest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expect {
    /// Checks that must be present and ok; any other check must also be ok.
    pub checks: Vec<&'static str>,
    /// Expected values.
    pub values: Vec<(&'static str, String)>,
    /// Values that must be present and not zero.
    pub counts: Vec<&'static str>,
    /// Attacks that must be present with this result.
    pub attacks: Vec<(&'static str, AttackResult)>,
    /// Attacks that Linux's own stage 1 blocks, with or without EL2. They are controls.
    pub by_stage_1: Vec<&'static str>,
}

/// Compares the guest's lines with the expected ones.
pub fn compare(lines: &GuestLines, expect: &Expect) -> Vec<Finding> {
    if *lines == GuestLines::default() {
        return vec![Finding::bad("the guest's script did not start")];
    }
    let mut findings = Vec::new();
    for check in &lines.checks {
        let control = check.name.strip_prefix("control_");
        findings.push(match (&check.result, control) {
            (Ok(_), Some(name)) => Finding::good(format!("CONTROL {name}: ok")),
            (Err(detail), Some(name)) => Finding::bad(format!("CONTROL {name}: {detail}")),
            (Ok(detail), None) => Finding::good(format!("{}: {detail}", check.name)),
            (Err(detail), None) => Finding::bad(format!("{}: {detail}", check.name)),
        });
    }
    for name in &expect.checks {
        if !lines.checks.iter().any(|check| check.name == *name) {
            findings.push(Finding::bad(format!("{name}: no result from the guest")));
        }
    }
    for (name, wanted) in &expect.values {
        findings.push(match lines.value(name) {
            Some(seen) if seen == wanted => Finding::good(format!("{name}: {seen}")),
            Some(seen) => Finding::bad(format!("{name}: {seen}, should be {wanted}")),
            None => Finding::bad(format!("{name}: no result from the guest")),
        });
    }
    for name in &expect.counts {
        let seen = lines.value(name).unwrap_or("nothing");
        findings.push(match seen.parse::<u64>() {
            Ok(count) if count > 0 => Finding::good(format!("{name}: {count}")),
            _ => Finding::bad(format!("{name}: {seen}, should be a positive number")),
        });
    }
    findings.extend(compare_attacks(lines, expect));
    if !lines.done {
        findings.push(Finding::bad("the guest's script did not reach its end"));
    }
    findings
}

fn compare_attacks(lines: &GuestLines, expect: &Expect) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, wanted) in &expect.attacks {
        let seen = lines.attacks.iter().find(|attack| attack.name == *name);
        let note = if expect.by_stage_1.contains(name) { " (control: by Linux's own stage 1)" } else { "" };
        findings.push(match seen {
            Some(attack) if attack.result == *wanted => {
                Finding::good(format!("ATTACK {name}: {}{note}", word(attack.result)))
            }
            Some(attack) => {
                Finding::bad(format!("ATTACK {name}: {}, should be {}", word(attack.result), word(*wanted)))
            }
            None => Finding::bad(format!("ATTACK {name}: no result from the guest")),
        });
    }
    for attack in &lines.attacks {
        if !expect.attacks.iter().any(|(name, _)| *name == attack.name) {
            findings.push(Finding::bad(format!("ATTACK {}: not expected here", attack.name)));
        }
    }
    findings
}

fn word(result: AttackResult) -> &'static str {
    match result {
        AttackResult::Landed => "landed",
        AttackResult::Blocked => "blocked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(console: &str, expect: &Expect) -> Vec<String> {
        compare(&GuestLines::parse(console), expect)
            .into_iter()
            .filter(|finding| finding.mark == Mark::Bad)
            .map(|finding| finding.text)
            .collect()
    }

    fn expect() -> Expect {
        Expect {
            checks: vec!["el1"],
            values: vec![("nvme_md5", "aa".to_owned())],
            counts: vec!["packets"],
            attacks: vec![("write", AttackResult::Blocked)],
            ..Expect::default()
        }
    }

    const GOOD: &str = "CHECK el1: ok\nVALUE nvme_md5 aa\nVALUE packets 3\nATTACK write: blocked\nGUEST: done\n";

    #[test]
    fn a_complete_run_passes() {
        assert!(bad(GOOD, &expect()).is_empty());
    }

    #[test]
    fn every_missing_line_is_bad() {
        for gone in GOOD.lines() {
            let console = GOOD.replace(&format!("{gone}\n"), "");
            assert_eq!(bad(&console, &expect()).len(), 1, "without {gone}");
        }
    }

    #[test]
    fn no_output_is_one_finding() {
        assert_eq!(bad("noise\n", &expect()).len(), 1);
    }

    #[test]
    fn an_unexpected_failed_check_fails_the_run() {
        let console = format!("CHECK insmod: FAIL nvme\n{GOOD}");
        assert_eq!(bad(&console, &expect()), ["insmod: nvme"]);
    }

    #[test]
    fn wrong_values_and_wrong_ends_fail_the_run() {
        let console = GOOD
            .replace("md5 aa", "md5 bb")
            .replace("write: blocked", "write: landed")
            .replace("packets 3", "packets 0");
        assert_eq!(bad(&console, &expect()).len(), 3);
    }

    #[test]
    fn attacks_blocked_by_stage_1_are_marked() {
        let note = |by_stage_1| {
            let findings = compare(&GuestLines::parse(GOOD), &Expect { by_stage_1, ..expect() });
            let text = |finding: Finding| finding.text.strip_prefix("ATTACK write: ").map(str::to_owned);
            findings.into_iter().find_map(text)
        };
        assert_eq!(note(vec![]).as_deref(), Some("blocked"));
        assert_eq!(note(vec!["write"]).as_deref(), Some("blocked (control: by Linux's own stage 1)"));
    }

    #[test]
    fn an_unexpected_attack_is_bad() {
        let console = format!("ATTACK other: blocked\n{GOOD}");
        assert_eq!(bad(&console, &expect()), ["ATTACK other: not expected here"]);
    }
}
