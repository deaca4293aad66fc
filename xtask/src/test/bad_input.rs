//! Machines that the hypervisor must refuse: it must print the reason on its console and exit with a failing status,
//! and must not hang or continue without isolation.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use test_machines::console;
use test_machines::exec::last_lines;
use test_machines::progress::step;
use test_machines::qemu::{End, HostModules, Machine, Outcome, fresh_token};

use crate::checkout::Checkout;
use crate::test::Images;
use crate::test::results::TestResults;

const SUITE: &str = "bad input";
const DEADLINE: Duration = Duration::from_secs(30);

/// A machine that must be refused.
struct Case {
    name: &'static str,
    /// Changes a correct machine into the refused one.
    break_machine: fn(&mut Machine),
    /// Words that EL2's error message must contain (case-insensitive).
    reason: &'static [&'static str],
}

const CASES: [Case; 5] = [
    Case {
        name: "entered at EL1",
        break_machine: |machine| machine.machine = "virt,gic-version=3,iommu=smmuv3".to_owned(),
        reason: &["EL1"],
    },
    Case {
        name: "no SMMU",
        break_machine: |machine| machine.machine = "virt,gic-version=3,virtualization=on".to_owned(),
        reason: &["SMMU"],
    },
    Case {
        name: "an SMMU with stage 1 only",
        break_machine: |machine| {
            machine.machine = "virt-9.1,gic-version=3,iommu=smmuv3,virtualization=on".to_owned();
            machine.arg("-global").arg("arm-smmuv3.stage=1");
        },
        reason: &["stage 2"],
    },
    Case {
        name: "too little memory",
        break_machine: |machine| {
            "20M".clone_into(&mut machine.mem);
            for arg in &mut machine.args {
                let text = arg.to_string_lossy().replace("addr=0x49000000", "addr=0x41000000");
                *arg = text.into();
            }
        },
        reason: &["memory"],
    },
    Case { name: "no kernel module", break_machine: |machine| machine.args.clear(), reason: &["kernel"] },
];

/// Runs all cases.
pub(crate) fn run(checkout: &Checkout, qemu: &Path, images: &Images, results: &mut TestResults) {
    for case in CASES {
        count(results, case.name, refused(checkout, qemu, images, &case));
    }
    count(results, "a truncated device tree", truncated(checkout, qemu, images));
}

fn count(results: &mut TestResults, name: &str, result: Result<()>) {
    match result {
        Ok(()) => results.pass(SUITE),
        Err(error) => results.fail(SUITE, &format!("{name}: {error:#}")),
    }
}

fn good_machine(qemu: &Path, images: &Images, token: &str) -> Result<Machine> {
    let host = HostModules { kernel: images.payload.clone(), initrd: None, bootargs: "test=list".to_owned() };
    let mut machine = Machine::new(qemu);
    machine.boot_el2(&images.hyp, token, Some(&host))?;
    Ok(machine)
}

fn refused(checkout: &Checkout, qemu: &Path, images: &Images, case: &Case) -> Result<()> {
    let token = fresh_token()?;
    let mut machine = good_machine(qemu, images, &token)?;
    (case.break_machine)(&mut machine);
    let dir = checkout.work_dir(&format!("runs/bad-{}", case.name.replace(' ', "-")))?;
    let outcome = step(&format!("Refusing: {}", case.name), || machine.run(&dir, DEADLINE))?;
    check_refusal(&outcome, case.reason)?;
    let exit = console::exit_line(&el2_output(&outcome), &token)?;
    ensure!(exit.status == "error", "EL2's exit line says status={}", exit.status);
    Ok(())
}

/// EL2's console: its own port, or the host's if shared.
fn el2_output(outcome: &Outcome) -> String {
    if outcome.el2_console.trim().is_empty() { outcome.host_console.clone() } else { outcome.el2_console.clone() }
}

fn check_refusal(outcome: &Outcome, reason: &[&str]) -> Result<()> {
    let text = el2_output(outcome);
    let shown = || format!("EL2 text:\n{}", last_lines(&text, 6));
    match outcome.end {
        End::Killed(after) => bail!("the machine did not end and was killed after {} s; {}", after.as_secs(), shown()),
        End::Exited(status) if status.success() => {
            bail!("the machine ended with success; {}", shown())
        }
        End::Exited(_) => {}
    }
    let errors = console::error_lines(&text).join("\n").to_lowercase();
    ensure!(!errors.is_empty(), "no `portcullis: error:` line (QEMU: {}); {}", outcome.qemu_messages.trim(), shown());
    for word in reason {
        ensure!(errors.contains(&word.to_lowercase()), "the reason does not contain `{word}`: {errors}");
    }
    Ok(())
}

/// Addresses for the machine with a truncated tree, outside QEMU's own device tree.
const STUB: u64 = 0x4800_0000;
const DTB: u64 = 0x4810_0000;

/// Boots with a truncated tree. QEMU's loader refuses such a tree, so a stub of three instructions replaces it: it sets
/// x0 to the tree's address and jumps to the hypervisor.
fn truncated(checkout: &Checkout, qemu: &Path, images: &Images) -> Result<()> {
    let dir = checkout.work_dir("runs/bad-truncated-device-tree")?;
    let whole = dump_device_tree(qemu, images, &dir)?;
    let bytes = fs::read(&whole)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let half = bytes.get(..used / 2).context("an empty device tree")?;
    let cut = dir.join("half.dtb");
    fs::write(&cut, half)?;
    let stub = dir.join("stub.bin");
    fs::write(&stub, stub_code())?;
    let mut machine = Machine::new(qemu);
    let load = |file: &Path, at: u64| format!("loader,file={},addr={at:#x},force-raw=on", file.display());
    machine.device(&load(&images.hyp, 0x4020_0000));
    machine.device(&load(&cut, DTB));
    machine.device(&load(&stub, STUB));
    machine.device(&format!("loader,cpu-num=0,addr={STUB:#x}"));
    let outcome = step("Refusing: a truncated device tree", || machine.run(&dir, DEADLINE))?;
    // Without the tree EL2 does not know the UART: it ends without output.
    let silent = outcome.el2_console.trim().is_empty() && outcome.host_console.trim().is_empty();
    ensure!(silent, "EL2 printed output: {}", last_lines(&el2_output(&outcome), 6));
    match outcome.end {
        End::Exited(status) if !status.success() => Ok(()),
        end => bail!("the machine did not end with an error: {end:?}"),
    }
}

fn dump_device_tree(qemu: &Path, images: &Images, dir: &Path) -> Result<PathBuf> {
    let file = dir.join("whole.dtb");
    let mut machine = good_machine(qemu, images, &fresh_token()?)?;
    machine.machine.push_str(&format!(",dumpdtb={}", file.display()));
    machine.run(&dir.join("dump"), DEADLINE)?.require_clean_exit()?;
    Ok(file)
}

fn stub_code() -> Vec<u8> {
    // movz x0, #DTB >> 16, lsl #16; movz x1, #0x4020, lsl #16; br x1.
    let movz = |register: u32, half: u32| 0xd2a0_0000 | (half << 5) | register;
    [movz(0, 0x4810), movz(1, 0x4020), 0xd61f_0020].iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_has_the_encodings_of_an_assembler() {
        // movz x0, #0x4810, lsl #16 is d2a90200.
        assert_eq!(stub_code().get(..4), Some([0x00, 0x02, 0xa9, 0xd2].as_slice()));
    }
}
