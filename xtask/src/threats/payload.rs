//! The rows' tests under QEMU: one machine without isolation where the test says that it makes sense there, one with.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use qemu_tests::console::AttackResult;
use qemu_tests::payload::{Below, Images, Listed, Run, Verdict, list};

use crate::checkout::Checkout;
use crate::progress::say;
use crate::threats::rows::rows_of;
use crate::threats::table::{End, Found};

/// Runs every payload test of a row, or of the row given.
///
/// # Errors
/// When the payload does not list its tests.
pub(crate) fn run(checkout: &Checkout, images: &Images, row: Option<u8>) -> Result<Vec<Found>> {
    let tests = list(images, &checkout.work_dir("runs/threats-list")?)?;
    let wanted = |test: &&Listed| {
        let rows = rows_of(&test.name);
        row.map_or(!rows.is_empty(), |row| rows.contains(&row))
    };
    let tests: Vec<&Listed> = tests.iter().filter(wanted).collect();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    say(&format!("Attacking from {} payload tests, {workers} machines at once ...", tests.len()));
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ends = both(checkout, images, test);
                    say(&format!("{}: {} without, {} with", test.name, ends.without.word(), ends.with.word()));
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(ends);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn both(checkout: &Checkout, images: &Images, test: &Listed) -> Found {
    // The build without isolation is the same hypervisor otherwise; the bare machine stands in where only that is right.
    let open = [Below::Open, Below::Native].into_iter().find(|below| test.runs.contains(below));
    let without = open.map_or(End::NotRun, |below| one(checkout, images, test, below));
    let with = match test.runs.contains(&Below::Portcullis) {
        true => one(checkout, images, test, Below::Portcullis),
        false => End::NotRun,
    };
    Found { name: test.name.clone(), test: test.name.clone(), without, with }
}

fn one(checkout: &Checkout, images: &Images, test: &Listed, below: Below) -> End {
    let run = || {
        let dir = checkout.work_dir(&format!("runs/threats-{}-{}", test.name, below.word()))?;
        let report = Run { smp: test.cpus, clock: test.clock, ..Run::new(images, below, &test.name) }.run(&dir)?;
        let verdict = report.verdict()?;
        anyhow::Ok((verdict, report.attacks))
    };
    match run() {
        Ok((Verdict::Skipped(_), _)) => End::NotRun,
        Ok((Verdict::Passed, attacks)) => {
            // A test may be of what must work, or of an error that must be named; then nothing lands anywhere.
            let landed = attacks.iter().any(|(_, result)| *result == AttackResult::Landed);
            match (below, landed) {
                (_, true) => End::Landed,
                (Below::Portcullis, false) => End::Blocked,
                (Below::Open | Below::Native, false) => End::NoAttack,
            }
        }
        Err(error) => {
            say(&format!("FAILED {} ({}): {error:#}", test.name, below.word()));
            End::Wrong
        }
    }
}
