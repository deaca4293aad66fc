//! One boot of Linux: the machine and the evaluation of the run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::board_policy;
use crate::console;
use crate::guest::disks;
use crate::linux::attack;
use crate::linux::devices;
use crate::linux::guest::{Guest, Script};
use crate::linux::guest_lines::GuestLines;
use crate::linux::hand_over;
use crate::linux::kexec;
use crate::linux::load;
use crate::linux::module;
use crate::linux::report::Report;
use crate::linux::uefi::Uefi;
use crate::linux::variant::{Devices, Hypervisor, Kind, Mode};
use crate::linux::verdict::{Expect, Finding, compare};
use crate::progress::step;
use crate::qemu::{HostModules, Machine, Outcome, Serials, fresh_token};
use crate::two_smmus::{self, Smmus};
use crate::work::WorkFolder;

/// One boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The program.
    pub qemu: PathBuf,
    /// The kernel and its ramdisk.
    pub guest: Guest,
    /// The hypervisor below it.
    pub hypervisor: Hypervisor,
    /// The firmware that starts both, or `None` for a boot with a device tree.
    pub uefi: Option<Uefi>,
    /// QEMU's `-cpu`.
    pub cpu: String,
    /// Number of CPUs.
    pub smp: u32,
    /// Memory, as QEMU writes it: `1G`.
    pub mem: String,
    /// Added to the kernel's command line.
    pub append: String,
    /// EL2's own command line.
    pub el2_append: String,
    /// The rules of the board's author.
    pub policy: Option<PathBuf>,
    /// Added to the kernel's command line for the guest's script.
    pub private_args: String,
    /// Added to QEMU's command line.
    pub qemu_args: Vec<String>,
    /// The devices of the machine.
    pub devices: Devices,
    /// The SMMUs of the machine. With two, the NVMe is behind the first and the virtio disk behind the second.
    pub smmus: Smmus,
    /// The guest's mode.
    pub mode: Mode,
    /// Time after which the machine is killed.
    pub timeout: Duration,
}

/// The disks and the file for the network, with their digests.
struct Data {
    nvme: disks::Disk,
    virtio_blk: disks::Disk,
    packets: disks::Disk,
}

impl Data {
    fn ensure(work: &WorkFolder) -> Result<Self> {
        let dir = work.dir("disks")?;
        let tftp = work.dir("tftp")?;
        Ok(Self {
            nvme: disks::ensure(&dir, "nvme.img", 64, 1)?,
            virtio_blk: disks::ensure(&dir, "virtio-blk.img", 32, 2)?,
            packets: disks::ensure(&tftp, "packets.bin", 1, 3)?,
        })
    }

    /// Adds the expected disk digests.
    fn digests_of(&self, mut expect: Expect) -> Expect {
        let digests = [("nvme_md5", &self.nvme.md5), ("virtio_blk_md5", &self.virtio_blk.md5)];
        expect.values.extend(digests.map(|(name, md5)| (name, md5.clone())));
        expect
    }
}

impl Boot {
    /// Title of the boot.
    pub fn title(&self) -> String {
        let mut title = format!(
            "{} {}, -cpu {}, {} CPU(s), {}",
            self.guest.name,
            self.hypervisor.phrase(),
            self.cpu,
            self.smp,
            self.mem
        );
        if self.uefi.is_some() {
            title.push_str(", UEFI and ACPI");
        }
        if self.smmus == Smmus::Two {
            title.push_str(", two SMMUs");
        }
        if self.mode != Mode::Check {
            title.push_str(&format!(", {}", self.mode.name()));
        }
        for words in [&self.append, &self.el2_append].into_iter().filter(|words| !words.is_empty()) {
            title.push_str(&format!(", {words}"));
        }
        title
    }

    /// Boots, waits for the end and evaluates the run, with progress messages.
    ///
    /// # Errors
    /// When the machine cannot be started; a failed run is a [`Report`].
    pub fn run(&self, work: &WorkFolder) -> Result<Report> {
        match self.mode {
            Mode::Shell => self.run_silently(work),
            _ => step(&format!("Booting {}", self.title()), || self.run_silently(work)),
        }
    }

    /// As [`Boot::run`] without progress messages, for parallel boots.
    ///
    /// # Errors
    /// As [`Boot::run`].
    pub fn run_silently(&self, work: &WorkFolder) -> Result<Report> {
        let data = Data::ensure(work)?;
        let token = fresh_token()?;
        let dir = work.dir(&format!("runs/{}", self.run_name()))?;
        let mut machine = self.machine(&data, &token, &dir)?;
        // ACPI describes both.
        if self.smmus == Smmus::Two && self.uefi.is_none() {
            two_smmus::describe(&mut machine, &dir)?;
        }
        if let Some(policy) = &self.policy {
            board_policy::add(&mut machine, policy, &dir)?;
        }
        let outcome = machine.run(&dir, self.timeout)?;
        Ok(self.evaluate(outcome, &token, &self.expect(&data)))
    }

    /// A folder name for the run's consoles: a later run of the same kind replaces it.
    fn run_name(&self) -> String {
        let kind = match self.hypervisor {
            Hypervisor::None => "native",
            Hypervisor::Portcullis(_) => "el2",
            Hypervisor::WithoutIsolation(_) => "open",
        };
        let by = if self.uefi.is_some() { "uefi-" } else { "" };
        // A QEMU that is not the installed one is identified by its folder.
        let qemu = self.qemu.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let text = format!(
            "linux-{}-{by}{kind}-{}-{}-{}-{:?}-{qemu}-{}{}",
            self.guest.name,
            self.mode.name(),
            self.cpu,
            self.smp,
            self.smmus,
            self.append,
            self.el2_append
        );
        let word = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }
        };
        text.chars().map(word).take(100).collect()
    }

    fn machine(&self, data: &Data, token: &str, dir: &Path) -> Result<Machine> {
        let mut machine = Machine::new(&self.qemu);
        machine.cpu.clone_from(&self.cpu);
        machine.smp = self.smp;
        machine.mem.clone_from(&self.mem);
        let bootargs = self.bootargs();
        match &self.hypervisor {
            Hypervisor::None => {
                machine.machine = "virt,gic-version=3,iommu=smmuv3".to_owned();
                machine.serials = Serials::Host;
                machine.kernel = Some(self.guest.kernel.clone());
                machine.initrd.clone_from(&self.guest.initrd);
                machine.append = bootargs;
            }
            Hypervisor::Portcullis(image) | Hypervisor::WithoutIsolation(image) => {
                if self.uefi.is_none() {
                    let (kernel, initrd) = (self.guest.kernel.clone(), self.guest.initrd.clone());
                    let host = HostModules { kernel, initrd, bootargs };
                    machine.boot_el2(image, token, Some(&host))?;
                    machine.append = format!("{} {}", machine.append, self.el2_append).trim().to_owned();
                }
            }
        }
        if self.mode == Mode::Shell {
            machine.serials = match machine.serials {
                Serials::Host | Serials::Shared | Serials::InteractiveHost => Serials::InteractiveHost,
                Serials::HostAndEl2 | Serials::InteractiveHostAndEl2 => Serials::InteractiveHostAndEl2,
            };
        }
        if let Some(uefi) = &self.uefi {
            let el2 = format!("token={token} {}", self.el2_append);
            uefi.prepare(&mut machine, dir, &self.guest, &self.bootargs(), &el2)?;
        }
        if self.mode == Mode::Load {
            load::by_instructions(&mut machine);
        }
        if self.devices == Devices::Default {
            add_devices(&mut machine, data, self.smmus)?;
        }
        for arg in &self.qemu_args {
            machine.arg(arg);
        }
        Ok(machine)
    }

    fn bootargs(&self) -> String {
        // panic=-1: a panic resets immediately, and -no-reboot then ends the run.
        let mut args = format!("console=ttyAMA0 panic=-1 portcullis.mode={}", self.mode.name());
        if self.devices == Devices::None {
            args.push_str(" portcullis.devices=none");
        }
        for more in [&self.private_args, &self.append] {
            if !more.is_empty() {
                args.push(' ');
                args.push_str(more);
            }
        }
        args
    }

    fn expect(&self, data: &Data) -> Expect {
        let mut expect = Expect::default();
        match (self.guest.script, self.mode) {
            (Script::Unknown, _) | (_, Mode::Shell) => return expect,
            (_, mode) if mode.is_attack() => return attack::expect(mode, &self.hypervisor),
            (_, Mode::Module) => return data.digests_of(module::expect(&self.hypervisor)),
            (_, Mode::Load) => {
                let mut expect = load::expect(&self.el2_append);
                expect.values.push(("cpus", self.smp.to_string()));
                expect.values.push(("nvme_domain", self.domain().to_owned()));
                return data.digests_of(expect);
            }
            (_, Mode::Kexec(Kind::Devices)) => devices::both(&mut expect),
            (_, Mode::HandOver) => hand_over::add(&mut expect),
            (_, Mode::Devices) => devices::first(&mut expect),
            (_, Mode::Kexec(kind)) => {
                let mut expect = kexec::expect(kind, &self.hypervisor);
                if kind != Kind::Adopt {
                    expect.values.push(("cpus", self.smp.to_string()));
                }
                return data.digests_of(expect);
            }
            _ => {}
        }
        expect.checks.extend(["el1", "smmu"]);
        expect.values.push(("cpus", self.smp.to_string()));
        if self.uefi.is_some() {
            Uefi::expect(&mut expect);
        }
        if self.devices == Devices::None {
            return expect;
        }
        if self.smmus == Smmus::Two {
            expect.values.extend([
                ("smmus", "2".to_owned()),
                ("nvme_smmu", two_smmus::LINUX_NAMES[0].to_owned()),
                ("virtio_blk_smmu", two_smmus::LINUX_NAMES[1].to_owned()),
                ("virtio_blk_domain", self.domain().to_owned()),
            ]);
        }
        expect.checks.extend(["nvme_write", "ping"]);
        if self.smp > 1 {
            expect.checks.extend(["hotplug_off", "hotplug_on", "hotplug_io"]);
        }
        expect.values.extend([
            ("nvme_domain", self.domain().to_owned()),
            ("nvme_md5", data.nvme.md5.clone()),
            ("virtio_blk_md5", data.virtio_blk.md5.clone()),
            ("net_md5", data.packets.md5.clone()),
        ]);
        expect.counts.extend(["net_rx_packets", "net_tx_packets"]);
        expect
    }

    /// The IOMMU domain type for the kernel's command line.
    fn domain(&self) -> &'static str {
        let has = |option: &str| self.append.split_whitespace().any(|word| word == option);
        if has("iommu.passthrough=1") {
            "identity"
        } else if has("iommu.strict=0") {
            "DMA-FQ"
        } else {
            "DMA"
        }
    }

    /// Turns a finished machine into a report.
    fn evaluate(&self, outcome: Outcome, token: &str, expect: &Expect) -> Report {
        let lines = GuestLines::parse(&outcome.host_console);
        let scripted = self.guest.script == Script::OfTheTests && self.mode != Mode::Shell;
        let mut findings = if scripted { compare(&lines, expect) } else { Vec::new() };
        if !matches!(self.hypervisor, Hypervisor::None) {
            findings.push(match console::verdict(&outcome.el2_console, token) {
                Ok(exit) if matches!(self.hypervisor, Hypervisor::Portcullis(_)) && !exit.audit_is_clean() => {
                    Finding::bad("EL2 did not report a clean audit at its end")
                }
                Ok(exit) => Finding::good(format!(
                    "EL2: {} after {} SMMU exits and {} DMA faults",
                    exit.reason, exit.smmu_exits, exit.dma_faults
                )),
                Err(error) => Finding::bad(format!("EL2: {error:#}")),
            });
        }
        if self.mode.is_attack() && matches!(self.hypervisor, Hypervisor::Portcullis(_)) {
            findings.extend(attack::check_faults(&outcome.el2_console));
        }
        if self.mode == Mode::Module && matches!(self.hypervisor, Hypervisor::Portcullis(_)) {
            findings.extend(module::check_faults(&lines, &outcome.el2_console));
        }
        if let (Mode::Kexec(kind), Hypervisor::Portcullis(_)) = (self.mode, &self.hypervisor) {
            findings.extend(kexec::check_faults(kind, &lines, &outcome.el2_console));
        }
        if let Err(error) = outcome.require_clean_exit() {
            findings.push(Finding::bad(format!("{error:#}")));
        }
        Report { title: self.title(), findings, outcome }
    }
}

const VIRTIO_BLK: &str = "virtio-blk-pci,drive=d1,iommu_platform=on,disable-legacy=on";

fn add_devices(machine: &mut Machine, data: &Data, smmus: Smmus) -> Result<()> {
    let text = |path: &Path| -> Result<String> {
        let text = path.to_str().context("the path of the work folder is not UTF-8")?;
        Ok(text.replace(',', ",,"))
    };
    let drive = |path: &Path, id: &str| -> Result<String> {
        Ok(format!("file={},if=none,format=raw,snapshot=on,id={id}", text(path)?))
    };
    machine.arg("-drive").arg(drive(&data.nvme.path, "d0")?);
    machine.device("nvme,serial=portcullis,drive=d0");
    machine.arg("-drive").arg(drive(&data.virtio_blk.path, "d1")?);
    if smmus == Smmus::One {
        machine.device(VIRTIO_BLK);
    }
    // restrict=on: the guest can only reach QEMU's own ping and TFTP server.
    let folder = data.packets.path.parent().context("a file without a folder")?;
    let net = format!("user,id=n0,restrict=on,tftp={}", text(folder)?);
    machine.arg("-netdev").arg(net);
    machine.device("e1000e,netdev=n0,romfile=");
    machine.device("edu,dma_mask=0xffffffffff");
    if smmus == Smmus::Two {
        two_smmus::add(machine);
        machine.device(&format!("{VIRTIO_BLK},bus={}", two_smmus::SECOND_BUS));
    }
    Ok(())
}
