//! The test module: a small module for Debian's kernel, built against its headers, that donates and reclaims pages
//! under disk load, and makes a device, a disk and the kernel itself access a donated page.
//!
//! User space cannot do this: only the kernel can make hypercalls and map a page for DMA.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::console::AttackResult::{Blocked, Landed};
use crate::console::{self, DmaFault};
use crate::exec;
use crate::guest;
use crate::linux::guest_lines::GuestLines;
use crate::linux::variant::Hypervisor;
use crate::linux::verdict::{Expect, Finding};
use crate::packages::apt::Kernel;
use crate::packages::headers::Headers;
use crate::progress::step;
use crate::work::WorkFolder;

/// The kernel series that the module supports.
pub const SERIES: &str = "6.12";
const MODULE: &str = "portcullis_test.ko";
/// The module's attacks by DMA: `edu` to a page of EL2 and a page of a guest, the disk to a page of EL2.
const BY_DMA: [&str; 3] = ["hyp", "guest", "nvme"];
const PAGE: u64 = 4096;

/// Builds the module in the folder `sources` for a kernel; returns the file.
///
/// # Errors
/// When the headers or the compiler are not available, or the module does not compile.
pub fn build(work: &WorkFolder, sources: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let headers = Headers::ensure(work, kernel)?;
    let release = kernel.modules.file_name().context("a kernel without a version")?.to_string_lossy().into_owned();
    let folder = work.dir(&format!("module/{release}"))?;
    let _lock = work.lock()?;
    // Built in a copy, since make writes its output next to the sources.
    for entry in fs::read_dir(sources).with_context(|| format!("cannot list {}", sources.display()))? {
        let source = entry?.path();
        let name = source.file_name().context("a source without a name")?;
        let bytes = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        guest::write_if_changed(&folder.join(name), &bytes)?;
    }
    step("Building the test module", || {
        exec::output(&mut headers.make(&folder)).map(|_| ()).context("the test module does not build")
    })?;
    Ok(folder.join(MODULE))
}

/// Options for the guest's script.
pub fn private_args(hypervisor: &Hypervisor) -> &'static str {
    match hypervisor {
        Hypervisor::None => "portcullis.hypervisor=N",
        Hypervisor::Portcullis(_) | Hypervisor::WithoutIsolation(_) => "portcullis.hypervisor=Y",
    }
}

/// Expected output of the guest, besides the disk digests.
pub fn expect(hypervisor: &Hypervisor) -> Expect {
    let mut expect = Expect {
        checks: vec!["el1", "smmu", "module", "module_out"],
        counts: vec!["transitions", "transition_pages"],
        ..Expect::default()
    };
    expect.checks.extend(["control_hyp_before", "control_guest_before", "control_nvme_before", "control_cpu_before"]);
    expect.checks.extend(["io_nvme_read", "io_nvme_write", "io_virtio_blk_read", "io_virtio_blk_write"]);
    expect.values.extend([("edu_domain", "DMA".to_owned()), ("transition_failures", "0".to_owned())]);
    let end = match hypervisor {
        Hypervisor::None => return expect,
        Hypervisor::Portcullis(_) => Blocked,
        Hypervisor::WithoutIsolation(_) => Landed,
    };
    expect.checks.extend(["hyp_zeroed", "guest_zeroed", "nvme_zeroed", "cpu_zeroed"]);
    expect.checks.extend(["control_hyp_after", "control_guest_after", "control_nvme_after", "control_cpu_after"]);
    let by_dma = ["hyp_read", "hyp_write", "guest_read", "guest_write", "nvme_read", "nvme_write"];
    expect.attacks.extend(by_dma.map(|name| (name, end)));
    // CPUs are isolated in both builds.
    expect.attacks.extend([("cpu_read", Blocked), ("cpu_write", Blocked)]);
    expect
}

/// Each attack must have been blocked at stage 2, at the page that the guest reports as donated.
pub fn check_faults(lines: &GuestLines, el2_console: &str) -> Vec<Finding> {
    let faults = console::dma_faults(el2_console);
    let mut findings = Vec::new();
    for receiver in BY_DMA {
        let name = format!("{receiver}_page");
        let Some(page) = lines.value(&name).and_then(address) else {
            findings.push(Finding::bad(format!("{name}: the guest's script printed no page")));
            continue;
        };
        for access in ["read", "write"] {
            findings.push(match faults.iter().find(|fault| at(fault, access, page)) {
                Some(fault) => Finding::good(format!("EL2 reported the {receiver} {access}: {}", fault.text)),
                None => Finding::bad(format!("EL2 reported no stage-2 fault for the {receiver} {access} at {page:#x}")),
            });
        }
    }
    findings
}

fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn at(fault: &DmaFault, access: &str, page: u64) -> bool {
    fault.stage == Some(2)
        && fault.ipa.is_some_and(|ipa| ipa & !(PAGE - 1) == page)
        && fault.text.split_whitespace().any(|word| word == access)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::verdict::Mark;

    #[test]
    fn the_module_calls_what_is_documented() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let header = fs::read_to_string(root.join("linux-tests/portcullis_test/hypercalls.h")).unwrap_or_default();
        let page = fs::read_to_string(root.join("docs/hypercalls.md")).unwrap_or_default();
        let mut checked = 0;
        for line in header.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["#define", name, number] = words.as_slice()
                && number.starts_with("0xc6")
            {
                let name = name.trim_start_matches("PORTCULLIS_");
                assert!(page.contains(&format!("| `{number}` | `{name}` |")), "{line}");
                checked += 1;
            }
        }
        assert_eq!(checked, 12);
    }

    const LINES: &str = "VALUE hyp_page 0x50001000\nVALUE guest_page 0x50002000\nVALUE nvme_page 0x50003000\n";

    fn console() -> String {
        let mut text = String::new();
        for (page, access) in (1..=3).flat_map(|page| [(page, "read"), (page, "write")]) {
            text.push_str(&format!(
                "portcullis: dma fault: smmu0 F_TRANSLATION sid=0x20 stage=2 class=IN ipa=0x5000{page}000 \
                 iova=0xffffe000 {access}\n"
            ));
        }
        text
    }

    fn bad(lines: &str, console: &str) -> usize {
        let findings = check_faults(&GuestLines::parse(lines), console);
        findings.iter().filter(|finding| finding.mark == Mark::Bad).count()
    }

    #[test]
    fn every_attack_must_have_faulted_at_stage_2_at_its_page() {
        assert_eq!(bad(LINES, &console()), 0);
        assert_eq!(bad(LINES, &console().replace("stage=2", "stage=1")), 6);
        assert_eq!(bad(LINES, &console().replace("ipa=0x50001", "ipa=0x50004")), 2);
        assert_eq!(bad(LINES, ""), 6);
    }

    #[test]
    fn a_missing_page_fails_the_run() {
        assert_eq!(bad("VALUE hyp_page 0x50001000\n", &console()), 2);
    }
}
