//! The payload's tests. The runner in qemu-tests runs each on its own machine.

use std::path::Path;
use std::process::Command;

use crate::checkout::Checkout;
use crate::images::Isolation;
use crate::test::Images;
use crate::test::results::TestResults;

/// Timeout of a test with the ghost build, in seconds.
const GHOST_DEADLINE_S: u32 = 900;

/// The tests that depend on CPU features, on the CPU model with most features, with one CPU and with several; and those
/// of a machine with two SMMUs.
const NEWER: [(&str, &str); 4] = [
    ("CPU features under QEMU 11", "/max-1/t66_"),
    ("CPU features under QEMU 11", "/max-2/t66_registers_"),
    ("CPU features under QEMU 11", "/max-8/t66_later_cores_"),
    ("two SMMUs under QEMU 11", "two-smmus/"),
];

/// Runs the tests that need a newer QEMU: its CPU model `max` has other features, and it has machines with two SMMUs.
pub(crate) fn run_newer(checkout: &Checkout, qemu: &Path, images: &Images, results: &mut TestResults) {
    for (suite, tests) in NEWER {
        results.cargo_test(suite, command(checkout, qemu, images).args(["--", tests]));
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
