//! The attack from root in the guest: the `edu` device is aimed at memory that is not
//! the kernel's. Natively it lands whenever Linux does not translate for the device;
//! under EL2 it must be blocked at stage 2, told by EL2 with the address aimed at.

use anyhow::{Context, Result, bail};
use qemu_tests::console::AttackResult::{self, Blocked, Landed};
use qemu_tests::console::{self, DmaFault};

use crate::checkout::Checkout;
use crate::linux::boot::{Boot, Hypervisor, Mode};
use crate::linux::report::Report;
use crate::linux::verdict::{Expect, Finding};

/// Where QEMU puts the hypervisor: its image's first page holds code, and the arm64
/// header whose magic number a landed read would bring back.
const EL2_IMAGE: u64 = 0x4020_0000;
const RAM_BASE: u64 = 0x4000_0000;
/// Distance of the scratch page from the end of memory.
const SCRATCH_BELOW_TOP: u64 = 16 << 20;
/// Memory kept from the kernel by `mem=` so that the scratch page is nobody's.
const KEPT_FROM_KERNEL: u64 = 64 << 20;
const PAGE: u64 = 4096;

/// Boots twice: with `iommu.passthrough=1`, and plain with `identity` set at run time. A kernel whose driver can be told
/// to let unknown streams bypass boots a third time.
///
/// # Errors
/// When a machine cannot be started.
pub(crate) fn run(checkout: &Checkout, boot: &Boot) -> Result<Vec<Report>> {
    let passthrough = prepared(boot, Mode::AttackPassthrough)?.run(checkout)?;
    let runtime = prepared(boot, Mode::AttackRuntime)?.run(checkout)?;
    let mut reports = vec![passthrough, runtime];
    if boot.guest.has_disable_bypass() {
        reports.push(prepared(boot, Mode::AttackUnbound)?.run(checkout)?);
    }
    Ok(reports)
}

/// The boot in an attack mode, with the command line that mode needs.
///
/// # Errors
/// When the machine's memory size cannot be understood.
pub(crate) fn prepared(boot: &Boot, mode: Mode) -> Result<Boot> {
    let mut boot = boot.clone();
    boot.mode = mode;
    let word = match mode {
        Mode::AttackPassthrough => "iommu.passthrough=1",
        Mode::AttackUnbound => "arm-smmu-v3.disable_bypass=0",
        Mode::AttackRuntime | Mode::Check | Mode::Module | Mode::Load | Mode::Kexec(_) | Mode::Shell => "",
    };
    boot.append = format!("{} {word}", boot.append).trim().to_owned();
    boot.private_args = match boot.hypervisor {
        Hypervisor::None => {
            let size = bytes(&boot.mem)?;
            let kernel = size
                .checked_sub(KEPT_FROM_KERNEL)
                .filter(|left| *left > KEPT_FROM_KERNEL)
                .with_context(|| format!("--mem {} is too little for an attack: 512M or more", boot.mem))?;
            let scratch = RAM_BASE + size - SCRATCH_BELOW_TOP;
            format!("mem={}M portcullis.target={scratch:#x} portcullis.target_kind=scratch", kernel >> 20)
        }
        Hypervisor::Portcullis(_) | Hypervisor::WithoutIsolation(_) => {
            format!("portcullis.target={EL2_IMAGE:#x} portcullis.target_kind=el2")
        }
    };
    Ok(boot)
}

/// What the guest has to say in an attack mode.
pub(crate) fn expect(mode: Mode, hypervisor: &Hypervisor) -> Expect {
    let untranslated = match hypervisor {
        Hypervisor::None | Hypervisor::WithoutIsolation(_) => Landed,
        Hypervisor::Portcullis(_) => Blocked,
    };
    let mut expect = Expect { checks: vec!["el1", "smmu", "target"], ..Expect::default() };
    let attacks: &[(&'static str, AttackResult)] = match mode {
        Mode::AttackPassthrough => {
            expect.checks.extend(["control_passthrough", "control_passthrough_after"]);
            expect.values.push(("edu_domain", "identity".to_owned()));
            &[("passthrough_read", untranslated), ("passthrough_write", untranslated)]
        }
        Mode::AttackRuntime => {
            expect.checks.extend(["control_identity", "control_identity_after"]);
            expect.values.push(("edu_domain", "DMA".to_owned()));
            expect.by_stage_1.extend(["translated_own_page", "translated_read", "translated_write"]);
            &[
                ("translated_own_page", Blocked),
                ("identity_read", untranslated),
                ("identity_write", untranslated),
                ("translated_read", Blocked),
                ("translated_write", Blocked),
            ]
        }
        Mode::AttackUnbound => {
            expect.checks.extend(["control_unbound", "control_unbound_after"]);
            expect.values.push(("edu_domain", "none".to_owned()));
            &[("unbound_read", untranslated), ("unbound_write", untranslated)]
        }
        Mode::Check | Mode::Module | Mode::Load | Mode::Kexec(_) | Mode::Shell => &[],
    };
    expect.attacks.extend(attacks);
    expect
}

/// Under EL2, both attacks must have been refused at stage 2 at the very page aimed at.
pub(crate) fn judge_faults(el2_console: &str) -> Vec<Finding> {
    let faults = console::dma_faults(el2_console);
    [("read", EL2_IMAGE), ("write", EL2_IMAGE + PAGE)]
        .iter()
        .map(|(access, page)| match at_stage_2(&faults, access, *page) {
            Some(fault) => Finding::good(format!("EL2 saw the {access}: {}", fault.text)),
            None => Finding::bad(format!("EL2 reported no stage-2 fault for the {access} at ipa={page:#x}")),
        })
        .collect()
}

/// The fault of an access at stage 2, at a page.
pub(crate) fn at_stage_2<'a>(faults: &'a [DmaFault], access: &str, page: u64) -> Option<&'a DmaFault> {
    faults.iter().find(|fault| {
        fault.stage == Some(2)
            && fault.ipa.is_some_and(|ipa| ipa & !(PAGE - 1) == page)
            && fault.text.split_whitespace().any(|word| word == access)
    })
}

/// A memory size as QEMU writes it: MiB without a suffix.
fn bytes(mem: &str) -> Result<u64> {
    let (digits, unit) = match mem.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 30),
        None => (mem.strip_suffix(['M', 'm']).unwrap_or(mem), 20),
    };
    match digits.parse::<u64>() {
        Ok(number) if number > 0 && number < 1 << 20 => Ok(number << unit),
        _ => bail!("--mem {mem}: give a size like 1024M or 2G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes_are_read_as_qemu_does() {
        assert_eq!(bytes("1G").ok(), Some(1 << 30));
        assert_eq!(bytes("512M").ok(), Some(512 << 20));
        assert_eq!(bytes("2048").ok(), Some(2 << 30));
        assert!(bytes("much").is_err());
        assert!(bytes("0").is_err());
    }

    const WRITE: &str =
        "portcullis: dma fault: smmu0 F_TRANSLATION sid=0x20 stage=2 class=IN ipa=0x40201000 iova=0x40201000 write\n";
    const READ: &str =
        "portcullis: dma fault: smmu0 F_TRANSLATION sid=0x20 stage=2 class=IN ipa=0x40200000 iova=0x40200000 read\n";

    fn bad(console: &str) -> usize {
        let findings = judge_faults(console);
        findings.iter().filter(|finding| finding.mark == crate::linux::verdict::Mark::Bad).count()
    }

    #[test]
    fn both_accesses_must_be_reported_at_their_page_and_stage() {
        assert_eq!(bad(&format!("{READ}{WRITE}")), 0);
        assert_eq!(bad(READ), 1);
        assert_eq!(bad(&format!("{READ}{WRITE}").replace("stage=2", "stage=1")), 2);
        assert_eq!(bad(&format!("{READ}{WRITE}").replace("0x402", "0x403")), 2);
    }
}
