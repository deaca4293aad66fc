//! Defences taken away on purpose: a fuzzer that finds nothing has to show that it can find something.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::run::{self, Corpus, Job};
use super::{Args, Target};
use crate::checkout::Checkout;

macro_rules! removed {
    ($($name:ident $word:literal $target:ident $what:literal;)*) => {
        /// A defence that can be taken away.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
        pub(crate) enum Removed {
            /// Each of the others in turn
            All,
            $(#[doc = $what] $name,)*
        }

        impl Removed {
            /// Every single one: its word in the tests, and the target that it is for.
            const EACH: &[(Self, &str, Target)] = &[$((Self::$name, $word, Target::$target),)*];

            /// Its word in the tests.
            ///
            /// # Errors
            /// When it stands for many.
            pub(super) fn word(self) -> Result<&'static str> {
                let each = Self::EACH.iter().find(|(defence, ..)| *defence == self);
                each.map(|(_, word, _)| *word).context("an input is played without one defence: name it")
            }
        }
    };
}

removed! {
    NoUnmap "no-unmap" Transitions "Revocation: the IOMMU's table is not changed";
    NoInvalidate "no-invalidate" Transitions "Revocation: no SMMU is told";
    FirstSmmuOnly "first-smmu-only" Transitions "Revocation: only the first SMMU is told";
    WrongPage "wrong-page" Transitions "Revocation: the wrong page is invalidated";
    OnePage "one-page" Transitions "Revocation: one page is invalidated, whatever was revoked";
    TakeOver "take-over" HostileHost "Take-over: GBPA does not abort while the SMMU is off";
    Reset "reset" HostileHost "Reset: an SMMU that lost its registers is not noticed";
    Quiesce "quiesce" HostileHost "Power-off: streams go on when the machine stops";
    Cr0 "cr0" Registers "Registers: the host's CR0 goes to hardware";
    Index "index" Registers "Queues: CMDQ_PROD is not cut to the queue's size";
    Commands "commands" Commands "Commands: they go to hardware as the host wrote them";
    CommandsTwice "commands-twice" Commands "Commands: they are fetched again after the check";
    Msi "msi" Commands "Commands: a CMD_SYNC's store is hardware's, to any address";
    Events "events" Commands "Events: hardware's queue is never drained";
    Sync "sync" Transitions "Queues: an SMMU that completes no CMD_SYNC is believed to have done so";
    Entries "entries" StreamTable "Entries: they go to hardware as the host wrote them";
    EntriesTwice "entries-twice" StreamTable "Entries: they are fetched again after the check";
    FreedEarly "freed-early" StreamTable "Entries: a level-2 table is freed before hardware has forgotten it";
    ClaimsKept "claims-kept" HostileHost "Claims: a queue that is off keeps its page";
}

/// Runs what `removed` means, on its target or on those that are named.
///
/// # Errors
/// When a target does not notice what is missing, or cannot be run.
pub(super) fn main(checkout: &Checkout, programs: &Path, removed: Removed, args: &Args) -> Result<()> {
    let wanted = Removed::EACH.iter().filter(|(defence, ..)| removed == Removed::All || *defence == removed);
    let jobs: Vec<Job> = wanted
        .flat_map(|(_, word, target)| {
            let targets = if args.targets.is_empty() { vec![*target] } else { args.targets.clone() };
            targets.into_iter().map(|target| Job { target, corpus: Corpus::Fresh, without: Some(*word) })
        })
        .collect();
    let results = run::all(checkout, programs, &jobs, args)?;
    println!("{:15} {:13} {:>10} {:>5}  {:8}  finding", "without", "target", "executions", "s", "found by");
    for result in &results {
        println!("{}", result.without());
    }
    let missed = results.iter().filter(|result| result.finding().is_none()).count();
    if missed > 0 {
        bail!("{missed} of {} runs did not notice what is missing", results.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_defence_is_one_that_the_tests_know() {
        let known =
            [include_str!("../../../smmu-drv/src/weak.rs"), include_str!("../../../model-tests/src/missing.rs")];
        for (defence, word, _) in Removed::EACH {
            assert!(known.iter().any(|text| text.contains(&format!("\"{word}\""))), "{word}");
            let shown = defence.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(shown.as_deref(), Some(*word));
        }
    }
}
