//! One test of the EL1 payload in one machine: without a hypervisor, under Portcullis, or under the `no-isolation`
//! build.
//!
//! The payload's own line is only evidence: a run under EL2 passes only if EL2's exit line also has that result.

mod list;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use list::{Listed, list};

use crate::console::{self, AttackResult, DmaFault, ExitLine, TestResult};
use crate::qemu::{self, HostModules, Machine, Outcome, Serials, fresh_token};
use crate::two_smmus::{self, Smmus};

/// Bytes of the NVMe disk.
const DISK_SIZE: u64 = 16 << 20;
const DISK: &str = "nvme.img";
/// Timeout of a test.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The test for a machine with one UART.
pub const SHARED_CONSOLE: &str = "t57_shared_console";
/// Another test for a machine with one UART, which the host disables.
pub const CONSOLE_OFF: &str = "t57_console_off";
/// The test with a CPU model that EL2 refuses.
pub const REFUSED_CORE: &str = "t62_refused_core_stays_off";
/// The test with a CPU model on which EL2 must repeat TLBI and DSB.
const TLBI_IS_REPEATED: &str = "t62_tlbi_is_repeated";
/// The attack of the demonstration that needs no device: the interrupt controller is the DMA master.
pub const DEMO_GIC: &str = "t45a_its_device_table";
/// The attacks of the demonstration, in the order it shows them.
pub const DEMO_ATTACKS: [&str; 6] = ["el2_read", "el2_write", "stale_donated", "smmu_off", "bypass_stream", DEMO_GIC];

/// The hypervisor below the payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum HypervisorKind {
    /// No hypervisor.
    Native,
    /// Portcullis.
    Portcullis,
    /// Portcullis built without isolation.
    WithoutIsolation,
}

impl HypervisorKind {
    /// The name in test names and in the payload's list.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Portcullis => "hyp",
            Self::WithoutIsolation => "open",
        }
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    /// Instruction count: waiting takes no real time, and CPUs run in turn.
    Counted,
    /// Real time: CPUs run in parallel.
    Real,
}

/// The images and programs of a run.
#[derive(Clone, Debug)]
pub struct Images {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// The payload, an arm64 Image.
    pub payload: PathBuf,
    /// The hypervisor, an arm64 Image.
    pub hyp: Option<PathBuf>,
    /// The hypervisor without isolation, an arm64 Image.
    pub without_isolation: Option<PathBuf>,
}

impl Images {
    /// Reads the environment variables `PORTCULLIS_PAYLOAD`, `PORTCULLIS_HYP`, `PORTCULLIS_HYP_NO_ISOLATION`, and
    /// `PORTCULLIS_QEMU` (default `qemu-system-aarch64`). `None` without a payload.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Some(Self {
            qemu: path("PORTCULLIS_QEMU").unwrap_or_else(|| PathBuf::from("qemu-system-aarch64")),
            payload: path("PORTCULLIS_PAYLOAD")?,
            hyp: path("PORTCULLIS_HYP"),
            without_isolation: path("PORTCULLIS_HYP_NO_ISOLATION"),
        })
    }

    /// Whether the image of `hypervisor` is available.
    #[must_use]
    pub fn has(&self, hypervisor: HypervisorKind) -> bool {
        match hypervisor {
            HypervisorKind::Native => true,
            HypervisorKind::Portcullis => self.hyp.is_some(),
            HypervisorKind::WithoutIsolation => self.without_isolation.is_some(),
        }
    }
}

/// One boot of the payload.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The programs.
    pub images: &'a Images,
    /// The hypervisor below the payload.
    pub hypervisor: HypervisorKind,
    /// The test's name.
    pub test: &'a str,
    /// More options for the payload, for example `seed=7`.
    pub bootargs: &'a str,
    /// More options for EL2, for example `pool=16M`.
    pub el2_options: &'a str,
    /// QEMU's `-cpu`.
    pub cpu: &'a str,
    /// Number of CPUs.
    pub smp: u32,
    /// QEMU's `-m`.
    pub mem: &'a str,
    /// The clock.
    pub clock: Clock,
    /// The machine's UARTs, under a hypervisor.
    pub serials: Serials,
    /// More arguments for QEMU.
    pub qemu_args: &'a [&'a str],
    /// The machine's SMMUs, under a hypervisor.
    pub smmus: Smmus,
    /// Timeout.
    pub deadline: Duration,
}

impl<'a> Run<'a> {
    /// `test` on one CPU of type `max` with 1 GiB, or on the machine that the test needs: a CPU model on which EL2
    /// repeats TLBI and DSB, or one UART.
    #[must_use]
    pub fn new(images: &'a Images, hypervisor: HypervisorKind, test: &'a str) -> Self {
        let cpu = match test {
            TLBI_IS_REPEATED => "cortex-a76",
            // By MIDR_EL1 the CPUs are ThunderX2; by MPIDR_EL1.Aff0 every CPU except the first is a later thread of
            // the first core.
            REFUSED_CORE => "max,midr=0x430f0af1",
            _ => "max",
        };
        let serials = if [SHARED_CONSOLE, CONSOLE_OFF].contains(&test) { Serials::Shared } else { Serials::HostAndEl2 };
        Self {
            images,
            hypervisor,
            test,
            bootargs: "",
            el2_options: "",
            cpu,
            smp: 1,
            mem: "1G",
            clock: Clock::Counted,
            serials,
            qemu_args: &[],
            smmus: Smmus::One,
            deadline: DEADLINE,
        }
    }

    fn machine(&self, dir: &Path, token: &str) -> Result<Machine> {
        let mut machine = Machine::new(&self.images.qemu);
        self.cpu.clone_into(&mut machine.cpu);
        machine.smp = self.smp;
        self.mem.clone_into(&mut machine.mem);
        let expect = if self.hypervisor == HypervisorKind::WithoutIsolation { " expect=landed" } else { "" };
        let bootargs = format!("test={}{expect} {}", self.test, self.bootargs).trim_end().to_owned();
        let hyp = match self.hypervisor {
            HypervisorKind::Native => None,
            HypervisorKind::Portcullis => Some(self.images.hyp.as_ref().context("no hypervisor image")?),
            HypervisorKind::WithoutIsolation => Some(self.images.without_isolation.as_ref().context("no such image")?),
        };
        match hyp {
            None => {
                "virt,gic-version=3,iommu=smmuv3".clone_into(&mut machine.machine);
                machine.serials = Serials::Host;
                machine.kernel = Some(self.images.payload.clone());
                machine.append = bootargs;
            }
            Some(hyp) => {
                machine.serials = self.serials;
                let host = HostModules { kernel: self.images.payload.clone(), initrd: None, bootargs };
                machine.boot_el2(hyp, token, Some(&host))?;
                if !self.el2_options.is_empty() {
                    machine.append = format!("{} {}", machine.append, self.el2_options);
                }
            }
        }
        let disk = dir.join(DISK);
        File::create(&disk)
            .and_then(|file| file.set_len(DISK_SIZE))
            .with_context(|| format!("cannot write {}", disk.display()))?;
        let disk = disk.to_str().context("the folder's path is not UTF-8")?.replace(',', ",,");
        machine.arg("-drive").arg(format!("file={disk},if=none,format=raw,snapshot=on,id=d0"));
        machine.device("nvme,serial=portcullis,drive=d0").device("edu,dma_mask=0xffffffffff");
        // A second device behind a root port; its StreamID depends on the bus number that the host sets.
        machine.device("pcie-root-port,id=rp,chassis=1").device("edu,dma_mask=0xffffffffff,bus=rp");
        if self.smmus == Smmus::Two {
            two_smmus::add(&mut machine);
            machine.device(&format!("edu,dma_mask=0xffffffffff,bus={}", two_smmus::SECOND_BUS));
        }
        if self.clock == Clock::Counted {
            machine.arg("-icount").arg("shift=0,sleep=off");
        }
        for arg in self.qemu_args {
            machine.arg(*arg);
        }
        if self.smmus == Smmus::Two {
            two_smmus::describe(&mut machine, dir)?;
        }
        Ok(machine)
    }

    /// The payload's output so far, in a run with consoles in `dir`.
    #[must_use]
    pub fn host_console(&self, dir: &Path) -> String {
        qemu::host_console(dir)
    }

    /// Runs the machine; the consoles and the disk are files in `dir`.
    ///
    /// # Errors
    /// When the machine cannot be created or started. Failures inside the machine are in the [`Report`].
    pub fn run(&self, dir: &Path) -> Result<Report> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let token = fresh_token()?;
        let outcome = self.machine(dir, &token)?.run(dir, self.deadline)?;
        let exit = match self.hypervisor {
            HypervisorKind::Native => None,
            _ => Some(console::verdict(&outcome.el2_console, &token)),
        };
        Ok(Report {
            name: self.test.to_owned(),
            attacks: console::attack_lines(&outcome.host_console),
            controls: console::control_lines(&outcome.host_console),
            faults: console::dma_faults(&outcome.el2_console),
            exit: exit.map(|exit| exit.map_err(|error| format!("{error:#}"))),
            outcome,
        })
    }
}

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The test's name.
    pub name: String,
    /// Results of attacks, as the payload reported them.
    pub attacks: Vec<(String, AttackResult)>,
    /// Attacks whose control transfer worked.
    pub controls: Vec<String>,
    /// DMA faults that EL2 printed.
    pub faults: Vec<DmaFault>,
    /// EL2's result; `None` without a hypervisor.
    pub exit: Option<Result<ExitLine, String>>,
    /// The machine's end and its consoles.
    pub outcome: Outcome,
}

/// Result of a run, for counting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// The machine lacks a feature that the test needs.
    Skipped(String),
}

impl Report {
    /// Combines the payload's line, EL2's exit line and QEMU's exit status.
    ///
    /// # Errors
    /// The first error, with the ends of the consoles.
    pub fn verdict(&self) -> Result<Verdict> {
        self.check().with_context(|| self.consoles())
    }

    fn check(&self) -> Result<Verdict> {
        let lines = console::test_lines(&self.outcome.host_console);
        let line = match lines.as_slice() {
            [line] if line.name == self.name => line,
            [] => {
                if let Some(Err(error)) = &self.exit {
                    bail!("the payload printed no result; {error}");
                }
                self.outcome.require_clean_exit()?;
                bail!("the payload printed no result")
            }
            _ => bail!("the payload printed {} results", lines.len()),
        };
        if let TestResult::Fail(reason) = &line.result {
            bail!("{reason}");
        }
        if let Some(Err(error)) = &self.exit {
            bail!("{error}");
        }
        self.outcome.require_clean_exit()?;
        if let Some(Ok(exit)) = &self.exit {
            ensure!(exit.audit_is_clean(), "EL2 did not report a clean audit at its end");
            for words in console::announced_lines(&self.outcome.host_console) {
                ensure!(
                    console::is_announced(&self.outcome.el2_console, words),
                    "EL2's console does not contain: {words}"
                );
            }
        }
        Ok(match &line.result {
            TestResult::Skip(reason) => Verdict::Skipped(reason.clone()),
            TestResult::Pass | TestResult::Fail(_) => Verdict::Passed,
        })
    }

    /// The attack's result; its control transfer must have worked.
    ///
    /// # Errors
    /// When the run failed for another reason than the attack's result, or has no result.
    pub fn attack(&self) -> Result<AttackResult> {
        if let Some(Err(error)) = &self.exit {
            bail!("{error}\n{}", self.consoles());
        }
        ensure!(self.controls.contains(&self.name), "the control transfer failed\n{}", self.consoles());
        let found = self.attacks.iter().find(|(name, _)| *name == self.name);
        found.map(|(_, result)| *result).with_context(|| format!("no result\n{}", self.consoles()))
    }

    pub(super) fn consoles(&self) -> String {
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(12);
            lines.get(from..).unwrap_or_default().join("\n    | ")
        };
        format!(
            "host console:\n    | {}\n  EL2's console:\n    | {}\n  whole consoles in {}",
            tail(&self.outcome.host_console),
            tail(&self.outcome.el2_console),
            self.outcome.dir.display()
        )
    }
}
