//! `cargo xtask fuzz`: coverage-guided fuzzing of hostile hosts, with the driver and the ownership map.
//!
//! The targets are programs of the package in `fuzz/`, which is not a member of the workspace: cargo-fuzz builds them
//! with the pinned toolchain. They execute `model_tests::hostile`, and `gic` executes `gic_tests::hostile`.

mod build;
mod coverage;
mod removed;
mod replay;
mod run;
mod without;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueHint;

use crate::checkout::Checkout;
use removed::Removed;
use run::{Corpus, Job};

/// Fuzz the driver and the guard of the GIC with hostile hosts, coverage-guided, on adversarial models
///
/// Each target starts from its committed corpus (fuzz/corpus) and from inputs kept by
/// earlier runs (target/portcullis/fuzz/corpus). After every action the model checks
/// whether any behaviour allowed by the architecture lets a stream reach memory that the
/// host does not own, or the GIC memory outside EL2. Needs a C++ compiler. The first run
/// builds cargo-fuzz into target/ if the machine has none, and the targets: 1 to 5 minutes.
///
/// Examples:
///   cargo xtask fuzz
///   cargo xtask fuzz registers commands --seconds 600
///   cargo xtask fuzz --seconds 3600 --input-bytes 64
///   cargo xtask fuzz --seconds 0 --coverage
///   cargo xtask fuzz --seconds 600 --without all
///   cargo xtask fuzz --without freed-early
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Only these targets
    #[arg(value_enum, value_name = "TARGET")]
    targets: Vec<Target>,
    /// Seconds per target; 0 only runs the corpus
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Longest input; 64 bytes are about 10 actions, and many more executions in the same time
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(2..))]
    input_bytes: u32,
    /// Targets that run at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// List the targets and exit
    #[arg(long)]
    list: bool,
    /// Afterwards, run the corpora again and print the covered regions per file; fails below 95 % of those in the folders
    /// emul and shadow of smmu-drv/src/smmu and in device/el2_cmdq.rs and device/el2_eventq.rs there,
    /// together, or below 95 % of those of gic-guard/src if its target is run
    #[arg(long)]
    coverage: bool,
    /// Remove a defence, or each of them in turn: its target (or each named target) must detect this, starting from
    /// the committed corpus only
    #[arg(long, value_enum, value_name = "DEFENCE", conflicts_with = "coverage")]
    without: Option<Removed>,
    /// Run one input and print its actions; with --without, without that defence. TARGET may be left out for a
    /// file in fuzz/corpus/TARGET/
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "coverage")]
    replay: Option<PathBuf>,
}

/// A fuzz target.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Target {
    /// All actions of a host, its devices and its hardware
    HostileHost,
    /// Register accesses of any offset, size and value
    Registers,
    /// Commands, events and both queues
    Commands,
    /// Stream tables of any content and shape
    StreamTable,
    /// Page ownership changes between traps and DMA
    Transitions,
    /// Bulk actions: expensive traps
    Costs,
    /// The GIC: every register, commands, and memory and hardware that change at the same time
    Gic,
}

impl Target {
    const ALL: [Self; 7] = [
        Self::HostileHost,
        Self::Registers,
        Self::Commands,
        Self::StreamTable,
        Self::Transitions,
        Self::Costs,
        Self::Gic,
    ];

    /// The target's name in fuzz/.
    fn name(self) -> &'static str {
        match self {
            Self::HostileHost => "hostile_host",
            Self::Registers => "registers",
            Self::Commands => "commands",
            Self::StreamTable => "stream_table",
            Self::Transitions => "transitions",
            Self::Costs => "costs",
            Self::Gic => "gic",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::HostileHost => "all actions of a host, its devices and its hardware",
            Self::Registers => "register accesses of any offset, size and value",
            Self::Commands => "commands, events and both queues",
            Self::StreamTable => "stream tables of any content and shape",
            Self::Transitions => "page ownership changes between traps and DMA",
            Self::Costs => "bulk actions: expensive traps",
            Self::Gic => "the GIC: every register, commands, and memory and hardware that change at the same time",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When something is missing or does not build, when a target has a finding, or when it has no finding although a
/// defence is removed.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    if args.list {
        for target in Target::ALL {
            println!("{:13} {}", target.name(), target.what());
        }
        return Ok(());
    }
    let targets = if args.targets.is_empty() { Target::ALL.as_slice() } else { &args.targets };
    if let Some(input) = &args.replay {
        // Building takes minutes: check the command line first.
        let target = replay::target(targets, input)?;
        let without = args.without.map(Removed::single).transpose()?;
        let programs = removed::programs(checkout, without)?;
        return replay::main(&programs, target, input, without);
    }
    if let Some(removed) = args.without {
        return without::main(checkout, removed, args);
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
        bail!("{found} of {} targets have a finding; reproduce it with --replay FILE", results.len());
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
