//! The payload's tests: each is one machine, run and named by the runner in qemu-tests.

use std::path::Path;

use crate::checkout::Checkout;
use crate::test::Images;
use crate::test::tally::Tally;

/// Runs them all.
pub(crate) fn run(checkout: &Checkout, qemu: &Path, images: &Images, tally: &mut Tally) {
    let mut cargo = checkout.cargo();
    cargo
        .args(["test", "-p", "qemu-tests", "--test", "payload"])
        .env("PORTCULLIS_QEMU", qemu)
        .env("PORTCULLIS_HYP", &images.hyp)
        .env("PORTCULLIS_HYP_NO_ISOLATION", &images.open)
        .env("PORTCULLIS_PAYLOAD", &images.payload);
    tally.cargo_test("payload under QEMU", &mut cargo);
}
