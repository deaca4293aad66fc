//! `cargo xtask bench`: benchmark figures and their targets.

mod figure;
mod io_ratio;
mod linux;
mod payload;
mod pgtable;
mod scaling;
mod smmus;
mod transitions;
mod traps;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ValueEnum, ValueHint};
use test_machines::packages;
use test_machines::payload::Images;

use crate::bench::figure::Report;
use crate::bench::linux::BenchGuest;
use crate::checkout::Checkout;
use crate::images::{self, Isolation};

/// Measure page tables, traps, transitions and I/O, and compare the figures with their
/// targets
///
/// These are not tests: a missed target is reported but is not an error. Figures are
/// reproducible counts (instructions under QEMU's -icount, exits, commands) or ratios
/// measured in one run; no absolute times.
///
/// Examples:
///   cargo xtask bench
///   cargo xtask bench traps transitions --json figures.json
///   cargo xtask bench linux --io-ratio --repeats 20
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Groups to measure; all of them by default
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Write the figures as one flat JSON object
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    json: Option<PathBuf>,
    /// With `linux`: also time I/O in interleaved native and EL2 boots (slow)
    #[arg(long)]
    io_ratio: bool,
    /// Pairs of boots for --io-ratio
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..))]
    repeats: u32,
    /// QEMU to use instead of the installed one; 11 selects the QEMU of Debian 13, which is fetched into target/
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    qemu: Option<PathBuf>,
}

/// A group of figures.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Group {
    /// Page tables against other crates and Linux, on this machine
    IoPgtable,
    /// EL2's instructions for single traps and for the boot; sizes
    Traps,
    /// Page ownership changes: instructions, commands, SYNCs
    Transitions,
    /// SMMU exits per read under Debian Linux
    Linux,
    /// Scaling with SMMUs, pages, batches, stream table size and memory
    Scaling,
}

/// File with the tables of the last run.
const TABLES: &str = "bench.md";

/// Runs the command.
///
/// # Errors
/// When something cannot be measured; earlier results are still printed and written.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let mut report = Report::default();
    let mut tables = Vec::new();
    let measured = measure(checkout, args, &mut report, &mut tables);
    for line in tables.iter().chain(&report.table()) {
        println!("{line}");
    }
    let missed = report.missed();
    match missed.as_slice() {
        [] => println!("All {} targets of the measured figures are met.", report.targets()),
        _ => println!("{} of {} targets are missed: {}", missed.len(), report.targets(), missed.join(" ")),
    }
    let file = checkout.work_dir("bench")?.join(TABLES);
    let text = tables.iter().chain(&report.table()).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("The tables are in {}.", file.display());
    if let Some(path) = &args.json {
        fs::write(path, report.json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    measured
}

fn measure(checkout: &Checkout, args: &Args, report: &mut Report, tables: &mut Vec<String>) -> Result<()> {
    let wants = |group| args.groups.is_empty() || args.groups.contains(&group);
    if wants(Group::IoPgtable) {
        pgtable::measure(checkout, report)?;
    }
    if wants(Group::Scaling) {
        smmus::measure(checkout, report, tables)?;
    }
    if args.groups == [Group::IoPgtable] {
        return Ok(());
    }
    let images = Images {
        qemu: packages::qemu::ensure(checkout.work(), args.qemu.as_deref())?,
        payload: images::payload(checkout)?,
        hyp: Some(images::hyp(checkout, Isolation::On)?),
        without_isolation: None,
    };
    if wants(Group::Traps) {
        traps::measure(checkout, &images, report)?;
    }
    if wants(Group::Transitions) || wants(Group::Scaling) {
        let measured = transitions::run(checkout, &images)?;
        if wants(Group::Transitions) {
            transitions::report(&measured, report)?;
        }
        if wants(Group::Scaling) {
            scaling::measure(checkout, &images, &measured, report, tables)?;
        }
    }
    if wants(Group::Linux) {
        let hyp = images.hyp.as_ref().context("no hypervisor image")?;
        let guest = BenchGuest::new(checkout, &images.qemu, hyp)?;
        linux::measure(&guest, report)?;
        if args.io_ratio {
            io_ratio::measure(&guest, args.repeats, report)?;
        }
    }
    Ok(())
}
