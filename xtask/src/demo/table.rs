//! The demonstration's table.

use anyhow::Result;
use test_machines::console::AttackResult::{self, Blocked, Landed};
use test_machines::console::DmaFault;

/// One attack with both results.
pub(crate) struct Row<'a> {
    /// Description of the attack.
    pub(crate) what: &'a str,
    without: &'static str,
    with: &'static str,
    event: String,
    /// Why the row is wrong; `None` if it is right.
    pub(crate) wrong: Option<String>,
}

/// An attack's result, or why it is unknown.
type Outcome = Result<AttackResult>;

impl<'a> Row<'a> {
    /// Checks one attack: its two results, and the evidence that it was attempted in the second run.
    pub(crate) fn new(what: &'a str, without: &Outcome, with: &Outcome, event: Option<String>) -> Self {
        let wrong = match (without, with) {
            (Err(why), _) => Some(format!("without isolation: {why:#}")),
            (_, Err(why)) => Some(format!("with isolation: {why:#}")),
            (Ok(Blocked), _) => Some("the attack does not land without isolation".to_owned()),
            (_, Ok(Landed)) => Some("the attack lands with isolation".to_owned()),
            (Ok(Landed), Ok(Blocked)) if event.is_none() => {
                Some("the attack is blocked, but there is no evidence that it was attempted".to_owned())
            }
            (Ok(Landed), Ok(Blocked)) => None,
        };
        Self { what, without: word(without), with: word(with), event: event.unwrap_or_else(|| "-".to_owned()), wrong }
    }
}

fn word(end: &Outcome) -> &'static str {
    match end {
        Ok(Landed) => "landed",
        Ok(Blocked) => "blocked",
        Err(_) => "unknown",
    }
}

/// The SMMU's event, which is evidence that a blocked attack was attempted.
pub(crate) fn event(faults: &[DmaFault]) -> Option<String> {
    faults.iter().find(|fault| fault.sid.is_some()).map(describe)
}

/// Type, StreamID, stage and IPA of an event, with the names of the architecture.
fn describe(fault: &DmaFault) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:#x}"));
    let stage = fault.stage.map_or_else(|| "-".to_owned(), |stage| stage.to_string());
    format!("{} StreamID {} stage {stage} IPA {}", fault.kind, number(fault.sid), number(fault.ipa))
}

/// Prints the rows under their headings.
pub(crate) fn print_table(rows: &[Row<'_>]) {
    for line in render(rows) {
        println!("{line}");
    }
}

fn render(rows: &[Row<'_>]) -> Vec<String> {
    let widest = rows.iter().map(|row| row.what.len()).max().unwrap_or(0).max("attack".len());
    let line = |cells: [&str; 4]| {
        let [what, without, with, event] = cells;
        format!("{what:widest$}  {without:17}  {with:14}  {event}")
    };
    let mut lines = vec![line(["attack", "without isolation", "with isolation", "the SMMU's event"])];
    for row in rows {
        lines.push(line([row.what, row.without, row.with, &row.event]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn fault() -> DmaFault {
        DmaFault {
            kind: "F_TRANSLATION".into(),
            sid: Some(0x10),
            stage: Some(2),
            ipa: Some(0x4020_0000),
            text: String::new(),
        }
    }

    #[test]
    fn only_landed_then_blocked_with_an_event_passes() {
        let right = |without: &Outcome, with: &Outcome, faults: &[DmaFault]| {
            Row::new("x", without, with, event(faults)).wrong.is_none()
        };
        let faults = [fault()];
        assert!(right(&Ok(Landed), &Ok(Blocked), &faults));
        assert!(!right(&Ok(Landed), &Ok(Blocked), &[]));
        assert!(!right(&Ok(Blocked), &Ok(Blocked), &faults));
        assert!(!right(&Ok(Landed), &Ok(Landed), &faults));
        assert!(!right(&Err(anyhow!("no token")), &Ok(Blocked), &faults));
        assert!(!right(&Ok(Landed), &Err(anyhow!("hung")), &faults));
    }

    #[test]
    fn events_have_the_names_of_the_architecture() {
        let row = Row::new("read", &Ok(Landed), &Ok(Blocked), event(&[fault()]));
        let lines = render(&[row]);
        assert_eq!(
            lines.get(1).map(String::as_str),
            Some("read    landed             blocked         F_TRANSLATION StreamID 0x10 stage 2 IPA 0x40200000")
        );
    }
}
