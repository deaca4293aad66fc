//! `cargo xtask fuzz`: hosts whose next move coverage chooses, against the driver and the ownership map.
//!
//! The targets are programs of the package in `fuzz/`, which is no member of the workspace: cargo-fuzz builds them with the
//! pinned toolchain. What they play is one state machine, `model_tests::hostile`.

mod build;
mod coverage;
mod removed;
mod replay;
mod run;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueHint;

use crate::checkout::Checkout;
use removed::Removed;
use run::{Corpus, Job};

/// Let coverage-guided fuzzing play hostile hosts against the driver, on the adversarial SMMU model
///
/// Each target starts from its committed corpus (fuzz/corpus) and from what earlier runs found worth keeping
/// (target/portcullis/fuzz/corpus). After every step the model is asked whether any legal choice of the hardware lets a
/// stream reach memory that is not the host's. Needs a C++ compiler. The first run builds cargo-fuzz into target/ if the
/// machine has none, and the targets: 1 to 5 minutes.
///
/// Examples:
///   cargo xtask fuzz
///   cargo xtask fuzz registers commands --seconds 600
///   cargo xtask fuzz --seconds 0 --coverage
///   cargo xtask fuzz --seconds 600 --without all
///   cargo xtask fuzz --without freed-early
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Only these targets
    #[arg(value_enum, value_name = "TARGET")]
    targets: Vec<Target>,
    /// How long each target runs; 0 plays the corpus and stops
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Targets that run at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Say what targets there are, and stop
    #[arg(long)]
    list: bool,
    /// Afterwards, play the corpora once more and print which regions of the driver they reach, file by file; fails below
    /// 95 % of those in the folders emul and shadow of smmu-drv/src/smmu and in device/cmdq.rs and device/evtq.rs there, together
    #[arg(long)]
    coverage: bool,
    /// Take a defence away, or each of them in turn: the target that it is for has to find that it is missing, from the
    /// committed corpus alone; so does each target that is named
    #[arg(long, value_enum, value_name = "DEFENCE", conflicts_with = "coverage")]
    without: Option<Removed>,
    /// Play one input and show what it does; with --without, where that defence is missing. TARGET may be left out for a
    /// file in fuzz/corpus/TARGET/
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "coverage")]
    replay: Option<PathBuf>,
}

/// A fuzz target.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Everything that a host, its devices and its hardware can do
    HostileHost,
    /// Register accesses of any offset, size and value
    Registers,
    /// Commands, events and both queues
    Commands,
    /// Stream tables of any content and shape
    StreamTable,
    /// Pages that change their owner between traps and DMA
    Transitions,
    /// Much of the same at once: what makes one trap long
    Costs,
}

impl Target {
    const ALL: [Self; 6] =
        [Self::HostileHost, Self::Registers, Self::Commands, Self::StreamTable, Self::Transitions, Self::Costs];

    /// Its name in fuzz/.
    fn name(self) -> &'static str {
        match self {
            Self::HostileHost => "hostile_host",
            Self::Registers => "registers",
            Self::Commands => "commands",
            Self::StreamTable => "stream_table",
            Self::Transitions => "transitions",
            Self::Costs => "costs",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::HostileHost => "everything that a host, its devices and its hardware can do",
            Self::Registers => "register accesses of any offset, size and value",
            Self::Commands => "commands, events and both queues",
            Self::StreamTable => "stream tables of any content and shape",
            Self::Transitions => "pages that change their owner between traps and DMA",
            Self::Costs => "much of the same at once: what makes one trap long",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When something is missing or does not build, when a target found something, or, with a defence missing, did not.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    if args.list {
        for target in Target::ALL {
            println!("{:13} {}", target.name(), target.what());
        }
        return Ok(());
    }
    let targets = if args.targets.is_empty() { Target::ALL.as_slice() } else { &args.targets };
    if let Some(input) = &args.replay {
        // Building takes minutes: what can be wrong with the command line is told first.
        let target = replay::target(targets, input)?;
        let without = args.without.map(Removed::single).transpose()?;
        let programs = removed::programs(checkout, without)?;
        return replay::main(&programs, target, input, without);
    }
    if let Some(removed) = args.without {
        return removed::main(checkout, removed, args);
    }
    let programs = build::targets(checkout, checkout)?;
    let jobs = targets.iter().map(|target| Job { target: *target, corpus: Corpus::Kept, without: None });
    let results = run::all(checkout, &programs, &jobs.collect::<Vec<_>>(), args)?;
    println!(
        "{:13} {:>10} {:>8} {:>11} {:>8} {:>7} {:>7}  findings",
        "target", "executions", "a second", "actions", "edges", "inputs", "s"
    );
    for result in &results {
        println!("{result}");
    }
    let found = results.iter().filter(|result| result.finding().is_some()).count();
    if found > 0 {
        bail!("{found} of {} targets found something; --replay FILE shows it again", results.len());
    }
    if args.coverage {
        coverage::print(checkout, targets, args.jobs)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_a_program_of_the_package() {
        let manifest = include_str!("../../../fuzz/Cargo.toml");
        for target in Target::ALL {
            assert!(manifest.contains(&format!("name = \"{}\"", target.name())), "{target:?}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), Target::ALL.len());
    }
}
