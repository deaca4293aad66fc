//! The payload's tests. The runner in qemu-tests runs each on its own machine.

use std::path::Path;
use std::process::Command;

use crate::checkout::Checkout;
use crate::images::Isolation;
use crate::test::Images;
use crate::test::results::TestResults;

/// Timeout of a test with the ghost build, in seconds.
const GHOST_DEADLINE_S: u32 = 900;

/// The tests that depend on CPU features, on the CPU model with most features: with one CPU, and with several.
const FEATURES: [&str; 3] = ["/max-1/t66_", "/max-2/t66_registers_", "/max-8/t66_later_cores_"];

/// Runs the tests of CPU features with another QEMU, whose CPU model `max` has other features.
pub(crate) fn run_features(checkout: &Checkout, qemu: &Path, images: &Images, results: &mut TestResults) {
    for tests in FEATURES {
        results.cargo_test("CPU features under QEMU 11", command(checkout, qemu, images).args(["--", tests]));
    }
}

/// Runs all payload tests.
pub(crate) fn run(checkout: &Checkout, qemu: &Path, images: &Images, results: &mut TestResults) {
    let mut cargo = command(checkout, qemu, images);
    let suite = match images.build {
        Isolation::Ghost => {
            cargo.env("PORTCULLIS_DEADLINE", GHOST_DEADLINE_S.to_string());
            "payload under QEMU, EL2 with audits"
        }
        Isolation::On | Isolation::Off => "payload under QEMU",
    };
    results.cargo_test(suite, &mut cargo);
}

fn command(checkout: &Checkout, qemu: &Path, images: &Images) -> Command {
    let mut cargo = checkout.cargo();
    cargo
        .args(["test", "-p", "qemu-tests", "--test", "payload"])
        .env("PORTCULLIS_QEMU", qemu)
        .env("PORTCULLIS_HYP", &images.hyp)
        .env("PORTCULLIS_PAYLOAD", &images.payload);
    if let Some(no_isolation) = &images.no_isolation {
        cargo.env("PORTCULLIS_HYP_NO_ISOLATION", no_isolation);
    }
    cargo
}
