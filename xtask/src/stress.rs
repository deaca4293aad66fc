//! `cargo xtask stress`: random page ownership changes on all CPUs, with concurrent DMA to the same pages.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use test_machines::packages;
use test_machines::payload::{Clock, HypervisorKind, Images, Report, Run, Verdict};
use test_machines::progress::{counted, say, step};
use test_machines::two_smmus::Smmus;

use crate::checkout::Checkout;
use crate::images::{self, Isolation};

/// The payload's test.
const TEST: &str = "stress_ownership";
/// The test of `--hand-overs`.
const HAND_OVERS: &str = "t68_hand_overs_under_load";
/// Its options for EL2: `edu` has no reset.
const HAND_OVERS_EL2: &str = "no-reset=1234:11e8";
/// One device transfer to a page of another owner and one to a page of the host are run per this many transitions.
const TRANSITIONS_PER_TRANSFER: u64 = 10;
/// Poll interval for the payload's output.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(20);

/// Change page owners at random while devices access the pages
///
/// Boots the payload under Portcullis with an NVMe and the `edu` DMA device. All CPUs
/// share, donate and return pages, with EL2 and with guests that are created and
/// destroyed; meanwhile both devices read and write the same pages: a transfer must never
/// reach a page of EL2 or a guest, and must always reach a page of the host. The run ends
/// when the transitions are done and a tenth as many NVMe transfers were tried at donated
/// pages, and as many completed at the host's. It passes only if EL2's exit line, its audit
/// of all tables, and the free memory of its pool are correct.
///
/// With --ghost EL2 also compares, after every trap, an abstract ownership with both stage
/// 2 tables, the shadow stream tables and the queues, and stops at the first disagreement;
/// it is many times slower.
///
/// Counters: blocked are disk commands to pages that the host did not own, through those to
/// pages that it owned, and undecided those to pages that changed owner during the command.
/// wrong are commands and transfers of both devices with the wrong result: it must be 0.
/// edu, edu_blocked and edu_through are the transfers of the edu device, which is slow and
/// may have no result in a short run; "us" is the time of the run in microseconds. dma_faults in EL2's exit line can be
/// far smaller than blocked: hardware's event queue has 128 entries, and QEMU drops events while it is full.
///
/// With --hand-overs N, the NVMe is assigned to a guest and returned N times, and sometimes `edu`. Meanwhile three
/// other CPUs access the registers, let `edu` read the guest's page, and change the owners of pages. A hand-over takes
/// at least 0.2 s. QEMU 10 can fail with an assertion (iotlb_to_section) when one CPU moves BARs and others use
/// devices: use --qemu 11.
///
/// Examples:
///   cargo xtask stress
///   cargo xtask stress --hand-overs 10000 --qemu 11 --timeout 14400
///   cargo xtask stress --transitions 2000 --smp 2 --seed 7 --ghost
///   cargo xtask stress --smmus 2
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Number of ownership changes
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    transitions: u64,
    /// Assign PCI functions to guests and take them back this many times, on four CPUs
    #[arg(long, value_name = "N", conflicts_with_all = ["transitions", "smp", "smmus"], value_parser = clap::value_parser!(u64).range(1..))]
    hand_overs: Option<u64>,
    /// Number of CPUs, 1 to 8; one of them drives the devices as well
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// Random seed; by default a new one for each run, which is printed
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Number of SMMUs, 1 or 2; with two (QEMU 11) the NVMe is behind the first and edu behind the second
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    smmus: u8,
    /// Use the build of EL2 that audits itself after every trap
    #[arg(long)]
    ghost: bool,
    /// Kill the machine after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// QEMU to use instead of the installed one; 11 selects the QEMU of Debian 13, which is fetched into target/
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    qemu: Option<std::path::PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When set-up or a check fails.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let smmus = Smmus::of_number(args.smmus);
    let build = if args.ghost { Isolation::Ghost } else { Isolation::On };
    let images = Images {
        qemu: packages::qemu::for_smmus(checkout.work(), args.qemu.as_deref(), smmus)?,
        payload: images::payload(checkout)?,
        hyp: Some(images::hyp(checkout, build)?),
        without_isolation: None,
    };
    let seed = args.seed.map_or_else(any_seed, Ok)?;
    if let Some(count) = args.hand_overs {
        return hand_overs(checkout, &images, args, count, seed);
    }
    let cpus = counted(usize::try_from(args.smp)?, "CPU");
    say(&format!("{} transitions on {cpus}, seed {seed}", args.transitions));
    let least = args.transitions / TRANSITIONS_PER_TRANSFER;
    let bootargs = format!("transitions={} transfers={least} seed={seed}", args.transitions);
    let run = Run {
        bootargs: &bootargs,
        smp: args.smp,
        clock: Clock::Real,
        smmus,
        deadline: Duration::from_secs(args.timeout),
        ..Run::new(&images, HypervisorKind::Portcullis, TEST)
    };
    let dir = checkout.work_dir("runs/stress")?;
    let report = step("Changing owners", || run_with_progress(&run, &dir))?;
    conclude(&report, args.transitions, least, smmus).with_context(|| format!("seed {seed}"))
}

/// Assigns functions to guests and takes them back.
fn hand_overs(checkout: &Checkout, images: &Images, args: &Args, count: u64, seed: u32) -> Result<()> {
    say(&format!("{count} hand-overs, seed {seed}"));
    let bootargs = format!("transitions={count} seed={seed}");
    let run = Run {
        bootargs: &bootargs,
        el2_options: HAND_OVERS_EL2,
        smp: 4,
        clock: Clock::Real,
        deadline: Duration::from_secs(args.timeout),
        ..Run::new(images, HypervisorKind::Portcullis, HAND_OVERS)
    };
    let dir = checkout.work_dir("runs/hand-overs")?;
    let report = step("Handing over", || run_with_progress(&run, &dir))?;
    if let Verdict::Skipped(why) = report.verdict()? {
        bail!("nothing was run: {why}");
    }
    let made = hand_overs_made(&report.outcome.host_console).context("the payload printed no result")?;
    println!("{made}");
    ensure!(made.starts_with(&format!("{count} hand-overs, ")), "fewer hand-overs than {count}");
    print_end(&report)
}

/// The payload's result: `12 hand-overs, 54 accesses, ...`.
fn hand_overs_made(console: &str) -> Option<&str> {
    console.lines().map(str::trim).rfind(|line| line.contains(" hand-overs, ") && !line.starts_with("PROGRESS "))
}

/// Runs the machine with periodic progress output.
fn run_with_progress(run: &Run<'_>, dir: &Path) -> Result<Report> {
    let (done, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut printed = (Instant::now(), String::new());
            // Any result other than a timeout means that the run has ended.
            while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(POLL_INTERVAL) {
                let line = last_progress(&run.host_console(dir));
                if printed.0.elapsed() >= PROGRESS_INTERVAL && line != printed.1 {
                    say(&line);
                    printed = (Instant::now(), line);
                }
            }
        });
        let report = run.run(dir);
        drop(done);
        report
    })
}

/// The payload's last progress line.
fn last_progress(console: &str) -> String {
    let line = console.lines().rev().find_map(|line| line.trim().strip_prefix("PROGRESS "));
    line.unwrap_or_default().to_owned()
}

fn any_seed() -> Result<u32> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.subsec_nanos())
}

fn conclude(report: &Report, transitions: u64, least: u64, smmus: Smmus) -> Result<()> {
    let counted = report.outcome.host_console.lines().find_map(|line| line.trim().strip_prefix("STRESS "));
    for word in counted.unwrap_or_default().split_whitespace() {
        if let Some((name, value)) = word.split_once('=') {
            println!("{name:12} {value:>12}");
        }
    }
    if let Verdict::Skipped(why) = report.verdict()? {
        bail!("the test was skipped: {why}");
    }
    let counted = counted.context("the payload printed no counters")?;
    for (name, least) in [("transitions", transitions), ("blocked", least), ("through", least)] {
        let count = counter(counted, name)?;
        ensure!(count >= least, "{name}={count}, and at least {least} are needed");
    }
    if smmus == Smmus::Two {
        for name in ["edu_blocked", "edu_through"] {
            ensure!(counter(counted, name)? > 0, "{name}=0: too short for the device behind the second SMMU");
        }
    }
    ensure!(counter(counted, "wrong")? == 0, "transfers had the wrong result");
    print_end(report)?;
    println!("No transfer reached a page of another owner than the host.");
    Ok(())
}

/// Prints EL2's last lines: page counts, pool, audit, result. The pool must have its initial state.
fn print_end(report: &Report) -> Result<()> {
    let pool = pool_at_end(&report.outcome.el2_console)?;
    ensure!(pool.is_unchanged(), "EL2's pool has changed since the host's start: {pool:?}");
    for line in report.outcome.el2_console.lines().rev().take(EL2_LINES).collect::<Vec<_>>().into_iter().rev() {
        println!("{line}");
    }
    Ok(())
}

/// Number of shown lines of EL2's console.
const EL2_LINES: usize = 4;

/// EL2's pool at the end, in KiB.
#[derive(Debug, PartialEq, Eq)]
struct Pool {
    free: u64,
    at_start: u64,
    /// Size of the donated pages that were not returned, in use or not.
    donated: u64,
}

impl Pool {
    /// Whether EL2 uses as much memory as when the host started: donated pages are subtracted.
    fn is_unchanged(&self) -> bool {
        self.free.checked_sub(self.donated) == Some(self.at_start)
    }
}

/// Parses EL2's line about its clean audit.
fn pool_at_end(el2_console: &str) -> Result<Pool> {
    let line = el2_console.lines().rev().find_map(|line| line.trim().strip_prefix("portcullis: audit clean; "));
    let line = line.context("EL2 did not report a clean audit at its end")?;
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    let mut next = || numbers.next().with_context(|| format!("EL2's line about its pool is incomplete: {line}"));
    Ok(Pool { free: next()?, at_start: next()?, donated: next()? })
}

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

    #[test]
    fn the_pool_is_only_read_from_the_line_of_the_audit() {
        let clean = "portcullis: pages revoked 2; pool 9 of 10 KiB free\n\
            portcullis: audit clean; free in the pool: 18264 KiB, 18256 KiB at the host's start, 8 KiB donated\n\
            portcullis: exit\n";
        assert_eq!(pool_at_end(clean).ok(), Some(Pool { free: 18264, at_start: 18256, donated: 8 }));
        assert!(pool_at_end("portcullis: pages revoked 2; pool 9 of 10 KiB free\n").is_err());
        assert!(pool_at_end("portcullis: audit clean; free in the pool: 5 KiB, 5 KiB at the host's start\n").is_err());
        let lost = clean.replace("clean", "clean but for pages that the host lost: 0 for its CPUs, 1 for its devices");
        assert!(pool_at_end(&lost).is_err());
    }

    #[test]
    fn donated_pages_are_subtracted() {
        let pool = |free, donated| Pool { free, at_start: 100, donated };
        assert!(pool(100, 0).is_unchanged() && pool(108, 8).is_unchanged());
        // One donated page or one page of the pool is in use.
        assert!(!pool(96, 0).is_unchanged() && !pool(104, 8).is_unchanged() && !pool(100, 8).is_unchanged());
        assert!(!pool(0, 8).is_unchanged());
    }

    #[test]
    fn the_result_of_hand_overs_is_not_a_line_of_progress() {
        let console = "PROGRESS hand-overs=32 accesses=1\r\n40 hand-overs, 9 accesses, 0 wrong\r\nTEST t: PASS\n";
        assert_eq!(hand_overs_made(console), Some("40 hand-overs, 9 accesses, 0 wrong"));
        assert_eq!(hand_overs_made("PROGRESS hand-overs=32, accesses=1"), None);
    }

    #[test]
    fn the_last_line_of_progress_is_used() {
        assert_eq!(last_progress("PROGRESS a=1\nx\nPROGRESS a=2\n"), "a=2");
        assert_eq!(last_progress(""), "");
    }
}
