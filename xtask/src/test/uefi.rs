//! EL2 started by UEFI firmware: the attacks of that firmware, on CPUs without and with VHE.

use std::path::Path;

use anyhow::Result;
use test_machines::console::AttackResult;
use test_machines::firmware_attack::{self, Files};
use test_machines::packages;
use test_machines::progress::step;

use crate::checkout::Checkout;
use crate::images::{self, Isolation};
use crate::test::results::TestResults;

const SUITE: &str = "UEFI";
/// CPU types. The firmware uses VHE if the CPU has it; the first type does not.
const CPUS: [&str; 3] = ["cortex-a72", "cortex-a76", "max"];

/// Runs the attacks on each CPU type.
pub(crate) fn run(checkout: &Checkout, qemu: &Path, build: Isolation, results: &mut TestResults) {
    let files = match files(checkout, qemu, build) {
        Ok(files) => files,
        Err(error) => return results.fail(SUITE, &format!("{error:#}")),
    };
    let mut attack = |files: &Files, cpu: &str, wanted: AttackResult| {
        let result = step(&format!("Attacking from UEFI firmware on {cpu}: {wanted:?}"), || {
            let dir = checkout.work_dir(&format!("runs/uefi-attack-{cpu}-{wanted:?}"))?;
            firmware_attack::run(files, cpu, wanted, &dir)
        });
        match result {
            Ok(()) => results.pass(SUITE),
            Err(error) => results.fail(SUITE, &format!("t70_firmware on {cpu}: {error:#}")),
        }
    };
    for cpu in CPUS {
        attack(&files, cpu, AttackResult::Blocked);
    }
    match images::efi(checkout, Isolation::Off) {
        Ok(loader) => attack(&Files { loader, ..files }, "max", AttackResult::Landed),
        Err(error) => results.fail(SUITE, &format!("{error:#}")),
    }
}

fn files(checkout: &Checkout, qemu: &Path, build: Isolation) -> Result<Files> {
    Ok(Files {
        qemu: qemu.to_owned(),
        firmware: packages::firmware::ensure(checkout.work())?,
        loader: images::efi(checkout, build)?,
        attack: images::efi_attack(checkout)?,
    })
}
