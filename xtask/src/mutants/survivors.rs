//! The list of equivalent mutants, each with the reason.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The list, and the entries that were seen in this run.
#[derive(Debug)]
pub(super) struct Survivors {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// File and change. The line number is omitted, since it changes.
    mutant: String,
    seen: bool,
}

impl Survivors {
    /// Reads `<file>: <change> => <reason>` lines; empty lines and lines that start with # are ignored.
    ///
    /// # Errors
    /// When the file cannot be read, or a line has no reason.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(" => ") {
                Some((mutant, reason)) if !reason.trim().is_empty() => {
                    entries.push(Entry { mutant: mutant.trim().to_owned(), seen: false });
                }
                _ => bail!("`{line}` has no reason: write `<file>: <change> => <why it is equivalent>`"),
            }
        }
        Ok(Self { entries })
    }

    /// # Errors
    /// When more than `most` are listed.
    pub(super) fn require_at_most(&self, most: usize) -> Result<()> {
        if self.entries.len() > most {
            bail!("{} mutants are listed as equivalent, the limit is {most}", self.entries.len());
        }
        Ok(())
    }

    /// Whether a mutant, with cargo-mutants' name, is listed; it is then marked as seen.
    pub(super) fn mark_seen(&mut self, mutant: &str) -> bool {
        let mutant = without_line(mutant);
        let found = self.entries.iter_mut().find(|entry| entry.mutant == mutant);
        found.map(|entry| entry.seen = true).is_some()
    }

    /// Number of seen entries.
    pub(super) fn seen_count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.seen).count()
    }

    /// Entries that were not seen in this run.
    pub(super) fn unseen(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|entry| !entry.seen).map(|entry| entry.mutant.as_str())
    }
}

/// `file:line:column: change` as `file: change`.
fn without_line(mutant: &str) -> String {
    match mutant.split_once(": ") {
        Some((place, change)) => format!("{}: {change}", place.split(':').next().unwrap_or(place)),
        None => mutant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# why\n\na.rs: replace + with - in f => both are 0 there\nb.rs: delete ! in g => unreachable\n";

    #[test]
    fn a_listed_mutant_is_found_on_any_line() -> Result<()> {
        let mut list = Survivors::parse(TEXT)?;
        assert!(list.mark_seen("a.rs:12:3: replace + with - in f"));
        assert!(!list.mark_seen("a.rs:12:3: replace + with * in f"));
        assert!(!list.mark_seen("c.rs:12:3: replace + with - in f"));
        assert_eq!((list.seen_count(), list.unseen().collect::<Vec<_>>()), (1, vec!["b.rs: delete ! in g"]));
        Ok(())
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(Survivors::parse("a.rs: replace + with -").is_err());
        assert!(Survivors::parse("a.rs: replace + with - => ").is_err());
    }

    #[test]
    fn too_many_equivalent_mutants_are_refused() -> Result<()> {
        let list = Survivors::parse(TEXT)?;
        assert!(list.require_at_most(2).is_ok());
        assert!(list.require_at_most(1).is_err());
        Ok(())
    }
}
