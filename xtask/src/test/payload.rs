//! The payload's tests: each is one machine, run and named by the runner in qemu-tests.

use std::path::Path;

use crate::checkout::Checkout;
use crate::images::Isolation;
use crate::test::Images;
use crate::test::tally::Tally;

/// When a test is given up whose EL2 checks itself after every trap, in seconds.
const WATCHED_DEADLINE_S: u32 = 900;

/// Runs them all.
pub(crate) fn run(checkout: &Checkout, qemu: &Path, images: &Images, tally: &mut Tally) {
    let mut cargo = checkout.cargo();
    cargo
        .args(["test", "-p", "qemu-tests", "--test", "payload"])
        .env("PORTCULLIS_QEMU", qemu)
        .env("PORTCULLIS_HYP", &images.hyp)
        .env("PORTCULLIS_PAYLOAD", &images.payload);
    if let Some(open) = &images.open {
        cargo.env("PORTCULLIS_HYP_NO_ISOLATION", open);
    }
    let suite = match images.build {
        Isolation::Watched => {
            cargo.env("PORTCULLIS_DEADLINE", WATCHED_DEADLINE_S.to_string());
            "payload under QEMU, EL2 watched"
        }
        Isolation::On | Isolation::Off => "payload under QEMU",
    };
    tally.cargo_test(suite, &mut cargo);
}
