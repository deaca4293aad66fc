//! `cargo xtask test`: every test there is, in the order in which a failure says most.

mod bad_input;
mod host;
mod linux;
mod payload;
mod tally;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueHint;

use crate::checkout::Checkout;
use crate::images::{self, Isolation};
use crate::setup;
use crate::test::tally::Tally;

/// Run every test: host, payload under QEMU, bad input, Linux boots.
///
/// Sets up what is missing first. The last line is `N passed, N failed`; the status is
/// 0 only if nothing failed. About ten minutes on two cores, two with --quick.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Without the Linux boots
    #[arg(long)]
    quick: bool,
    /// QEMU to use instead of the installed one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    qemu: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When set-up fails, or naming how many tests failed.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let started = Instant::now();
    let mut tally = Tally::default();
    host::run(checkout, &mut tally);
    let qemu = setup::qemu::ensure(checkout, args.qemu.as_deref())?;
    let images = Images::build(checkout);
    match &images {
        Ok(images) => {
            payload::run(checkout, &qemu, images, &mut tally);
            bad_input::run(checkout, &qemu, images, &mut tally);
            if !args.quick {
                linux::run(checkout, &qemu, images, &mut tally);
            }
        }
        Err(error) => tally.fail("building what QEMU boots", &format!("{error:#}")),
    }
    tally.print(started.elapsed());
    if tally.failed() > 0 {
        bail!("{} tests failed", tally.failed());
    }
    Ok(())
}

/// What the machines boot.
struct Images {
    hyp: PathBuf,
    open: PathBuf,
    payload: PathBuf,
}

impl Images {
    fn build(checkout: &Checkout) -> Result<Self> {
        Ok(Self {
            payload: images::payload(checkout)?,
            open: images::hyp(checkout, Isolation::Off)?,
            hyp: images::hyp(checkout, Isolation::On)?,
        })
    }
}
