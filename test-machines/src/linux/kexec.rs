//! Boot of a second kernel without a reset: `kexec -e`, a crash kernel, and one that takes over the running SMMU. EL2
//! keeps running, and the second kernel must not reach pages that the first one donated.

use crate::console::{self, AttackResult};
use crate::linux::attack::at_stage_2;
use crate::linux::guest_lines::GuestLines;
use crate::linux::variant::{Hypervisor, Kind};
use crate::linux::verdict::{Expect, Finding};

/// The kernel series with test module and kexec support.
pub const SERIES: &str = crate::linux::module::SERIES;
/// Default CPU. `kexec -e` copies the kernel's page tables, which fails with five levels (FEAT_LPA2, 52-bit
/// addresses): Linux 6.12 oopses on `max`, without any hypervisor.
pub const CPU: &str = "max,lpa2=off";
const PAGE: u64 = 4096;

/// Options for the first kernel.
pub fn private_args(kind: Kind, hypervisor: &Hypervisor) -> String {
    let below = match hypervisor {
        Hypervisor::None => "portcullis.hypervisor=N portcullis.target_kind=scratch",
        Hypervisor::Portcullis(_) | Hypervisor::WithoutIsolation(_) => {
            "portcullis.hypervisor=Y portcullis.target_kind=el2"
        }
    };
    // A kernel without an SMMU driver does untranslated DMA.
    let more = match kind {
        Kind::Exec | Kind::Devices => "",
        Kind::Crash => " crashkernel=256M",
        Kind::Adopt => " crashkernel=256M iommu.passthrough=1",
    };
    format!("{below}{more}")
}

/// Expected output of both kernels, besides the disk digests.
pub fn expect(kind: Kind, hypervisor: &Hypervisor) -> Expect {
    if kind == Kind::Devices {
        return Expect::default();
    }
    let mut expect = Expect {
        checks: vec!["module", "transitions", "kexec_loaded", "second_kernel", "nvme_write"],
        ..Expect::default()
    };
    expect.checks.extend(["control_kept_before", "control_kept_after"]);
    if kind.panics() {
        expect.checks.push("vmcore");
    }
    match kind {
        Kind::Devices => {}
        Kind::Exec | Kind::Crash => expect.values.push(("nvme_domain", "DMA".to_owned())),
        Kind::Adopt => expect.checks.extend([
            "adopt_enabled",
            "adopt_queues_off",
            "adopt_queue_base",
            "adopt_queue_on",
            "adopt_commands",
            "adopt_no_error",
            "adopt_table",
        ]),
    }
    if kind == Kind::Adopt && matches!(hypervisor, Hypervisor::Portcullis(_)) {
        expect.checks.extend(["adopt_old_queue_kept", "adopt_old_queue_free"]);
    }
    let end = match hypervisor {
        Hypervisor::None | Hypervisor::WithoutIsolation(_) => AttackResult::Landed,
        Hypervisor::Portcullis(_) => AttackResult::Blocked,
    };
    expect.attacks.extend([("kept_cpu", end), ("kept_read", end), ("kept_write", end)]);
    if kind.panics() && matches!(hypervisor, Hypervisor::None) {
        // With EL2 the guest cannot read the page: the transfer is checked on EL2's console.
        expect.attacks.push(("flight", end));
    }
    expect
}

/// All accesses to the pages that the first kernel donated must have been blocked at stage 2: the second kernel's
/// attacks, and the transfer in flight when the first one panicked.
pub fn check_faults(kind: Kind, lines: &GuestLines, el2_console: &str) -> Vec<Finding> {
    if kind == Kind::Devices {
        return Vec::new();
    }
    let kept = lines.value("kept_page").and_then(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    let Some(kept) = kept else {
        return vec![Finding::bad("kept_page: the guest's script printed no page")];
    };
    let faults = console::dma_faults(el2_console);
    let mut wanted = vec![("read", 0, "the second kernel's"), ("write", PAGE, "the second kernel's")];
    if kind.panics() {
        wanted.push(("write", 2 * PAGE, "the first kernel's last"));
    }
    let findings = wanted.into_iter().map(|(access, offset, whose)| {
        let page = kept.saturating_add(offset);
        match at_stage_2(&faults, access, page) {
            Some(fault) => Finding::good(format!("EL2 reported {whose} {access}: {}", fault.text)),
            None => Finding::bad(format!("EL2 reported no stage-2 fault for {whose} {access} at ipa={page:#x}")),
        }
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::verdict::Mark;

    const FAULT: &str =
        "portcullis: dma fault: smmu0 F_TRANSLATION sid=0x20 stage=2 class=IN ipa=0x70000000 iova=0xffffe000 read\n";

    fn bad(kind: Kind, console: &str) -> usize {
        let lines = GuestLines::parse("VALUE kept_page 0x70000000\n");
        check_faults(kind, &lines, console).iter().filter(|finding| finding.mark == Mark::Bad).count()
    }

    #[test]
    fn the_attacks_and_the_transfer_in_flight_must_have_faulted() {
        let write = FAULT.replace(" read", " write");
        let (second, flight) = (write.replace("0x70000", "0x70001"), write.replace("0x70000", "0x70002"));
        let all = format!("{FAULT}{second}{flight}");
        assert_eq!(bad(Kind::Crash, &all), 0);
        assert_eq!(bad(Kind::Crash, &format!("{FAULT}{second}")), 1);
        assert_eq!(bad(Kind::Exec, &format!("{FAULT}{second}")), 0);
        assert_eq!(bad(Kind::Adopt, &all.replace("stage=2", "stage=1")), 3);
    }

    #[test]
    fn a_first_kernel_that_printed_no_page_fails_the_run() {
        assert_eq!(check_faults(Kind::Exec, &GuestLines::default(), FAULT).len(), 1);
    }

    #[test]
    fn the_transfer_in_flight_is_checked_by_its_page_only_where_the_page_can_be_read() {
        let has = |kind, below| expect(kind, below).attacks.iter().any(|(name, _)| *name == "flight");
        assert!(has(Kind::Crash, &Hypervisor::None) && !has(Kind::Exec, &Hypervisor::None));
        assert!(!has(Kind::Crash, &Hypervisor::Portcullis("hyp".into())));
    }
}
