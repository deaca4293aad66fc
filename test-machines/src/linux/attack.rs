//! The attack from root in the guest: the `edu` device accesses memory that the kernel does not own. Without a
//! hypervisor the attack lands whenever Linux does not translate for the device. Under EL2 it must be blocked at stage
//! 2, and EL2 must report the target address.

use crate::console::AttackResult::{self, Blocked, Landed};
use crate::console::{self, DmaFault};
use crate::linux::variant::{Hypervisor, Mode};
use crate::linux::verdict::{Expect, Finding};

/// Load address of the hypervisor: the first page of its image has code, and the arm64
/// header whose magic number an unblocked read returns.
pub(crate) const EL2_IMAGE: u64 = 0x4020_0000;
const PAGE: u64 = 4096;

/// Expected output of the guest in an attack mode.
pub fn expect(mode: Mode, hypervisor: &Hypervisor) -> Expect {
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
        Mode::Check | Mode::Devices | Mode::HandOver | Mode::Module | Mode::Load | Mode::Kexec(_) | Mode::Shell => &[],
    };
    expect.attacks.extend(attacks);
    expect
}

/// Under EL2, both attacks must have been blocked at stage 2 at exactly the target page.
pub fn check_faults(el2_console: &str) -> Vec<Finding> {
    let faults = console::dma_faults(el2_console);
    [("read", EL2_IMAGE), ("write", EL2_IMAGE + PAGE)]
        .iter()
        .map(|(access, page)| match at_stage_2(&faults, access, *page) {
            Some(fault) => Finding::good(format!("EL2 reported the {access}: {}", fault.text)),
            None => Finding::bad(format!("EL2 reported no stage-2 fault for the {access} at ipa={page:#x}")),
        })
        .collect()
}

/// The fault of an access at stage 2, at a page.
pub fn at_stage_2<'a>(faults: &'a [DmaFault], access: &str, page: u64) -> Option<&'a DmaFault> {
    faults.iter().find(|fault| {
        fault.stage == Some(2)
            && fault.ipa.is_some_and(|ipa| ipa & !(PAGE - 1) == page)
            && fault.text.split_whitespace().any(|word| word == access)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str =
        "portcullis: dma fault: smmu0 F_TRANSLATION sid=0x20 stage=2 class=IN ipa=0x40201000 iova=0x40201000 write\n";
    const READ: &str =
        "portcullis: dma fault: smmu0 F_TRANSLATION sid=0x20 stage=2 class=IN ipa=0x40200000 iova=0x40200000 read\n";

    fn bad(console: &str) -> usize {
        let findings = check_faults(console);
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
