//! Runs without a defence, to prove that the fuzzer detects its absence.

use anyhow::{Result, bail};

use super::Args;
use super::removed::{self, Removed};
use super::run::{self, Corpus, Job};
use crate::checkout::Checkout;

/// Runs the targets without the defences `wanted`: the target of each defence, or the targets in `args`.
///
/// # Errors
/// When a target does not detect that the defence is missing, or cannot be run.
pub(super) fn main(checkout: &Checkout, wanted: Removed, args: &Args) -> Result<()> {
    let mut results = Vec::new();
    for (_, one) in Removed::EACH.iter().filter(|(defence, _)| wanted == Removed::All || *defence == wanted) {
        let targets = if args.targets.is_empty() { vec![one.target] } else { args.targets.clone() };
        let jobs: Vec<Job> =
            targets.into_iter().map(|target| Job { target, corpus: Corpus::Fresh, without: Some(*one) }).collect();
        results.extend(run::all(checkout, &removed::programs(checkout, Some(*one))?, &jobs, args)?);
    }
    println!("{:15} {:13} {:>10} {:>5}  {:8}  finding", "without", "target", "executions", "s", "found by");
    for result in &results {
        println!("{}", result.without());
    }
    let missed = results.iter().filter(|result| result.finding().is_none()).count();
    if missed > 0 {
        bail!("{missed} of {} runs did not detect the missing defence", results.len());
    }
    Ok(())
}
