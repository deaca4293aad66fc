//! The rules of a board's author about kinds of devices: the boot module `portcullis,policy`.
//!
//! A line is a rule: `give COMPATIBLE REASON` or `withhold COMPATIBLE REASON`. Empty lines and lines that begin with
//! `#` are skipped. A line that is neither is an error: a misspelt restriction must not be ignored.

use super::error::BootError;
pub use super::rule_kind::{RuleKind, RuleRemedy};
use super::tree::NodeRef;

/// Maximum size of the module in bytes.
pub const POLICY_MAX: usize = 16 << 10;
/// Maximum number of rules.
pub const RULES_MAX: usize = 128;
/// Maximum length of a `compatible` string in a rule.
const COMPATIBLE_MAX: usize = 96;
/// Maximum length of a reason: with a path it is one line of the boot log.
const REASON_MAX: usize = 100;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Its line number, starting at 1.
    pub line: u16,
    /// The action.
    pub kind: RuleKind,
    /// The kind of device.
    pub compatible: &'a str,
    /// The author's reason: printable ASCII.
    pub reason: &'a str,
}

/// The rules of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules<'a> {
    /// The checked text. It is parsed at each use, since the boot stack is too small for all rules.
    text: &'a str,
}

impl<'a> Rules<'a> {
    /// Parses the content of a module, which must not change afterwards.
    ///
    /// # Errors
    /// [`BootError::RuleLine`] for a line that is not a rule, or a second rule about a kind of device;
    /// [`BootError::TooMany`].
    pub fn parse(content: &'a [u8]) -> Result<Self, BootError<'a>> {
        let text = utf8(content)?;
        let mut count = 0usize;
        for (line, words) in numbered(text) {
            let line = u16::try_from(line)
                .map_err(|_| BootError::TooMany { what: "lines in the policy module", limit: usize::from(u16::MAX) })?;
            let Some(rule) = rule(line, words)? else { continue };
            count = count.saturating_add(1);
            if count > RULES_MAX {
                return Err(BootError::TooMany { what: "rules in the policy module", limit: RULES_MAX });
            }
            let earlier = Self { text }.iter().find(|other| other.compatible == rule.compatible);
            if earlier.is_some_and(|other| other.line != line) {
                return Err(BootError::RuleLine {
                    line: usize::from(line),
                    value: words,
                    expected: "one rule about each compatible string: remove this one or the earlier one",
                });
            }
        }
        Ok(Self { text })
    }

    /// All rules, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = Rule<'a>> + use<'a> {
        numbered(self.text).filter_map(|(line, words)| rule(u16::try_from(line).ok()?, words).ok().flatten())
    }

    /// The rule on line `line`.
    #[must_use]
    pub fn on_line(&self, line: u16) -> Option<Rule<'a>> {
        self.iter().find(|rule| rule.line == line)
    }

    /// The rule that gives `node`, by its most specific string: a variant may be a DMA master.
    pub(super) fn giving(&self, node: &NodeRef<'_, '_>) -> Option<Rule<'a>> {
        let first = node.compatible()?;
        self.iter().find(|rule| rule.kind == RuleKind::Give && rule.compatible == first)
    }

    /// The rule that withholds `node`, by any of its strings.
    pub(super) fn withholding(&self, node: &NodeRef<'_, '_>) -> Option<Rule<'a>> {
        self.iter().find(|rule| rule.kind == RuleKind::Withhold && node.is_compatible(rule.compatible))
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1usize..=usize::MAX).zip(text.lines())
}

fn utf8(content: &[u8]) -> Result<&str, BootError<'_>> {
    core::str::from_utf8(content).map_err(|error| {
        let valid = content.get(..error.valid_up_to()).and_then(|valid| core::str::from_utf8(valid).ok());
        let valid = valid.unwrap_or_default();
        let line = valid.bytes().filter(|byte| *byte == b'\n').fold(1usize, |line, _| line.saturating_add(1));
        let value = valid.rsplit('\n').next().unwrap_or_default();
        BootError::RuleLine { line, value, expected: "UTF-8 text: pass the file itself, with its exact size" }
    })
}

/// The rule in a line; `None` for a comment.
fn rule<'a>(line: u16, text: &'a str) -> Result<Option<Rule<'a>>, BootError<'a>> {
    let bad = |value, expected| BootError::RuleLine { line: usize::from(line), value, expected };
    let text = text.trim_ascii();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let split = |text: &'a str| text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
    let (word, rest) = split(text);
    let (compatible, reason) = split(rest.trim_ascii());
    let reason = reason.trim_ascii();
    let kind = match word {
        "give" => RuleKind::Give,
        "withhold" => RuleKind::Withhold,
        _ => return Err(bad(word, "give or withhold; a comment begins with #")),
    };
    if compatible.is_empty() || compatible.len() > COMPATIBLE_MAX || !compatible.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad(compatible, "a compatible string of the device tree after it, of 96 characters at most"));
    }
    if reason.is_empty() {
        return Err(bad(text, "a reason after the compatible string: the boot log prints it"));
    }
    if reason.len() > REASON_MAX || !reason.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(bad(reason, "a reason of 100 printable ASCII characters at most"));
    }
    Ok(Some(Rule { line, kind, compatible, reason }))
}
