//! `cargo xtask miri`: the libraries' tests under Miri, which detects data races, out-of-bounds accesses and aliasing
//! violations.

use std::time::Instant;

use anyhow::{Result, bail};
use test_machines::exec;
use test_machines::progress::say;

use crate::checkout::Checkout;
use crate::setup::rust;
use crate::test::results::TestResults;

/// Run the libraries' tests under Miri, which finds undefined behaviour
///
/// Runs the unit tests of io-pgtable, smmu-drv, shadow-s2 and mem-protect, or of the crates
/// named. Long tests run fewer iterations under Miri. Needs a nightly toolchain; its
/// components miri and rust-src are added if they are missing.
///
/// Examples:
///   cargo xtask miri
///   cargo xtask miri io-pgtable --all
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Only these crates
    #[arg(value_enum, value_name = "CRATE")]
    crates: Vec<Library>,
    /// Their integration tests as well: tens of minutes
    #[arg(long)]
    all: bool,
    /// Only tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// Crates that can run under Miri.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Library {
    /// The page tables
    IoPgtable,
    /// The driver
    SmmuDrv,
    /// The IOMMU stage 2
    ShadowS2,
    /// The ownership of pages
    MemProtect,
}

impl Library {
    const ALL: [Self; 4] = [Self::IoPgtable, Self::ShadowS2, Self::MemProtect, Self::SmmuDrv];

    fn package(self) -> &'static str {
        match self {
            Self::IoPgtable => "io-pgtable",
            Self::SmmuDrv => "smmu-drv",
            Self::ShadowS2 => "shadow-s2",
            Self::MemProtect => "mem-protect",
        }
    }

    /// Whether Miri can run its integration tests. Those of shadow-s2 use stack switching, which Miri does not
    /// support.
    fn has_integration_tests(self) -> bool {
        match self {
            Self::IoPgtable | Self::SmmuDrv => true,
            Self::ShadowS2 | Self::MemProtect => false,
        }
    }
}

/// The toolchain with Miri.
const NIGHTLY: &str = "nightly";

/// Runs the command.
///
/// # Errors
/// When set-up fails or a test fails, with the number of failed tests.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let started = Instant::now();
    rust::ensure_miri(checkout, NIGHTLY)?;
    let crates = if args.crates.is_empty() { Library::ALL.as_slice() } else { &args.crates };
    let mut results = TestResults::default();
    for library in crates {
        let package = library.package();
        let mut cargo = checkout.cargo_of(NIGHTLY);
        cargo.args(["miri", "test", "--no-fail-fast", "-p", package]);
        if args.all && library.has_integration_tests() {
            cargo.args(["--lib", "--tests"]);
        } else {
            cargo.arg("--lib");
        }
        if let Some(filter) = &args.filter {
            cargo.arg("--").arg(filter);
        }
        // A separate build folder for the other compiler, and no isolation from files: tests read the project's
        // documents and data.
        cargo.env("CARGO_TARGET_DIR", checkout.work_dir("miri")?).env("MIRIFLAGS", "-Zmiri-disable-isolation");
        say(&exec::shown(&cargo));
        results.cargo_test(&format!("{package} under Miri"), &mut cargo);
    }
    results.print(started.elapsed());
    if results.failed() > 0 {
        bail!(
            "{} tests failed under Miri; the text above contains the violated rule and its location",
            results.failed()
        );
    }
    Ok(())
}
