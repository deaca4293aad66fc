//! `cargo xtask demo`: the same attacks on the same hypervisor, without and with DMA
//! isolation, in one table.

mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueHint;
use test_machines::firmware_attack::{self, ATTACKS, Files};
use test_machines::packages;
use test_machines::payload::{DEMO_ATTACKS, DEMO_GIC, HypervisorKind, Images, Report, Run};
use test_machines::progress::{say, step};
use test_machines::qemu::End;

use crate::checkout::Checkout;
use crate::demo::table::{Row, event, print_table};
use crate::images::{self, Isolation};

/// Show DMA attacks landing without isolation and blocked with it
///
/// Boots the hypervisor with a small attacking host, an SMMU, an NVMe and the `edu` DMA
/// device, once per attack and build. "Without isolation" is the same hypervisor in a
/// build in which the host uses the SMMU directly. Ends with status 0 only if every attack
/// lands without isolation and none lands with it.
///
/// With --uefi the attacker is UEFI firmware that starts EL2 and continues as the host.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// QEMU to use instead of the installed one; 11 selects the QEMU of Debian 13, which is fetched into target/
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    qemu: Option<PathBuf>,
    /// Attack from UEFI firmware that continues as a part of the host
    #[arg(long)]
    uefi: bool,
    /// Kill a machine that runs longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// Description of an attack of the payload.
fn words(attack: &str) -> &str {
    match attack {
        "el2_read" => "read EL2's memory",
        "el2_write" => "write EL2's memory",
        "stale_donated" => "access a donated page that the device has cached",
        "smmu_off" => "read EL2's memory, the host's SMMU switched off",
        "bypass_stream" => "read EL2's memory through a bypass stream",
        "firmware_in_flight" => "write EL2's memory, in flight while EL2 takes over",
        "firmware_dma" => "read EL2's memory from firmware",
        "firmware_dma_tables_changed" => "the same, the ACPI tables overwritten",
        DEMO_GIC => "write EL2's memory through the interrupt controller",
        other => other,
    }
}

/// Runs the command.
///
/// # Errors
/// When set-up fails or an attack has the wrong result.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    if args.uefi {
        return from_firmware(checkout, args);
    }
    let images = Images {
        qemu: packages::qemu::ensure(checkout.work(), args.qemu.as_deref())?,
        payload: images::payload(checkout)?,
        hyp: Some(images::hyp(checkout, Isolation::On)?),
        without_isolation: Some(images::hyp(checkout, Isolation::Off)?),
    };
    let demo = Demo { checkout, images, deadline: Duration::from_secs(args.timeout) };
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for name in DEMO_ATTACKS {
        let what = words(name);
        let (open, closed) = step(&format!("Attacking: {what}"), || {
            Ok((demo.attack(name, HypervisorKind::WithoutIsolation)?, demo.attack(name, HypervisorKind::Portcullis)?))
        })?;
        if notes.is_empty() {
            notes = boot_notes(&closed.outcome.el2_console);
        }
        let evidence = if name == DEMO_GIC { emulated(&closed.outcome.el2_console) } else { event(&closed.faults) };
        rows.push(Row::new(what, &result(&open), &result(&closed), evidence));
    }
    print_table(&rows);
    for note in notes {
        println!("{note}");
    }
    conclude(&rows)
}

/// The same with UEFI firmware as the attacker.
fn from_firmware(checkout: &Checkout, args: &Args) -> Result<()> {
    let qemu = packages::qemu::ensure(checkout.work(), args.qemu.as_deref())?;
    let firmware = packages::firmware::ensure(checkout.work())?;
    let attack = images::efi_attack(checkout)?;
    let run = |isolation, name: &str| {
        let loader = images::efi(checkout, isolation)?;
        let files = Files { qemu: qemu.clone(), firmware: firmware.clone(), attack: attack.clone(), loader };
        let dir = checkout.work_dir(&format!("runs/demo-uefi-{name}"))?;
        step(&format!("Attacking from UEFI firmware: {name}"), || firmware_attack::attack(&files, "max", &dir))
    };
    let open = run(Isolation::Off, "open")?;
    let closed = run(Isolation::On, "portcullis")?;
    let rows: Vec<_> = ATTACKS
        .iter()
        .map(|name| Row::new(words(name), &open.result(name), &closed.result(name), event(&closed.evidence(name))))
        .collect();
    print_table(&rows);
    conclude(&rows)
}

/// The number of accesses to the interrupt controller that EL2 emulated, from its last lines; `None` if there were
/// none.
fn emulated(el2_console: &str) -> Option<String> {
    let mut lines = el2_console.lines().filter_map(|line| line.trim().strip_prefix("portcullis: gic: "));
    let count = lines.find_map(|line| Some(line.split_once(" exits of the host")?.0))?;
    (count != "0").then(|| format!("none: EL2 emulated {count} accesses to the GIC"))
}

fn conclude(rows: &[Row<'_>]) -> Result<()> {
    let mut wrong = 0;
    for row in rows {
        if let Some(why) = &row.wrong {
            wrong += 1;
            say(&format!("{}: {why}", row.what));
        }
    }
    if wrong > 0 {
        bail!("{wrong} of {} attacks had the wrong result", rows.len());
    }
    println!("All {} attacks land without isolation and none lands with it.", rows.len());
    Ok(())
}

/// EL2's boot messages about unprotected masters and withheld nodes, with nodes of the same reason in one line.
fn boot_notes(el2_console: &str) -> Vec<String> {
    let lines = |kind: &'static str| {
        el2_console.lines().filter_map(move |line| line.trim().strip_prefix("portcullis: ")?.strip_prefix(kind))
    };
    let mut notes: Vec<String> = lines("not isolated: ").map(|part| format!("not isolated: {part}")).collect();
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for withheld in lines("withheld: ") {
        let (node, reason) = withheld.split_once(": ").unwrap_or((withheld, ""));
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, nodes)) => nodes.push(node),
            None => reasons.push((reason, vec![node])),
        }
    }
    for (reason, nodes) in reasons {
        notes.push(match nodes.as_slice() {
            [first, .., last] => format!("withheld: {first} to {last} ({}): {reason}", nodes.len()),
            _ => format!("withheld: {}: {reason}", nodes.concat()),
        });
    }
    notes
}

struct Demo<'a> {
    checkout: &'a Checkout,
    images: Images,
    deadline: Duration,
}

impl Demo<'_> {
    fn attack(&self, name: &str, hypervisor: HypervisorKind) -> Result<Report> {
        let dir = self.checkout.work_dir(&format!("runs/demo-{name}-{}", hypervisor.name()))?;
        let run = Run { deadline: self.deadline, ..Run::new(&self.images, hypervisor, name) };
        run.run(&dir)
    }
}

/// The attack's result, valid only if the payload's test passed and EL2 ended with `ok`.
fn result(report: &Report) -> Result<test_machines::console::AttackResult> {
    report.verdict().with_context(|| how(report.outcome.end))?;
    report.attack()
}

/// How a run without a result ended.
fn how(end: End) -> String {
    match end {
        End::Killed(deadline) => format!("killed after {} s; use a larger --timeout", deadline.as_secs()),
        End::Exited(_) => "the run failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_description() {
        for name in DEMO_ATTACKS.iter().chain(&ATTACKS).copied() {
            assert_ne!(words(name), name);
        }
    }

    #[test]
    fn accesses_to_the_gic_are_evidence_of_an_attack() {
        let console = |line: &str| format!("portcullis: gic: 1 ITS\nportcullis: gic: {line}\n");
        let lines = ["26 exits of the host, 20 at ITSs", "0 exits of the host, 0 at ITSs", ""];
        let found = lines.map(|line| emulated(&console(line)));
        assert_eq!(found, [Some("none: EL2 emulated 26 accesses to the GIC".to_owned()), None, None]);
    }

    #[test]
    fn a_timeout_names_the_option() {
        assert_eq!(how(End::Killed(Duration::from_secs(7))), "killed after 7 s; use a larger --timeout");
    }

    #[test]
    fn unprotected_masters_are_listed_before_withheld_nodes() {
        let console = "portcullis: withheld: /a: slot\nportcullis: not isolated: ITS\n\
            portcullis: withheld: /b: slot\nportcullis: withheld: /c: flash\n";
        assert_eq!(boot_notes(console), ["not isolated: ITS", "withheld: /a to /b (2): slot", "withheld: /c: flash"]);
    }
}
