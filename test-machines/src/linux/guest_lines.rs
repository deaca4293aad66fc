//! The results that the guest's script writes on the host's console.

use crate::console::AttackResult;

/// The parsed output of the guest's script.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GuestLines {
    /// `CHECK` and `CONTROL` lines in order.
    pub checks: Vec<Check>,
    /// `VALUE` lines in order.
    pub values: Vec<(String, String)>,
    /// `ATTACK` lines in order.
    pub attacks: Vec<Attack>,
    /// Whether the script reached its end.
    pub done: bool,
}

/// One check by the guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Its name; controls are named `control_<name>`.
    pub name: String,
    /// The detail; `Err` if the check failed.
    pub result: Result<String, String>,
}

/// One attack and its result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attack {
    /// Its name.
    pub name: String,
    /// Whether the memory was reached.
    pub result: AttackResult,
}

impl GuestLines {
    /// Reads a console.
    pub fn parse(console: &str) -> Self {
        let mut lines = Self::default();
        for line in console.lines() {
            lines.line(line.trim());
        }
        lines
    }

    /// The last value of a name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn line(&mut self, line: &str) {
        if line == "GUEST: done" {
            self.done = true;
        } else if let Some(rest) = line.strip_prefix("VALUE ") {
            let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
            self.values.push((name.to_owned(), value.to_owned()));
        } else if let Some(rest) = line.strip_prefix("CHECK ") {
            self.checks.extend(check(rest, ""));
        } else if let Some(rest) = line.strip_prefix("CONTROL ") {
            self.checks.extend(check(rest, "control_"));
        } else if let Some(rest) = line.strip_prefix("ATTACK ") {
            self.attacks.extend(attack(rest));
        }
    }
}

fn check(text: &str, prefix: &str) -> Option<Check> {
    let (name, text) = text.split_once(": ")?;
    let (word, detail) = text.split_once(' ').unwrap_or((text, ""));
    let detail = detail.to_owned();
    let result = match word {
        "ok" => Ok(detail),
        "FAIL" => Err(detail),
        _ => return None,
    };
    Some(Check { name: format!("{prefix}{name}"), result })
}

fn attack(text: &str) -> Option<Attack> {
    let (name, text) = text.split_once(": ")?;
    let result = match text.split_whitespace().next()? {
        "landed" => AttackResult::Landed,
        "blocked" => AttackResult::Blocked,
        _ => return None,
    };
    Some(Attack { name: name.to_owned(), result })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_read() {
        let lines = GuestLines::parse(
            "noise\r\nCHECK el1: ok CPU: All CPU(s) started at EL1\r\n\
             CHECK nvme: FAIL no /dev/nvme0n1\nVALUE cpus 4\nCONTROL own_page: ok\n\
             ATTACK write: blocked\nATTACK read: landed at 0x1000\nGUEST: done\n",
        );
        let names: Vec<&str> = lines.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["el1", "nvme", "control_own_page"]);
        assert_eq!(lines.checks.get(1).map(|check| check.result.is_err()), Some(true));
        assert_eq!(lines.value("cpus"), Some("4"));
        let ends: Vec<AttackResult> = lines.attacks.iter().map(|attack| attack.result).collect();
        assert_eq!(ends, [AttackResult::Blocked, AttackResult::Landed]);
        assert!(lines.done);
    }

    #[test]
    fn unknown_lines_are_ignored() {
        assert_eq!(GuestLines::parse("CHECK a: perhaps\nATTACK b: maybe\n"), GuestLines::default());
    }
}
