//! `cargo xtask stress`: pages that change hands at random on all CPUs but one, while that one has devices transfer to the
//! same pages all the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use qemu_tests::payload::{Below, Clock, Images, Report, Run, Verdict};

use crate::checkout::Checkout;
use crate::images::{self, Isolation};
use crate::progress::{say, step};
use crate::setup;

/// The payload's test.
const TEST: &str = "stress_ownership";
/// For this many transitions one device transfer at a foreign page and one at an own page is asked for.
const TRANSITIONS_PER_TRANSFER: u64 = 10;

/// Change the owners of pages at random while devices reach for them.
///
/// Boots the payload under Portcullis with an NVMe and the `edu` DMA device. All CPUs but one share, donate and take back
/// pages; the last one has both devices read and write the same pages: never may a transfer reach a page that is EL2's,
/// always one that is the host's. The run goes on until the transitions are made and a tenth as many NVMe transfers were
/// tried at donated pages, and as many completed at the host's. EL2's own exit line has the last word.
///
/// With --ghost EL2 also compares, after every trap, an abstract ownership with both stage 2 tables, the shadow stream
/// tables and the queues, and stops at the first disagreement; it is many times slower.
///
/// Examples:
///   cargo xtask stress
///   cargo xtask stress --transitions 2000 --smp 2 --seed 7 --ghost
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// How often pages change hands
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    transitions: u64,
    /// Number of CPUs; one of them drives the devices
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=8))]
    smp: u32,
    /// Where the random numbers start; another one every time unless given, and told
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// The build of EL2 that checks itself after every trap
    #[arg(long)]
    ghost: bool,
    /// Kill the machine after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    timeout: u64,
    /// QEMU to use instead of the installed one
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    qemu: Option<std::path::PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When set-up fails, or with what was not as it should be.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let build = if args.ghost { Isolation::Watched } else { Isolation::On };
    let images = Images {
        qemu: setup::qemu::ensure(checkout, args.qemu.as_deref())?,
        payload: images::payload(checkout)?,
        hyp: Some(images::hyp(checkout, build)?),
        open: None,
    };
    let seed = args.seed.map_or_else(any_seed, Ok)?;
    say(&format!("{} transitions on {} CPUs, seed {seed}", args.transitions, args.smp));
    let least = args.transitions / TRANSITIONS_PER_TRANSFER;
    let bootargs = format!("transitions={} transfers={least} seed={seed}", args.transitions);
    let run = Run {
        bootargs: &bootargs,
        smp: args.smp,
        clock: Clock::Real,
        deadline: Duration::from_secs(args.timeout),
        ..Run::new(&images, Below::Portcullis, TEST)
    };
    let dir = checkout.work_dir("runs/stress")?;
    let report = step("Changing owners", || run.run(&dir))?;
    conclude(&report, least).with_context(|| format!("seed {seed}"))
}

fn any_seed() -> Result<u32> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.subsec_nanos())
}

fn conclude(report: &Report, least: u64) -> Result<()> {
    let counted = report.outcome.host_console.lines().find_map(|line| line.trim().strip_prefix("STRESS "));
    for word in counted.unwrap_or_default().split_whitespace() {
        if let Some((name, value)) = word.split_once('=') {
            println!("{name:12} {value:>12}");
        }
    }
    if let Verdict::Skipped(why) = report.verdict()? {
        bail!("nothing was run: {why}");
    }
    let counted = counted.context("the payload gave no counters")?;
    for name in ["blocked", "through"] {
        let count = counter(counted, name)?;
        ensure!(count >= least, "{name}={count}, and at least {least} are needed");
    }
    // How EL2 itself sees the end: pages moved, memory in its pool, then its verdict.
    for line in report.outcome.el2_console.lines().rev().take(EL2_LINES).collect::<Vec<_>>().into_iter().rev() {
        println!("{line}");
    }
    println!("No transfer reached a page that was not the host's.");
    Ok(())
}

/// How many lines of EL2's console are shown.
const EL2_LINES: usize = 3;

fn counter(text: &str, name: &str) -> Result<u64> {
    let value = text.split_whitespace().filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name);
    let (_, value) = value.with_context(|| format!("the payload did not count {name}"))?;
    value.parse().with_context(|| format!("{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let text = "transitions=10 blocked=3 through=4";
        assert_eq!(counter(text, "blocked").ok(), Some(3));
        assert!(counter(text, "block").is_err());
    }
}
