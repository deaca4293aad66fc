//! `cargo xtask test`: all tests, the most basic ones first.

mod bad_input;
mod host;
mod linux;
mod payload;
pub(crate) mod results;
mod uefi;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueHint;
use test_machines::packages;

use crate::checkout::Checkout;
use crate::images::{self, Isolation};
use crate::test::linux::Variants;
use crate::test::results::TestResults;

/// Run every test: host, payload under QEMU, bad input, Linux boots
///
/// Sets up what is missing first. The last line is `N passed, N failed`; the status is
/// 0 only if nothing failed. About ten minutes on two idle cores, five with --quick.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Without the Linux boots
    #[arg(long, conflicts_with = "only")]
    quick: bool,
    /// Only this suite; repeat it for several
    #[arg(long, value_name = "SUITE")]
    only: Vec<Suite>,
    /// Run all variants of the Linux boots (twenty minutes more)
    #[arg(long, conflicts_with = "quick")]
    long: bool,
    /// Use the build of EL2 that audits itself after every trap (slow); runs only the payload suite unless --only is
    /// given
    #[arg(long, conflicts_with = "quick")]
    ghost: bool,
    /// QEMU to use instead of the installed one; 11 selects the QEMU of Debian 13, which is fetched into target/
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    qemu: Option<PathBuf>,
}

/// A group of tests that can be run by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Suite {
    /// Tests on the build machine
    Host,
    /// The EL1 payload's tests under QEMU
    Payload,
    /// Machines that must be refused
    BadInput,
    /// EL2 started by UEFI firmware that attacks it
    Uefi,
    /// Linux boots and attacks from Linux
    Linux,
}

impl Args {
    fn wants(&self, suite: Suite) -> bool {
        match (self.only.is_empty(), self.ghost) {
            (false, _) => self.only.contains(&suite),
            (true, true) => suite == Suite::Payload,
            (true, false) => !(self.quick && suite == Suite::Linux),
        }
    }

    fn build(&self) -> Isolation {
        if self.ghost { Isolation::Ghost } else { Isolation::On }
    }
}

/// Runs the command.
///
/// # Errors
/// When set-up fails or a test fails, with the number of failed tests.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let started = Instant::now();
    let mut results = TestResults::default();
    let boots = [Suite::Payload, Suite::BadInput, Suite::Uefi, Suite::Linux];
    let boots = boots.iter().any(|suite| args.wants(*suite));
    // Linking an image uses one core for most of its time: it is done beside the tests of the build machine.
    let prepared = thread::scope(|scope| {
        let prepared = boots.then(|| scope.spawn(|| prepare(checkout, args)));
        if args.wants(Suite::Host) {
            host::run(checkout, &mut results);
        }
        prepared.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    match prepared.transpose() {
        Ok(None) => {}
        Ok(Some((mut qemus, images))) => {
            if let Some(error) = qemus.no_newer.take() {
                results.fail("QEMU 11", &format!("{error:#}"));
            }
            boot(checkout, args, &qemus, &images, &mut results)
        }
        Err(error) => results.fail("preparing the machines for QEMU", &format!("{error:#}")),
    }
    results.print(started.elapsed());
    if results.failed() > 0 {
        bail!("{} tests failed", results.failed());
    }
    Ok(())
}

/// Fetches QEMU and builds the images.
fn prepare(checkout: &Checkout, args: &Args) -> Result<(Qemus, Images)> {
    Ok((Qemus::ensure(checkout, args)?, Images::build(checkout, args.build())?))
}

fn boot(checkout: &Checkout, args: &Args, qemus: &Qemus, images: &Images, results: &mut TestResults) {
    let qemu = &qemus.default;
    if args.wants(Suite::Payload) {
        payload::run(checkout, qemu, images, results);
        if let Some(newer) = &qemus.newer {
            payload::run_newer(checkout, newer, images, results);
        }
    }
    if args.wants(Suite::BadInput) {
        host::run_with_qemu(checkout, qemu, results);
        bad_input::run(checkout, qemu, images, results);
    }
    if args.wants(Suite::Uefi) {
        uefi::run(checkout, qemu, images.build, results);
    }
    if args.wants(Suite::Linux) {
        let variants = if args.long { Variants::All } else { Variants::Usual };
        linux::run(checkout, qemus, images, variants, results);
    }
}

/// The QEMU programs of the machines.
struct Qemus {
    /// The QEMU for nearly all machines.
    default: PathBuf,
    /// The QEMU whose CPUs have the newest features, for tests that depend on them. Not used with --qemu, --quick or
    /// --ghost.
    newer: Option<PathBuf>,
    /// Why there is no `newer`, if it is used.
    no_newer: Option<anyhow::Error>,
}

impl Qemus {
    fn ensure(checkout: &Checkout, args: &Args) -> Result<Self> {
        let default = packages::qemu::ensure(checkout.work(), args.qemu.as_deref())?;
        let with_newer = args.qemu.is_none() && !args.quick && !args.ghost;
        let wanted = with_newer && (args.wants(Suite::Payload) || args.wants(Suite::Linux));
        let (newer, no_newer) = match wanted.then(|| packages::qemu::newer(checkout.work())).transpose() {
            Ok(newer) => (newer, None),
            Err(error) => (None, Some(error)),
        };
        Ok(Self { default, newer, no_newer })
    }
}

/// Images for the machines.
struct Images {
    hyp: PathBuf,
    no_isolation: Option<PathBuf>,
    payload: PathBuf,
    build: Isolation,
}

impl Images {
    fn build(checkout: &Checkout, build: Isolation) -> Result<Self> {
        let payload = images::payload(checkout)?;
        // The build without isolation does not need the ghost variant.
        let no_isolation = match build {
            Isolation::Ghost => None,
            Isolation::On | Isolation::Off => Some(images::hyp(checkout, Isolation::Off)?),
        };
        Ok(Self { payload, no_isolation, hyp: images::hyp(checkout, build)?, build })
    }
}
