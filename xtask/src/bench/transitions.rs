//! Page ownership changes: EL2's instructions, and commands and SYNCs for the SMMU.

use anyhow::Result;
use test_machines::payload::{HypervisorKind, Images};
use test_machines::progress::step;

use crate::bench::figure::{Figure, Report};
use crate::bench::payload::{self, Measured};
use crate::checkout::Checkout;

/// Page counts with separate figures, and pKVM's commands and SYNCs for each.
const NAMED: [(u32, f64); 3] = [(1, 2.0), (512, 1024.0), (262_144, 524_288.0)];
/// Maximum number of commands, and of SYNCs, of a transition of any number of pages.
const TARGET: f64 = 2.0;

/// Boots the payload's benchmark with room for 1 GiB to donate.
///
/// # Errors
/// When it fails.
pub(crate) fn run(checkout: &Checkout, images: &Images) -> Result<Measured> {
    step("Donating 1 to 262,144 pages", || {
        payload::run(checkout, images, HypervisorKind::Portcullis, "bench_transitions", "4G")
    })
}

/// Adds the named figures to the report.
///
/// # Errors
/// When the payload did not print one.
pub(crate) fn report(measured: &Measured, report: &mut Report) -> Result<()> {
    for (pages, pkvm) in NAMED {
        let calls = measured.value(&format!("revoke.{pages}.calls"))?;
        let how = if calls > 1.0 {
            format!("{calls} calls, sum over all calls; the pages per call are limited")
        } else {
            "one call, the first page of an unused 2M block".to_owned()
        };
        let insns = format!("el2_insns.donate_{pages}");
        report.add(&*insns, Figure::new(measured.value(&insns)?, "instructions").note(how.clone()));
        for (what, unit) in [("commands", "commands"), ("syncs", "SYNCs")] {
            let name = format!("revoke.{pages}.{what}");
            let figure = Figure::new(measured.value(&name)?, unit).peer(pkvm).note(format!("{how}; peer: pKVM"));
            report.add(name, if calls > 1.0 { figure } else { figure.target(TARGET) });
        }
    }
    let again = "el2_insns.donate_1_again";
    let note = "a page of a block that is already split";
    report.add(again, Figure::new(measured.value(again)?, "instructions").note(note));
    for pages in [1, 512] {
        let name = format!("el2_insns.return_{pages}");
        let note = "zeroed and cleaned before it is returned to the host";
        report.add(&*name, Figure::new(measured.value(&name)?, "instructions").note(note));
    }
    Ok(())
}
