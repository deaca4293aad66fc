//! Number of boards with each decision.

use std::collections::BTreeMap;
use std::fmt;

use super::evaluated::Outcome;

/// The number of boards with each decision: of all boards, and of those whose tree has an SMMUv3.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Summary {
    verdicts: BTreeMap<String, (usize, usize)>,
}

impl Summary {
    /// Counts a board.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let verdict = match &outcome.verdict {
            Ok(_) => "accepted".to_owned(),
            Err(why) => format!("refused: {}", general(why)),
        };
        let (all, smmu) = self.verdicts.entry(verdict).or_default();
        *all += 1;
        *smmu += usize::from(outcome.smmu);
    }

    /// Boards with an SMMUv3, by decision.
    #[cfg(test)]
    pub(super) fn with_smmu(&self) -> Vec<(&str, usize)> {
        self.verdicts
            .iter()
            .filter(|(_, (_, smmu))| *smmu > 0)
            .map(|(text, (_, smmu))| (text.as_str(), *smmu))
            .collect()
    }
}

/// The text of a refusal without the board's own paths and numbers.
fn general(why: &str) -> String {
    let particular = |word: &&str| word.starts_with('/') || word.starts_with("0x");
    let words = why.split_whitespace().map(|word| if particular(&word) { "..." } else { word });
    words.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<_> = self.verdicts.iter().collect();
        lines.sort_by_key(|(_, (all, smmu))| std::cmp::Reverse((*smmu, *all)));
        writeln!(f, "{:>6} {:>12}  decision", "boards", "with SMMUv3")?;
        let (mut boards, mut smmus) = (0, 0);
        for (verdict, (all, smmu)) in lines {
            writeln!(f, "{all:>6} {smmu:>12}  {verdict}")?;
            boards += all;
            smmus += smmu;
        }
        write!(f, "{boards:>6} {smmus:>12}  total")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_differ_in_paths_and_numbers_are_counted_together() {
        let (one, other) = ("reg of /soc/a@1 at 0x1..0x2 overlaps", "reg of /b at 0x8..0x9 overlaps");
        assert_eq!(general(one), general(other));
        assert_ne!(general(one), general("reg of /b at 0x8..0x9 is missing"));
    }
}
