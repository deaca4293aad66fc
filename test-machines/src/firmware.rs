//! Firmware other than QEMU's: it traps a register of EL2, and the boot must end with the register's name and the EL3
//! setting; or it resets the SMMU in a suspend state.
//!
//! The payload's image is the firmware as well (`el3.rs` there). It leaves all ones in EL2's registers, as a warm reset
//! may.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::boot_input::cut;
use crate::console;
use crate::payload::Images;
use crate::qemu::{HOST_KERNEL_ADDRESS, HostModules, Machine, Outcome, Serials, fresh_token};

const DEADLINE: Duration = Duration::from_secs(60);
/// Where the firmware looks for `SCR_EL3`, `CPTR_EL3` and EL2's entry point.
const SETTINGS: u64 = 0x4800_0000;
const EL2_IMAGE: u64 = 0x4020_0000;

/// `SCR_EL3`: non-secure AArch64 below, and every permission that QEMU's cores know: HCE, APK, API, EnSCXT, ATA, FGTEn,
/// HXEn, GCSEn, EnTP2, TCR2En, SCTLR2En, PIEn, AIEn, EnFPM, FGTEn2 (DDI 0487 issue L.a, D24.2.169).
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

/// The host's test, if it starts, when a register is trapped.
const HOST_TEST: &str = "t66_shown_works_hidden_is_undefined";

/// A firmware configuration.
#[derive(Clone, Copy, Debug)]
pub struct Firmware {
    /// The test's name.
    pub name: &'static str,
    /// Bits that it leaves out of `SCR_EL3`.
    scr: u64,
    /// Bits that it leaves out of `CPTR_EL3`.
    cptr: u64,
    end: Expected,
}

/// Expected result.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// EL2 does not start its host, for a reason that has these words.
    Refusal(&'static str),
    /// The host passes this test of the payload.
    Pass(&'static str),
}

/// All of them. Cores of type `max` have all of these features.
pub const FIRMWARE: [Firmware; 6] = [
    Firmware { name: "t66_registers_hold_anything_at_entry", scr: 0, cptr: 0, end: Expected::Pass(HOST_TEST) },
    Firmware {
        name: "t66_firmware_keeps_hcrx",
        scr: 1 << 38,
        cptr: 0,
        end: Expected::Refusal("HCRX_EL2 is not accessible: EL3 must set SCR_EL3.HXEn"),
    },
    Firmware {
        name: "t66_firmware_keeps_fgt",
        scr: 1 << 27,
        cptr: 0,
        end: Expected::Refusal("HFGRTR_EL2 is not accessible: EL3 must set SCR_EL3.FGTEn"),
    },
    Firmware {
        name: "t66_firmware_keeps_sve",
        scr: 0,
        cptr: 1 << 8,
        end: Expected::Refusal("ZCR_EL2 is not accessible: EL3 must set CPTR_EL3.EZ"),
    },
    suspending("t09_smmu_lost_in_standby"),
    suspending("t09_smmu_lost_in_power_down"),
];

/// A host that suspends its CPU in the test `name`.
const fn suspending(name: &'static str) -> Firmware {
    Firmware { name, scr: 0, cptr: 0, end: Expected::Pass(name) }
}

impl Firmware {
    /// Boots a machine of type `max` with that firmware.
    ///
    /// # Errors
    /// When the result is wrong, or when the machine cannot be started.
    pub fn run(&self, images: &Images, dir: &Path) -> Result<()> {
        let token = fresh_token()?;
        let outcome = self.boot(images, &token, dir)?;
        // The second port is Secure state's where EL3 is there, so both share the first.
        let said = &outcome.host_console;
        let exit = console::exit_line(said, &token).with_context(|| format!("EL2 said: {said}"))?;
        let errors = console::error_lines(said).join("; ");
        let ran = |test| said.contains(&format!("TEST {test}: PASS"));
        match self.end {
            Expected::Pass(test) => {
                ensure!(exit.status == "ok", "EL2 ended with {} at {}: {errors}", exit.status, exit.reason);
                ensure!(ran(test), "the host did not pass: {said}");
            }
            Expected::Refusal(reason) => {
                ensure!(!ran(HOST_TEST), "the host ran: {said}");
                ensure!(errors.contains(reason), "the reason does not say `{reason}`: {errors}");
                ensure!(exit.reason == "boot", "EL2 ended with {} at {}", exit.status, exit.reason);
            }
        }
        Ok(())
    }

    fn test(&self) -> &'static str {
        match self.end {
            Expected::Pass(test) => test,
            Expected::Refusal(_) => HOST_TEST,
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
        plain.boot_el2(hyp, token, Some(&host))?;
        plain.machine.push_str(&format!(",dumpdtb={}", tree.display()));
        plain.run(&dir.join("dump"), DEADLINE)?.require_clean_exit()?;
        // With custom firmware QEMU describes no PSCI: use the tree of a machine with QEMU's firmware.
        let mut bytes = fs::read(&tree)?;
        cut(&mut bytes)?;
        fs::write(&tree, bytes)?;

        let mut machine = Machine::new(&images.qemu);
        machine.serials = Serials::Host;
        machine.machine.push_str(",secure=on");
        machine.device("edu,dma_mask=0xffffffffff");
        machine.arg("-bios").arg(payload).arg("-dtb").arg(&tree);
        for (file, addr) in [(hyp, EL2_IMAGE), (payload, HOST_KERNEL_ADDRESS)] {
            machine.device(&format!("loader,file={},addr={addr:#x},force-raw=on", file.display()));
        }
        for (addr, data) in (SETTINGS..).step_by(8).zip([SCR & !self.scr, CPTR & !self.cptr, EL2_IMAGE]) {
            machine.device(&format!("loader,addr={addr:#x},data={data:#x},data-len=8"));
        }
        machine.run(dir, DEADLINE)
    }
}
