//! Exits per direct read under Debian Linux.
//!
//! The cost of reads is the difference between EL2's totals of two boots that differ only in their reads. The totals
//! are read from EL2's own console.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use test_machines::guest::initramfs;
use test_machines::linux::boot::Boot;
use test_machines::linux::guest::Guest;
use test_machines::linux::guest_lines::GuestLines;
use test_machines::linux::variant::{Devices, Hypervisor, Mode};
use test_machines::packages::apt;
use test_machines::two_smmus::Smmus;

use crate::bench::figure::{Figure, Report};
use crate::bench::traps::from_count;
use crate::checkout::Checkout;

/// The kernel series whose driver is measured.
const SERIES: &str = "6.12";
/// Drivers of the disks.
const MODULES: [&str; 3] = ["nvme", "virtio_pci", "virtio_blk"];
/// Command of the guest's init.
const INIT: &str = include_str!("guest.sh");
/// Ten times the duration of a boot on two busy cores.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Reads of the guest.
#[derive(Clone, Copy, Debug)]
struct Job {
    name: &'static str,
    device: &'static str,
    block: &'static str,
    /// Reads of one reader in one pass; limited by the disk size.
    count: u32,
    readers: u32,
    passes: u32,
}

impl Job {
    fn option(&self) -> String {
        format!("portcullis.job={},{},{},{},{}", self.device, self.block, self.count, self.readers, self.passes)
    }

    fn reads(&self) -> u32 {
        self.count * self.readers * self.passes
    }
}

const fn single(name: &'static str, device: &'static str, block: &'static str, count: u32, passes: u32) -> Job {
    Job { name, device, block, count, readers: 1, passes }
}

/// The jobs with queue depth 1, their targets, and the values of plain trap-and-emulate, with strict invalidation.
const JOBS: [(Job, f64, f64); 4] = [
    (single("nvme_4k", "nvme0n1", "4k", 256, 1), 1.0, 2.0),
    (single("nvme_128k", "nvme0n1", "128k", 256, 1), 1.0, 2.0),
    (single("virtio_blk_4k", "vda", "4k", 256, 1), 4.0, 8.0),
    (single("virtio_blk_128k", "vda", "128k", 128, 2), 35.0, 70.0),
];
/// Four readers on four CPUs, 1,024 reads.
const SMP4: Job = Job { name: "nvme_4k", device: "nvme0n1", block: "4k", count: 256, readers: 4, passes: 1 };
/// Numbers of readers in the table of queue depths, on one CPU.
const DEPTHS: [u32; 3] = [2, 4, 8];

/// EL2's totals at the end of a boot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Totals {
    exits: f64,
    cons_reads: Option<f64>,
    gic: GicExits,
}

/// The host's accesses to registers of the GIC that EL2 emulates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct GicExits {
    its: f64,
    rd: f64,
}

impl GicExits {
    /// EL2's line about its GIC: `gic: 31 exits of the host, 20 at ITSs, 11 at redistributors, 0 denied; ...`.
    fn parse(line: &str) -> Option<Self> {
        let counts = line.split_once("portcullis: gic: ")?.1.split_once(';')?.0;
        let count = |what: &str| counts.split(", ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
        Some(Self { its: count("at ITSs")?, rd: count("at redistributors")? })
    }

    fn sum(self) -> f64 {
        self.its + self.rd
    }
}

/// The systems that boot.
#[derive(Clone, Debug)]
pub(crate) struct BenchGuest<'a> {
    checkout: &'a Checkout,
    qemu: PathBuf,
    guest: Guest,
    hypervisor: Hypervisor,
}

impl<'a> BenchGuest<'a> {
    /// Fetches the kernel and creates the guest.
    ///
    /// # Errors
    /// When something cannot be fetched or written.
    pub(crate) fn new(checkout: &'a Checkout, qemu: &Path, hyp: &Path) -> Result<Self> {
        let kernel = apt::ensure_kernel(checkout.work(), SERIES)?;
        let busybox = apt::ensure_busybox(checkout.work())?;
        let initrd = checkout.work_dir("bench")?.join("guest.cpio");
        std::fs::write(&initrd, guest_root(&busybox, &kernel.modules)?)
            .with_context(|| format!("cannot write {}", initrd.display()))?;
        let mut guest = Guest::own(&kernel.image, Some(&initrd))?;
        guest.name = format!("Linux {SERIES}");
        Ok(Self { checkout, qemu: qemu.to_owned(), guest, hypervisor: Hypervisor::Portcullis(hyp.to_owned()) })
    }

    /// Boots with these words on the kernel's command line; returns the guest's output and EL2's console.
    ///
    /// # Errors
    /// When the run or a check in the guest fails.
    pub(crate) fn boot(
        &self,
        hypervisor: HypervisorKind,
        smp: u32,
        append: &str,
        private: &str,
    ) -> Result<(GuestLines, String)> {
        let boot = Boot {
            uefi: None,
            qemu: self.qemu.clone(),
            guest: self.guest.clone(),
            hypervisor: match hypervisor {
                HypervisorKind::El2 => self.hypervisor.clone(),
                HypervisorKind::Native => Hypervisor::None,
            },
            cpu: "max".to_owned(),
            smp,
            mem: "1G".to_owned(),
            append: append.to_owned(),
            el2_append: String::new(),
            policy: None,
            private_args: private.to_owned(),
            qemu_args: Vec::new(),
            devices: Devices::Default,
            smmus: Smmus::One,
            mode: Mode::Check,
            timeout: TIMEOUT,
        };
        let report = boot.run(self.checkout.work())?;
        let lines = GuestLines::parse(&report.outcome.host_console);
        if !report.passed() || !lines.done {
            report.print();
            bail!("{} did not end normally", boot.title());
        }
        for check in &lines.checks {
            if let Err(why) = &check.result {
                bail!("{}: {why}", check.name);
            }
        }
        Ok((lines, report.outcome.el2_console))
    }

    fn totals(&self, smp: u32, append: &str, job: Option<&Job>) -> Result<Totals> {
        let option = job.map(Job::option).unwrap_or_default();
        let (lines, console) = self.boot(HypervisorKind::El2, smp, append, &option)?;
        if let Some(job) = job {
            let wanted = format!("{} {}+0 records in", job.readers, job.count);
            let seen = lines.value("records").unwrap_or("none");
            ensure!(seen == wanted, "{}: the guest read {seen} instead of {wanted}", job.name);
        }
        totals(&console)
    }
}

/// The hypervisor below Linux.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HypervisorKind {
    /// Portcullis.
    El2,
    /// No hypervisor.
    Native,
}

/// Measures exits per read.
///
/// # Errors
/// When a boot fails.
pub(crate) fn measure(guest: &BenchGuest<'_>, report: &mut Report) -> Result<()> {
    for (word, append) in [("strict", "iommu.strict=1"), ("lazy", "iommu.strict=0")] {
        let nothing = guest.totals(1, append, None)?;
        for (job, target, peer) in JOBS {
            let total = guest.totals(1, append, Some(&job))?;
            let value = per_read(total.exits, nothing.exits, f64::from(job.reads()));
            let note = format!(
                "{} direct reads, depth 1: {} exits in a boot with the reads, {} in a boot without; peer: plain trap-and-emulate",
                job.reads(),
                total.exits,
                nothing.exits
            );
            let figure = Figure::new(value, "exits per read").note(note);
            let figure = if word == "strict" { figure.target(target).peer(peer) } else { figure };
            report.add(format!("exits.{}.{word}.qd1", job.name), figure);
            gic_per_read(&format!("{}.{word}.qd1", job.name), &job, total, nothing, report);
        }
        if word == "strict" {
            gic_at_boot(1, nothing.gic, report);
            depths(guest, append, nothing, report)?;
        }
    }
    smp4(guest, report)
}

/// Interrupts are delivered without an exit, so reads must cause no exits at the GIC.
fn gic_per_read(name: &str, job: &Job, with: Totals, without: Totals, report: &mut Report) {
    let (with, without) = (with.gic.sum(), without.gic.sum());
    let value = per_read(with, without, f64::from(job.reads()));
    let note = format!("{with} exits at the GIC of a boot with {} reads, {without} of one without", job.reads());
    report.add(format!("gic_exits.{name}"), Figure::new(value, "exits per read").target(0.0).note(note));
}

fn gic_at_boot(smp: u32, gic: GicExits, report: &mut Report) {
    let frames = [("its", gic.its, "ITS"), ("rd", gic.rd, "redistributors")];
    for (name, exits, frame) in frames {
        let note = format!("{smp} CPU(s), NVMe and virtio-blk: accesses to the {frame} in a boot and a power-off");
        report.add(format!("gic_exits.boot.{name}.smp{smp}"), Figure::new(exits, "exits").note(note));
    }
}

/// Exits per read, rounded to a hundredth, since identical boots differ by a few exits.
fn per_read(with: f64, without: f64, reads: f64) -> f64 {
    ((with - without) / reads * 100.0).round() / 100.0
}

fn depths(guest: &BenchGuest<'_>, append: &str, nothing: Totals, report: &mut Report) -> Result<()> {
    for readers in DEPTHS {
        let job = Job { readers, count: 512 / readers, ..SMP4 };
        let total = guest.totals(1, append, Some(&job))?;
        let value = per_read(total.exits, nothing.exits, f64::from(job.reads()));
        let note = format!("{readers} processes read at once, one CPU, {} reads", job.reads());
        report.add(format!("exits.nvme_4k.strict.qd{readers}"), Figure::new(value, "exits per read").note(note));
    }
    Ok(())
}

fn smp4(guest: &BenchGuest<'_>, report: &mut Report) -> Result<()> {
    let append = "iommu.strict=1";
    let nothing = guest.totals(4, append, None)?;
    let total = guest.totals(4, append, Some(&SMP4))?;
    let (reads, exits) = (f64::from(SMP4.reads()), total.exits - nothing.exits);
    let note = format!("4 CPUs, 4 readers: {exits} exits for {reads} reads; peer: plain trap-and-emulate");
    report.add(
        "exits.nvme_4k.strict.smp4",
        Figure::new(per_read(total.exits, nothing.exits, reads), "exits per read").peer(7.4).note(note),
    );
    gic_at_boot(4, nothing.gic, report);
    gic_per_read("nvme_4k.strict.smp4", &SMP4, total, nothing, report);
    let polls = total.cons_reads.zip(nothing.cons_reads).map(|(with, without)| with - without);
    let polls = polls.context("EL2's console does not count reads of CMDQ_CONS")?;
    let note =
        format!("CMDQ_CONS reads for {reads} reads, minus those of a boot without reads; peer: plain trap-and-emulate");
    report.add("cons_polls.nvme_4k.strict.smp4", Figure::new(polls, "reads").target(0.0).peer(5_700.0).note(note));
    Ok(())
}

/// EL2's totals, from its last lines.
fn totals(console: &str) -> Result<Totals> {
    let exit = console.lines().rev().find_map(test_machines::console::ExitLine::parse);
    let exits = exit.map(|exit| from_count(exit.smmu_exits)).context("EL2's console has no exit line")?;
    let count = |line: &str| line.split_once(" CMDQ_CONS reads")?.0.rsplit(' ').next()?.parse::<f64>().ok();
    let reads: Vec<f64> = console.lines().filter_map(count).collect();
    let cons_reads = (!reads.is_empty()).then(|| reads.iter().sum());
    let gic = console.lines().rev().find_map(GicExits::parse).context("EL2's console has no line about the GIC")?;
    Ok(Totals { exits, cons_reads, gic })
}

/// The guest's root file system: busybox, the disks' drivers, the script.
fn guest_root(busybox: &Path, modules_dir: &Path) -> Result<Vec<u8>> {
    let mut archive = initramfs::base(busybox, modules_dir, &MODULES)?;
    archive.program("init", INIT.as_bytes());
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_come_from_el2s_last_lines() {
        let console = "portcullis: smmu0: 1200 exits of the host, 300 CMDQ_PROD writes, 7 CMDQ_CONS reads; 2 commands, \
            1 SYNCs to hardware\nportcullis: gic: 31 exits of the host, 20 at ITSs, 11 at redistributors, 0 denied; \
            9 commands of the host, 0 ignored, 0 beyond a limit; 12 to hardware\nportcullis: exit token=aa status=ok reason=system_off audit=clean smmu_exits=1200 dma_faults=0\n";
        let expected = Totals { exits: 1200.0, cons_reads: Some(7.0), gic: GicExits { its: 20.0, rd: 11.0 } };
        assert_eq!(totals(console).ok(), Some(expected));
        assert!(totals(&console.replace("at ITSs", "at other frames")).is_err());
        assert!(totals("portcullis: nothing\n").is_err());
    }

    #[test]
    fn every_job_fits_its_disk() {
        let disks = [("nvme0n1", 64_u32 << 10), ("vda", 16 << 10)];
        for job in JOBS.iter().map(|(job, ..)| job).chain([&SMP4]) {
            let kib: u32 = job.block.trim_end_matches('k').parse().unwrap_or(u32::MAX);
            let size = disks.iter().find(|(name, _)| *name == job.device).map_or(0, |(_, size)| *size);
            assert!(job.readers * job.count * kib <= size, "{}", job.name);
        }
    }
}
