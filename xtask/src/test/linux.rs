//! The Linux boots: both kernels, three cores, the three ways Linux uses an SMMU, and
//! the attack. Every boot differs from the others in more than one thing, because a
//! boot costs half a minute.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::checkout::Checkout;
use crate::linux::attack;
use crate::linux::boot::{Boot, Devices, Guest, Hypervisor, Mode};
use crate::linux::report::Report;
use crate::progress::say;
use crate::test::Images;
use crate::test::tally::Tally;

const SUITE: &str = "Linux boots";

struct Row {
    series: &'static str,
    cpu: &'static str,
    smp: u32,
    mem: &'static str,
    append: &'static str,
}

const CHECKS: [Row; 7] = [
    Row { series: "6.12", cpu: "max", smp: 4, mem: "1G", append: "" },
    Row { series: "6.1", cpu: "max", smp: 4, mem: "1G", append: "" },
    Row { series: "6.12", cpu: "cortex-a76", smp: 4, mem: "2G", append: "iommu.strict=0" },
    Row { series: "6.1", cpu: "cortex-a76", smp: 2, mem: "1G", append: "iommu.passthrough=1" },
    Row { series: "6.12", cpu: "neoverse-n1", smp: 8, mem: "8G", append: "iommu.passthrough=1" },
    Row { series: "6.1", cpu: "neoverse-n1", smp: 4, mem: "1G", append: "iommu.strict=0" },
    Row { series: "6.12", cpu: "max", smp: 1, mem: "512M", append: "" },
];

/// Attacks: every kernel under EL2, and one natively so that a blocked attack means
/// something.
const ATTACKS: [(&str, Below); 3] = [("6.12", Below::Nothing), ("6.12", Below::Portcullis), ("6.1", Below::Portcullis)];

#[derive(Clone, Copy)]
enum Below {
    Nothing,
    Portcullis,
}

/// Runs them all, as many at once as there are CPUs: a boot waits about as long as it
/// computes.
pub(crate) fn run(checkout: &Checkout, qemu: &Path, images: &Images, tally: &mut Tally) {
    let boots = match plan(checkout, qemu, images) {
        Ok(boots) => boots,
        Err(error) => return tally.fail(SUITE, &format!("{error:#}")),
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_AT_ONCE);
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    say(&format!("Booting {} Linux machines, {workers} at once ...", boots.len()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(boot) = boots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = boot.run_silently(checkout);
                    tell(boot, &report);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    for report in reports.into_inner().unwrap_or_else(PoisonError::into_inner) {
        count(tally, report);
    }
}

/// More machines than this need more memory than a small build machine has.
const MOST_AT_ONCE: usize = 4;

fn plan(checkout: &Checkout, qemu: &Path, images: &Images) -> Result<Vec<Boot>> {
    let mut boots = Vec::new();
    for row in CHECKS {
        boots.push(boot(checkout, qemu, images, &row, Below::Portcullis)?);
    }
    for (series, below) in ATTACKS {
        let row = Row { series, cpu: "max", smp: 2, mem: "1G", append: "" };
        let plain = boot(checkout, qemu, images, &row, below)?;
        for mode in [Mode::AttackPassthrough, Mode::AttackRuntime] {
            boots.push(attack::prepared(&plain, mode)?);
        }
    }
    Ok(boots)
}

fn tell(boot: &Boot, report: &Result<Report>) {
    let end = match report {
        Ok(report) if report.passed() => format!("passed in {:.1} s", report.outcome.took.as_secs_f64()),
        Ok(report) => format!("failed after {:.1} s", report.outcome.took.as_secs_f64()),
        Err(_) => "did not start".to_owned(),
    };
    say(&format!("{}: {end}", boot.title()));
}

fn boot(checkout: &Checkout, qemu: &Path, images: &Images, row: &Row, below: Below) -> Result<Boot> {
    Ok(Boot {
        qemu: qemu.to_owned(),
        guest: Guest::debian(checkout, row.series)?,
        hypervisor: match below {
            Below::Nothing => Hypervisor::None,
            Below::Portcullis => Hypervisor::Portcullis(images.hyp.clone()),
        },
        cpu: row.cpu.to_owned(),
        smp: row.smp,
        mem: row.mem.to_owned(),
        append: row.append.to_owned(),
        private_args: String::new(),
        qemu_args: Vec::new(),
        devices: Devices::Default,
        mode: Mode::Check,
        timeout: Duration::from_secs(240),
    })
}

fn count(tally: &mut Tally, report: Result<Report>) {
    match report {
        Ok(report) if report.passed() => tally.pass(SUITE),
        Ok(report) => {
            report.print();
            tally.fail(SUITE, &report.title);
        }
        Err(error) => tally.fail(SUITE, &format!("{error:#}")),
    }
}
