//! Scaling: tables, and every point as a figure.

use anyhow::Result;
use test_machines::payload::{HypervisorKind, Images};
use test_machines::progress::step;

use crate::bench::figure::{Figure, Report, markdown, number};
use crate::bench::payload::{self, Measured};
use crate::checkout::Checkout;

/// Sizes of the host for which the boot and one revocation are counted.
const HOSTS: [&str; 4] = ["1G", "4G", "16G", "64G"];

/// Measures and writes the tables to `out`.
///
/// # Errors
/// When a machine fails.
pub(crate) fn measure(
    checkout: &Checkout,
    images: &Images,
    transitions: &Measured,
    report: &mut Report,
    out: &mut Vec<String>,
) -> Result<()> {
    revocation(transitions, report, out);
    batches(checkout, images, report, out)?;
    cfgi_all(checkout, images, report, out)?;
    hosts(checkout, images, report, out)
}

/// Figures named `<prefix>.<point>.<suffix>`, by point.
fn points(measured: &Measured, prefix: &str, suffix: &str) -> Vec<(u64, f64)> {
    let point = |name: &str| name.strip_prefix(prefix)?.strip_prefix('.')?.strip_suffix(suffix)?.parse().ok();
    let mut points: Vec<(u64, f64)> =
        measured.iter().filter_map(|(name, value, _)| Some((point(name)?, value))).collect();
    points.sort_unstable_by_key(|(point, _)| *point);
    points
}

fn revocation(measured: &Measured, report: &mut Report, out: &mut Vec<String>) {
    let mut rows = vec![["pages", "calls", "EL2 instructions", "per page", "commands", "SYNCs"].map(str::to_owned)];
    for (pages, calls) in points(measured, "revoke", ".calls") {
        let value = |name: String| measured.value(&name).unwrap_or(f64::NAN);
        let insns = value(format!("el2_insns.donate_{pages}"));
        let (commands, syncs) = (value(format!("revoke.{pages}.commands")), value(format!("revoke.{pages}.syncs")));
        let per_page = insns / super::traps::from_count(pages);
        for (what, value, unit) in
            [("insns", insns, "instructions"), ("commands", commands, "commands"), ("syncs", syncs, "SYNCs")]
        {
            let note = format!("donation of contiguous pages in {calls} calls");
            report.add(format!("scaling.revoke.{pages}.{what}"), Figure::new(value, unit).note(note));
        }
        rows.push([pages.to_string(), number(calls), number(insns), number(per_page), number(commands), number(syncs)]);
    }
    section(out, "Cost of a revocation by number of contiguous pages", markdown(&rows));
}

fn batches(checkout: &Checkout, images: &Images, report: &mut Report, out: &mut Vec<String>) -> Result<()> {
    let measured = step("Counting instructions of batches", || {
        payload::run(checkout, images, HypervisorKind::Portcullis, "bench_commands", "1G")
    })?;
    let mut rows = vec![["commands before the SYNC", "EL2 instructions", "per command"].map(str::to_owned)];
    for (length, insns) in points(&measured, "scaling.batch", ".insns") {
        let per_command = insns / super::traps::from_count(length + 1);
        let note = format!("{length} TLBI_NH_VA and one SYNC, one trap; {} per command", number(per_command));
        report.add(format!("scaling.batch.{length}.insns"), Figure::new(insns, "instructions").note(note));
        rows.push([length.to_string(), number(insns), number(per_command)]);
    }
    section(out, "Cost of a batch by its length", markdown(&rows));
    Ok(())
}

fn cfgi_all(checkout: &Checkout, images: &Images, report: &mut Report, out: &mut Vec<String>) -> Result<()> {
    let measured = step("Counting instructions of CFGI_ALL", || {
        payload::run(checkout, images, HypervisorKind::Portcullis, "bench_cfgi_all", "1G")
    })?;
    let mut rows = vec![["stream table entries", "EL2 instructions", "per entry"].map(str::to_owned)];
    for (entries, insns) in points(&measured, "scaling.cfgi_all", ".insns") {
        let per_entry = insns / super::traps::from_count(entries);
        let note = "CFGI_ALL and SYNC, linear table, every entry aborts; sum of all traps needed";
        report.add(format!("scaling.cfgi_all.{entries}.insns"), Figure::new(insns, "instructions").note(note));
        rows.push([entries.to_string(), number(insns), number(per_entry)]);
    }
    section(out, "Cost of CFGI_ALL by size of the host's stream table", markdown(&rows));
    Ok(())
}

fn hosts(checkout: &Checkout, images: &Images, report: &mut Report, out: &mut Vec<String>) -> Result<()> {
    let header = ["host memory", "boot, EL2 instructions", "donate 1 page", "donate 512 pages"];
    let mut rows = vec![header.map(str::to_owned)];
    for mem in HOSTS {
        let (boot, small) = step(&format!("Counting instructions with a host of {mem}"), || {
            let boot = payload::run(checkout, images, HypervisorKind::Portcullis, "bench_boot", mem)?;
            Ok((boot, payload::run(checkout, images, HypervisorKind::Portcullis, "bench_revoke_once", mem)?))
        })?;
        let values =
            [boot.value("reset_to_host")?, small.value("el2_insns.donate_1")?, small.value("el2_insns.donate_512")?];
        for (what, value) in ["boot", "donate_1", "donate_512"].into_iter().zip(values) {
            let name = format!("scaling.host_{}.{what}.insns", mem.to_lowercase());
            report.add(name, Figure::new(value, "instructions"));
        }
        let [boot, one, many] = values.map(number);
        rows.push([mem.to_owned(), boot, one, many]);
    }
    section(out, "Cost of boot and revocation by size of the host", markdown(&rows));
    Ok(())
}

/// A table with its title.
pub(crate) fn section(out: &mut Vec<String>, title: &str, table: Vec<String>) {
    out.push(format!("## {title}"));
    out.push(String::new());
    out.extend(table);
    out.push(String::new());
}
