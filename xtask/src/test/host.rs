//! Tests that run on the build machine: the libraries, the hypervisor's own library and
//! the tools.

use crate::checkout::Checkout;
use crate::test::tally::Tally;

/// One suite per package, so that a failure names where it is.
const SUITES: [(&str, &[&str]); 7] = [
    ("io-pgtable", &["-p", "io-pgtable"]),
    ("smmu-drv", &["-p", "smmu-drv"]),
    ("smmu-model", &["-p", "smmu-model"]),
    ("shadow-s2", &["-p", "shadow-s2"]),
    ("hyp, on the build machine", &["-p", "hyp", "--lib"]),
    (
        "qemu-tests, on the build machine",
        &["-p", "qemu-tests", "--lib"],
    ),
    ("xtask", &["-p", "xtask"]),
];

/// Runs them all.
pub(crate) fn run(checkout: &Checkout, tally: &mut Tally) {
    for (name, arguments) in SUITES {
        let mut cargo = checkout.cargo();
        cargo.args(["test", "--no-fail-fast"]).args(arguments);
        tally.cargo_test(name, &mut cargo);
    }
}
