//! Tests with other firmware than that of QEMU. The firmware traps a register of EL2, and EL2 must end the boot with
//! the register's name and the EL3 setting; or the firmware resets the SMMU in a suspend state, has other suspend
//! states, or starts CPUs with all ones in their registers.
//!
//! The payload's image is also the firmware (`el3.rs` in the payload). EL2's registers contain all ones at entry, which
//! is allowed after a warm reset.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::console;
use crate::payload::Images;
use crate::qemu::{HOST_KERNEL_ADDRESS, HostModules, Machine, Outcome, Serials, fresh_token};
use crate::tree::cut;

const DEADLINE: Duration = Duration::from_secs(60);
/// Number of boots of a machine whose later CPUs end the run.
const ROUNDS: u32 = 10;
/// Address where the firmware reads `SCR_EL3`, `CPTR_EL3`, EL2's entry point, `SCR_EL3` of later CPUs, their number
/// and the result of PSCI_FEATURES of CPU_SUSPEND.
const SETTINGS: u64 = 0x4800_0000;
const EL2_IMAGE: u64 = 0x4020_0000;

/// `SCR_EL3`: Non-secure AArch64 at lower levels, and every permission of QEMU's CPU models: HCE, APK, API, EnSCXT,
/// ATA, FGTEn, HXEn, GCSEn, EnTP2, TCR2En, SCTLR2En, PIEn, AIEn, EnFPM, FGTEn2 (DDI 0487 issue L.a, D24.2.169).
const SCR: u64 = 1
    | 0b11 << 4
    | 1 << 8
    | 1 << 10
    | 0b11 << 16
    | 0b111 << 25
    | 0b11 << 38
    | 1 << 41
    | 0b1111 << 43
    | 1 << 50
    | 1 << 59;
/// `CPTR_EL3.EZ` and `ESM`.
const CPTR: u64 = 1 << 8 | 1 << 12;

/// The test of the host, which fails if EL2 starts the host although a register is trapped.
const HOST_TEST: &str = "t66_shown_works_hidden_is_undefined";

/// PSCI's result for an unknown call.
const NOT_SUPPORTED: i64 = -1;

/// Line of a host that has turned all CPUs on.
const CPUS_ON: &str = "all CPUs are on";

/// A firmware configuration.
#[derive(Clone, Copy, Debug)]
pub struct Firmware {
    /// The test's name.
    pub name: &'static str,
    /// Bits that the firmware does not set in `SCR_EL3`.
    scr: u64,
    /// Bits that the firmware does not set in `CPTR_EL3`.
    cptr: u64,
    /// Number of CPUs after the first, which all start at the same time.
    later_cpus: u32,
    /// Bits that the firmware does not set in `SCR_EL3` of those CPUs.
    later_scr: u64,
    /// Its result for PSCI_FEATURES of CPU_SUSPEND; bit 1 is the extended format of its states.
    suspend_flags: i64,
    end: Expected,
}

/// Expected result.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// EL2 does not start its host, and its reason contains these words.
    Refusal(&'static str),
    /// EL2 ends the run while the host runs the test of the same name, and its reason contains these words. It is
    /// printed once.
    End(&'static str),
    /// The host passes this test of the payload.
    Pass(&'static str),
}

/// All firmware configurations. CPUs of type `max` have all these features.
pub const FIRMWARE: [Firmware; 11] = [
    passing("t66_registers_have_any_value_at_entry", HOST_TEST),
    Firmware {
        later_cpus: 1,
        ..passing("t66_registers_have_any_value_at_cpu_on", "t66_registers_have_any_value_at_cpu_on")
    },
    passing("t66_registers_have_any_value_at_resume", "t66_registers_have_any_value_at_resume"),
    trapping("t66_firmware_traps_hcrx", (1 << 38, 0), "HCRX_EL2 is not accessible: EL3 must set SCR_EL3.HXEn"),
    trapping("t66_firmware_traps_fgt", (1 << 27, 0), "HFGRTR_EL2 is not accessible: EL3 must set SCR_EL3.FGTEn"),
    trapping("t66_firmware_traps_sve", (0, 1 << 8), "ZCR_EL2 is not accessible: EL3 must set CPTR_EL3.EZ"),
    // This register is accessed after EL2's MMU is on.
    later("t66_later_cores_trap_hcrx", 1 << 38, "HCRX_EL2 is not accessible: EL3 must set SCR_EL3.HXEn"),
    // These registers are accessed before EL2's MMU is on. CPUs without TCR2 have only HCRX.
    later("t66_later_cores_trap_tcr2", 1 << 43 | 1 << 38, "is not accessible: EL3 must set SCR_EL3."),
    passing("t09_smmu_lost_in_standby", "t09_smmu_lost_in_standby"),
    passing("t09_smmu_lost_in_power_down", "t09_smmu_lost_in_power_down"),
    // As TF-A with PSCI_EXTENDED_STATE_ID=1 and PSCI_OS_INIT_MODE=1.
    Firmware { suspend_flags: 0b11, ..passing("t39_extended_states", "t39_extended_states") },
];

/// Firmware that traps nothing, with a host that passes `test`.
const fn passing(name: &'static str, test: &'static str) -> Firmware {
    let end = Expected::Pass(test);
    Firmware { name, scr: 0, cptr: 0, later_cpus: 0, later_scr: 0, suspend_flags: NOT_SUPPORTED, end }
}

/// Firmware that does not set these bits of `SCR_EL3` and `CPTR_EL3`.
const fn trapping(name: &'static str, (scr, cptr): (u64, u64), reason: &'static str) -> Firmware {
    Firmware { scr, cptr, end: Expected::Refusal(reason), ..passing(name, HOST_TEST) }
}

/// Firmware that does not set these bits of `SCR_EL3` on seven later CPUs.
const fn later(name: &'static str, later_scr: u64, reason: &'static str) -> Firmware {
    Firmware { later_cpus: 7, later_scr, end: Expected::End(reason), ..passing(name, HOST_TEST) }
}

impl Firmware {
    /// Boots a machine of type `max` with that firmware.
    ///
    /// # Errors
    /// When the result is wrong, or when the machine cannot be started.
    pub fn run(&self, images: &Images, dir: &Path) -> Result<()> {
        // The order of several CPUs' accesses differs from run to run.
        let rounds = if matches!(self.end, Expected::End(_)) { ROUNDS } else { 1 };
        (0..rounds).try_for_each(|_| self.run_once(images, dir))
    }

    fn run_once(&self, images: &Images, dir: &Path) -> Result<()> {
        let token = fresh_token()?;
        let outcome = self.boot(images, &token, dir)?;
        // With EL3 the second UART is Secure, so EL2 and the host share the first.
        let console = &outcome.host_console;
        let exit = console::exit_line(console, &token).with_context(|| format!("EL2 console: {console}"))?;
        let errors = console::error_lines(console).join("; ");
        let passed = |test| console.contains(&format!("TEST {test}: PASS"));
        match self.end {
            Expected::Pass(test) => {
                ensure!(exit.status == "ok", "EL2 ended with {} at {}: {errors}", exit.status, exit.reason);
                ensure!(passed(test), "the host did not pass: {console}");
            }
            Expected::Refusal(reason) => {
                ensure!(!passed(HOST_TEST), "the host ran: {console}");
                ensure!(errors.contains(reason), "the error does not contain `{reason}`: {errors}");
                ensure!(exit.reason == "boot", "EL2 ended with {} at {}", exit.status, exit.reason);
            }
            Expected::End(reason) => {
                ensure!(console.contains(CPUS_ON), "the host did not turn its CPUs on: {console}");
                ensure!(errors.contains(reason), "the error does not contain `{reason}`: {errors}");
                let (reasons, exits) = (console::error_lines(console).len(), console.matches("exit token=").count());
                ensure!((reasons, exits) == (1, 1), "EL2 ended {exits} times, for {reasons} reasons: {console}");
                ensure!(exit.reason == "boot", "EL2 ended with {} at {}", exit.status, exit.reason);
            }
        }
        Ok(())
    }

    /// Number of CPUs of its machine.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.later_cpus.saturating_add(1)
    }

    fn test(&self) -> &'static str {
        match self.end {
            Expected::Pass(test) => test,
            Expected::Refusal(_) => HOST_TEST,
            Expected::End(_) => self.name,
        }
    }

    fn boot(&self, images: &Images, token: &str, dir: &Path) -> Result<Outcome> {
        let hyp = images.hyp.as_ref().context("no hypervisor image")?;
        let payload = &images.payload;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let tree = dir.join("tree.dtb");
        let mut plain = Machine::new(&images.qemu);
        let host = HostModules { kernel: payload.clone(), initrd: None, bootargs: format!("test={}", self.test()) };
        plain.serials = Serials::Host;
        plain.smp = self.cpus();
        plain.boot_el2(hyp, token, Some(&host))?;
        plain.machine.push_str(&format!(",dumpdtb={}", tree.display()));
        plain.run(&dir.join("dump"), DEADLINE)?.require_clean_exit()?;
        // With custom firmware QEMU describes no PSCI: use the tree of a machine with QEMU's firmware.
        let mut bytes = fs::read(&tree)?;
        cut(&mut bytes)?;
        fs::write(&tree, bytes)?;

        let mut machine = Machine::new(&images.qemu);
        machine.serials = Serials::Host;
        machine.smp = self.cpus();
        machine.machine.push_str(",secure=on");
        machine.device("edu,dma_mask=0xffffffffff");
        machine.arg("-bios").arg(payload).arg("-dtb").arg(&tree);
        for (file, addr) in [(hyp, EL2_IMAGE), (payload, HOST_KERNEL_ADDRESS)] {
            machine.device(&format!("loader,file={},addr={addr:#x},force-raw=on", file.display()));
        }
        let settings = [
            SCR & !self.scr,
            CPTR & !self.cptr,
            EL2_IMAGE,
            SCR & !self.later_scr,
            u64::from(self.later_cpus),
            self.suspend_flags.cast_unsigned(),
        ];
        for (addr, data) in (SETTINGS..).step_by(8).zip(settings) {
            machine.device(&format!("loader,addr={addr:#x},data={data:#x},data-len=8"));
        }
        machine.run(dir, DEADLINE)
    }
}
