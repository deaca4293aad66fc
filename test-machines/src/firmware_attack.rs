//! Attacks of UEFI firmware that continues as a part of the host (row T70): an application that starts
//! `portcullis.efi`, with a transfer of the `edu` device in flight.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::console::{self, AttackResult, DmaFault, TestResult};
use crate::qemu::{Machine, Outcome, Serials, fresh_token};

const DEADLINE: Duration = Duration::from_secs(120);

/// The files of a run.
#[derive(Clone, Debug)]
pub struct Files {
    /// QEMU.
    pub qemu: PathBuf,
    /// The firmware, for `-bios`.
    pub firmware: PathBuf,
    /// `portcullis.efi`.
    pub loader: PathBuf,
    /// The application that attacks.
    pub attack: PathBuf,
}

/// The attacks, in the application's order.
pub const ATTACKS: [&str; 3] = ["firmware_in_flight", "firmware_dma", "firmware_dma_tables_changed"];

/// Results of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each attack with its result.
    pub attacks: Vec<(String, AttackResult)>,
    /// The faults that EL2 reported.
    pub faults: Vec<DmaFault>,
    /// Whether EL2's audit at the end found nothing.
    pub audit_is_clean: bool,
    /// Words of the fault that the transfer in flight must have caused if it was blocked.
    in_flight: String,
}

impl Report {
    /// The result of `attack`.
    ///
    /// # Errors
    /// When there is none.
    pub fn result(&self, attack: &str) -> Result<AttackResult> {
        let found = self.attacks.iter().find(|(name, _)| name == attack).map(|(_, result)| *result);
        found.with_context(|| format!("no result of {attack}"))
    }

    /// Number of faults that `attack` caused.
    #[must_use]
    pub fn evidence(&self, attack: &str) -> Vec<DmaFault> {
        let words = if attack == ATTACKS[0] { self.in_flight.as_str() } else { "read" };
        self.faults.iter().filter(|fault| fault.text.contains(words)).cloned().collect()
    }
}

/// Runs the attacks on a machine with a CPU of type `cpu`; consoles are in `dir`.
///
/// # Errors
/// When a control fails, or EL2's last line is not the result of the run.
pub fn attack(files: &Files, cpu: &str, dir: &Path) -> Result<Report> {
    let token = fresh_token()?;
    let outcome = machine(files, cpu, &token, dir)?.run(dir, DEADLINE)?;
    evaluate(&outcome, &token).with_context(|| format!("consoles in {}", dir.display()))
}

/// As [`attack`]. All attacks must have the result `wanted`: they land in the build in which the host uses the SMMU
/// directly.
///
/// # Errors
/// As [`attack`], and when an attack has another result, or EL2's log has no fault of a blocked attack.
pub fn run(files: &Files, cpu: &str, wanted: AttackResult, dir: &Path) -> Result<()> {
    let report = attack(files, cpu, dir)?;
    let audited = wanted == AttackResult::Landed || report.audit_is_clean;
    ensure!(audited, "EL2 did not report a clean audit at its end (consoles in {})", dir.display());
    for name in ATTACKS {
        let result = report.result(name)?;
        ensure!(result == wanted, "{name}: {result:?}, should be {wanted:?} (consoles in {})", dir.display());
        let seen = wanted == AttackResult::Landed || !report.evidence(name).is_empty();
        ensure!(seen, "{name}: EL2 reported no fault of the blocked attack (consoles in {})", dir.display());
    }
    Ok(())
}

fn machine(files: &Files, cpu: &str, token: &str, dir: &Path) -> Result<Machine> {
    let disk = dir.join("esp");
    if disk.exists() {
        fs::remove_dir_all(&disk).with_context(|| format!("cannot remove {}", disk.display()))?;
    }
    for folder in ["EFI/BOOT", "EFI/portcullis"] {
        fs::create_dir_all(disk.join(folder)).with_context(|| format!("cannot create {folder}"))?;
    }
    let copy = |from: &Path, to: &str| {
        fs::copy(from, disk.join(to)).map(|_| ()).with_context(|| format!("cannot copy {}", from.display()))
    };
    copy(&files.attack, "EFI/BOOT/BOOTAA64.EFI")?;
    copy(&files.loader, "portcullis.efi")?;
    let options = disk.join("EFI/portcullis/options.txt");
    fs::write(&options, format!("token={token}")).with_context(|| format!("cannot write {}", options.display()))?;
    let mut machine = Machine::new(&files.qemu);
    cpu.clone_into(&mut machine.cpu);
    machine.serials = Serials::Shared;
    let path = disk.to_str().context("the path of the work folder is not UTF-8")?.replace(',', ",,");
    machine.arg("-bios").arg(&files.firmware);
    machine.arg("-drive").arg(format!("file=fat:{path},readonly=on,format=raw,if=none,id=esp"));
    machine.device("virtio-blk-pci,drive=esp,iommu_platform=on,disable-legacy=on,romfile=");
    machine.device("edu,dma_mask=0xffffffffff");
    // Time advances by instructions, so that at any load of the build machine the transfer ends 0.1 s after its start,
    // when EL2 has taken over.
    machine.arg("-icount").arg("shift=0,sleep=off");
    Ok(machine)
}

fn evaluate(outcome: &Outcome, token: &str) -> Result<Report> {
    let console = &outcome.host_console;
    let tests = console::test_lines(console);
    let test = tests.first().with_context(|| format!("no result of the application: {console}"))?;
    ensure!(test.result == TestResult::Pass, "{}: {:?}", test.name, test.result);
    let controls = console::control_lines(console);
    let ours = ["refused_untouched", "memory_by_address", "tables_changed"];
    for control in ours.into_iter().chain(ATTACKS.into_iter().skip(1)) {
        ensure!(controls.iter().any(|name| name == control), "control {control} is missing: {controls:?}");
    }
    let announced = console::announced_lines(console);
    let in_flight = announced.first().context("the application did not print the target of the transfer in flight")?;
    let exit = console::verdict(console, token)?;
    Ok(Report {
        audit_is_clean: exit.audit_is_clean(),
        attacks: console::attack_lines(console),
        faults: console::dma_faults(console),
        in_flight: (*in_flight).to_owned(),
    })
}
