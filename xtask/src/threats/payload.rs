//! The rows' tests under QEMU: one machine without the defence against the test's attack, one with it.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use test_machines::console::AttackResult;
use test_machines::firmware::{FIRMWARE, Firmware};
use test_machines::payload::{HypervisorKind, Images, Listed, Run, Verdict, list};
use test_machines::progress::say;
use test_machines::qemu;

use crate::checkout::Checkout;
use crate::threats::removed::{self, Image};
use crate::threats::rows::rows_of;
use crate::threats::table::{End, Found};

/// Timeout of a machine without a defence; the machine then counts as hung.
const TIMEOUT: Duration = Duration::from_secs(60);
/// EL2's line before its host runs.
const HOST_STARTS: &str = "portcullis: host starts at";

/// Images for the machines.
pub(crate) struct Programs {
    /// The product, and the build without isolation.
    pub(crate) images: Images,
    /// Builds from sources without one defence.
    pub(crate) removed: Vec<Image>,
}

/// Runs every payload test of a row, or of the rows given.
///
/// # Errors
/// When the payload does not list its tests, or has no test that a patch lists.
pub(crate) fn run(checkout: &Checkout, programs: &Programs, rows: &[u8]) -> Result<Vec<Found>> {
    let tests = list(&programs.images, &checkout.work_dir("runs/threats-list")?)?;
    let named = programs.removed.iter().flat_map(|image| &image.tests);
    if let Some(gone) = named.into_iter().find(|name| tests.iter().all(|test| test.name != **name)) {
        bail!("a patch lists the payload test {gone}, which does not exist");
    }
    let wanted = |test: &&Listed| {
        let about = rows_of(&test.name);
        !about.is_empty() && (rows.is_empty() || about.iter().any(|row| rows.contains(row)))
    };
    let tests: Vec<&Listed> = tests.iter().filter(wanted).collect();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    say(&format!("Attacking from {} payload tests, {workers} machines at once ...", tests.len()));
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ends = both(checkout, programs, test);
                    let reason = ends.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                    say(&format!("{}: {} without{reason}, {} with", test.name, ends.without.word(), ends.with.word()));
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(ends);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn both(checkout: &Checkout, programs: &Programs, test: &Listed) -> Found {
    let with = match (test.runs.contains(&HypervisorKind::Portcullis), firmware_of(test)) {
        (true, _) => run_one(checkout, programs, test, HypervisorKind::Portcullis),
        (false, Some(firmware)) => with_firmware(checkout, programs, firmware),
        (false, None) => End::NotRun,
    };
    let mut found =
        Found { name: test.name.clone(), test: test.name.clone(), without: End::NotRun, with, reason: None };
    // The build without isolation differs from the product only in isolation. Tests that need no hypervisor use the
    // machine without one.
    let open = [HypervisorKind::WithoutIsolation, HypervisorKind::Native]
        .into_iter()
        .find(|hypervisor| test.runs.contains(hypervisor));
    let mut images = programs.removed.iter().filter(|image| image.tests.contains(&test.name)).peekable();
    if let (None, Some(hypervisor)) = (images.peek(), open) {
        found.without = run_one(checkout, programs, test, hypervisor);
    }
    for image in images {
        match without(checkout, programs, test, image) {
            Ok(end) => removed::note(&mut found, &image.word, end),
            Err(error) => removed::note(&mut found, &image.word, (End::Failed, format!("{error:#}"))),
        }
    }
    found
}

/// The test on an EL2 that lacks its defence: the attack must land, or the test must fail. Returns the result and its
/// reason.
///
/// # Errors
/// When the machine cannot be run, or EL2 refuses to start its host, since such a run proves nothing.
fn without(checkout: &Checkout, programs: &Programs, test: &Listed, image: &Image) -> Result<(End, String)> {
    let images = Images { hyp: Some(image.file.clone()), ..programs.images.clone() };
    let dir = checkout.work_dir(&format!("runs/threats-{}-without-{}", test.name, image.word))?;
    if let Some(firmware) = firmware_of(test) {
        let run = firmware.run(&images, &dir);
        ensure!(qemu::host_console(&dir).contains(HOST_STARTS), "EL2 did not start its host");
        return Ok(match run {
            Ok(()) => (End::PassedWithoutDefence, "it passes".to_owned()),
            Err(error) => (End::Detected, error.root_cause().to_string()),
        });
    }
    let run = Run::new(&images, HypervisorKind::Portcullis, &test.name);
    let report = Run { smp: test.cpus, clock: test.clock, el2_options: &test.el2_options, deadline: TIMEOUT, ..run }
        .run(&dir)?;
    ensure!(report.outcome.el2_console.contains(HOST_STARTS), "EL2 did not start its host");
    let landed = report.attacks.iter().any(|(_, result)| *result == AttackResult::Landed);
    Ok(match report.verdict() {
        _ if landed => (End::Landed, "it lands".to_owned()),
        Ok(Verdict::Passed) => (End::PassedWithoutDefence, "it passes".to_owned()),
        Ok(Verdict::Skipped(reason)) => (End::NotRun, reason),
        Err(error) => (End::Detected, error.root_cause().to_string()),
    })
}

/// The firmware of a test that needs other firmware than that of QEMU.
fn firmware_of(test: &Listed) -> Option<&'static Firmware> {
    FIRMWARE.iter().find(|firmware| firmware.name == test.name)
}

fn with_firmware(checkout: &Checkout, programs: &Programs, firmware: &Firmware) -> End {
    let dir = checkout.work_dir(&format!("runs/threats-{}", firmware.name));
    match dir.and_then(|dir| firmware.run(&programs.images, &dir)) {
        Ok(()) => End::Blocked,
        Err(error) => {
            say(&format!("FAILED {}: {error:#}", firmware.name));
            End::Failed
        }
    }
}

fn run_one(checkout: &Checkout, programs: &Programs, test: &Listed, hypervisor: HypervisorKind) -> End {
    let run = || {
        let dir = checkout.work_dir(&format!("runs/threats-{}-{}", test.name, hypervisor.name()))?;
        let run = Run::new(&programs.images, hypervisor, &test.name);
        let el2_options = &test.el2_options;
        let report = Run { smp: test.cpus, clock: test.clock, el2_options, ..run }.run(&dir)?;
        let verdict = report.verdict()?;
        anyhow::Ok((verdict, report.attacks))
    };
    match run() {
        Ok((Verdict::Skipped(_), _)) => End::NotRun,
        Ok((Verdict::Passed, attacks)) => {
            // Some tests check correct operation or an error code and print no attack.
            let landed = attacks.iter().any(|(_, result)| *result == AttackResult::Landed);
            match (hypervisor, landed) {
                (_, true) => End::Landed,
                (HypervisorKind::Portcullis, false) => End::Blocked,
                (HypervisorKind::WithoutIsolation | HypervisorKind::Native, false) => End::NoAttack,
            }
        }
        Err(error) => {
            say(&format!("FAILED {} ({}): {error:#}", test.name, hypervisor.name()));
            End::Failed
        }
    }
}
