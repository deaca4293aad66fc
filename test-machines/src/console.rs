//! Parses the consoles. EL2's console has the result: the run's last line must be its exit line with the token that
//! only EL2 and the runner know. The host's console is only evidence, since the host can write anything there.

use anyhow::{Context, Result, bail};

const PREFIX: &str = "portcullis: ";

/// EL2's last line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExitLine {
    /// The token.
    pub token: String,
    /// `ok` or `error`.
    pub status: String,
    /// Why the run ended.
    pub reason: String,
    /// Result of EL2's last audit: `clean`, `lost` if the host lost pages, or `none` if there was no audit.
    pub audit: String,
    /// The number of EL2's exits for an access to an SMMU.
    pub smmu_exits: u64,
    /// The number of DMA faults that the SMMUs reported.
    pub dma_faults: u64,
}

impl ExitLine {
    /// Reads an exit line; `None` if the line is not one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix(PREFIX)?.strip_prefix("exit ")?;
        let field = |name: &str| value_of(rest, name);
        Some(Self {
            token: field("token")?.to_owned(),
            status: field("status")?.to_owned(),
            reason: field("reason")?.to_owned(),
            audit: field("audit")?.to_owned(),
            smmu_exits: field("smmu_exits")?.parse().ok()?,
            dma_faults: field("dma_faults")?.parse().ok()?,
        })
    }

    /// Whether EL2's audit at the end had no finding and the host lost no page.
    #[must_use]
    pub fn audit_is_clean(&self) -> bool {
        self.audit == "clean"
    }
}

/// EL2's result of a run: its exit line, if that is the console's last line, has `token` and has the status `ok`.
///
/// # Errors
/// The error in the exit line, with EL2's own error lines.
pub fn verdict(el2_console: &str, token: &str) -> Result<ExitLine> {
    let exit = exit_line(el2_console, token)?;
    if exit.status != "ok" {
        let errors = error_lines(el2_console).join("; ");
        bail!("EL2 ended with status={} reason={}: {errors}", exit.status, exit.reason);
    }
    Ok(exit)
}

/// EL2's exit line, with any status.
///
/// # Errors
/// When the console's last line is not an exit line with this token.
pub fn exit_line(el2_console: &str, token: &str) -> Result<ExitLine> {
    let last = el2_console
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .context("EL2's console is empty: EL2 did not start")?;
    let exit = ExitLine::parse(last).with_context(|| format!("EL2's last line is not its exit line: {last}"))?;
    if exit.token != token {
        bail!("EL2's exit line has the token {} instead of that of this run", exit.token);
    }
    Ok(exit)
}

/// The texts of EL2's `portcullis: error:` lines.
#[must_use]
pub fn error_lines(el2_console: &str) -> Vec<&str> {
    el2_console.lines().filter_map(|line| line.trim().strip_prefix(PREFIX)?.strip_prefix("error: ")).collect()
}

/// One DMA fault as EL2 reports it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DmaFault {
    /// The event's type, for example `F_TRANSLATION`.
    pub kind: String,
    /// The StreamID.
    pub sid: Option<u64>,
    /// The stage that faulted.
    pub stage: Option<u64>,
    /// The intermediate physical address.
    pub ipa: Option<u64>,
    /// The record as EL2 printed it.
    pub text: String,
}

/// Every `portcullis: dma fault:` line of EL2's console, in order.
#[must_use]
pub fn dma_faults(el2_console: &str) -> Vec<DmaFault> {
    el2_console.lines().filter_map(dma_fault).collect()
}

fn dma_fault(line: &str) -> Option<DmaFault> {
    let rest = line.trim().strip_prefix(PREFIX)?.strip_prefix("dma fault: ")?;
    let (_, record) = rest.split_once(' ')?;
    Some(DmaFault {
        kind: record.split_whitespace().next()?.to_owned(),
        sid: value_of(record, "sid").and_then(number),
        stage: value_of(record, "stage").and_then(number),
        ipa: value_of(record, "ipa").and_then(number),
        text: record.to_owned(),
    })
}

/// One `TEST <name>: …` line of the payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TestLine {
    /// The test's name.
    pub name: String,
    /// Its result.
    pub result: TestResult,
}

/// Result of a payload test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TestResult {
    /// It passed.
    Pass,
    /// It failed, for this reason.
    Fail(String),
    /// The machine lacks a feature that the test needs.
    Skip(String),
}

/// The payload's results on the host's console, in order.
#[must_use]
pub fn test_lines(host_console: &str) -> Vec<TestLine> {
    host_console.lines().filter_map(test_line).collect()
}

fn test_line(line: &str) -> Option<TestLine> {
    let (name, result) = line.trim().strip_prefix("TEST ")?.split_once(": ")?;
    let (word, reason) = result.split_once(' ').unwrap_or((result, ""));
    let result = match word {
        "PASS" => TestResult::Pass,
        "FAIL" => TestResult::Fail(reason.to_owned()),
        "SKIP" => TestResult::Skip(reason.to_owned()),
        _ => return None,
    };
    Some(TestLine { name: name.to_owned(), result })
}

/// Result of an attack, as reported by the payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttackResult {
    /// It reached a byte of another owner.
    Landed,
    /// It did not reach such a byte.
    Blocked,
}

/// The `ATTACK <name>: …` lines of the host's console, in order.
#[must_use]
pub fn attack_lines(host_console: &str) -> Vec<(String, AttackResult)> {
    let line = |line: &str| {
        let (name, result) = line.trim().strip_prefix("ATTACK ")?.split_once(": ")?;
        let result = match result {
            "landed" => AttackResult::Landed,
            "blocked" => AttackResult::Blocked,
            _ => return None,
        };
        Some((name.to_owned(), result))
    };
    host_console.lines().filter_map(line).collect()
}

/// The names in the `CONTROL <name>: ok` lines of the host's console: transfers that must work besides an attack.
#[must_use]
pub fn control_lines(host_console: &str) -> Vec<String> {
    let line = |line: &str| {
        let (name, result) = line.trim().strip_prefix("CONTROL ")?.split_once(": ")?;
        (result == "ok").then(|| name.to_owned())
    };
    host_console.lines().filter_map(line).collect()
}

/// Lines that EL2's console must have: the payload prints an `ANNOUNCED <words>` line for each.
#[must_use]
pub fn announced_lines(host_console: &str) -> Vec<&str> {
    host_console.lines().filter_map(|line| line.trim().strip_prefix("ANNOUNCED ")).collect()
}

/// Whether a line of EL2's console contains these words.
#[must_use]
pub fn is_announced(el2_console: &str, words: &str) -> bool {
    el2_console.lines().any(|line| line.starts_with("portcullis: ") && line.contains(words))
}

fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "portcullis: smmu0 taken over\n\
        portcullis: dma fault: smmu0 F_TRANSLATION sid=0x8 stage=2 class=IN ipa=0x40201000 iova=0x40201000 write\n\
        portcullis: exit token=ab12 status=ok reason=system_off audit=clean smmu_exits=99 dma_faults=1\n";

    #[test]
    fn only_the_last_line_has_the_result_of_the_audit() -> Result<()> {
        assert!(verdict(GOOD, "ab12")?.audit_is_clean());
        let lost = format!("portcullis: audit clean; forged\n{}", GOOD.replace("audit=clean", "audit=lost"));
        assert!(!verdict(&lost, "ab12")?.audit_is_clean());
        assert!(verdict(&GOOD.replace("audit=clean ", ""), "ab12").is_err());
        Ok(())
    }

    #[test]
    fn a_run_passes_with_its_token_and_status_ok() -> Result<()> {
        let exit = verdict(GOOD, "ab12")?;
        assert_eq!((exit.smmu_exits, exit.dma_faults), (99, 1));
        Ok(())
    }

    #[test]
    fn another_token_does_not_pass() {
        assert!(verdict(GOOD, "ab1").is_err());
    }

    #[test]
    fn an_exit_line_that_is_not_last_does_not_pass() {
        let text = format!("{GOOD}portcullis: panic\n");
        assert!(verdict(&text, "ab12").is_err());
    }

    #[test]
    fn an_error_is_reported_with_its_reason() {
        let text = "portcullis: error: no arm,smmu-v3 node in the device tree\n\
            portcullis: exit token=ab12 status=error reason=boot audit=none smmu_exits=0 dma_faults=0\n";
        let error = verdict(text, "ab12").err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("no arm,smmu-v3 node")));
        assert!(exit_line(text, "ab12").is_ok());
    }

    #[test]
    fn faults_are_decoded() {
        let faults = dma_faults(GOOD);
        let fault = faults.first();
        assert!(fault.is_some_and(|fault| fault.kind == "F_TRANSLATION"
            && fault.sid == Some(8)
            && fault.stage == Some(2)
            && fault.ipa == Some(0x4020_1000)));
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn test_lines_carry_the_reason_of_a_failure() {
        let lines = test_lines("noise\nTEST a: PASS\nTEST b: FAIL got 3\nTEST c: maybe\nTEST d: SKIP no disk\n");
        let line = |name: &str, result| TestLine { name: name.into(), result };
        let expected = vec![
            line("a", TestResult::Pass),
            line("b", TestResult::Fail("got 3".into())),
            line("d", TestResult::Skip("no disk".into())),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn attacks_and_controls_are_read() {
        let text = "CONTROL a: ok\nATTACK a: blocked\nATTACK b: landed\nATTACK c: perhaps\nCONTROL d: bad\n";
        assert_eq!(
            attack_lines(text),
            [("a".to_owned(), AttackResult::Blocked), ("b".to_owned(), AttackResult::Landed)]
        );
        assert_eq!(control_lines(text), ["a"]);
    }
}
