//! EL2's instructions for single traps, from its entry to the host's, and the size of its image and tables.

use std::fs;

use anyhow::{Context, Result};
use test_machines::payload::{HypervisorKind, Images};
use test_machines::progress::step;

use crate::bench::figure::{Figure, Report};
use crate::bench::payload;
use crate::checkout::Checkout;

/// Name, target, the value of a prototype without checks, and note.
const TRAPS: [(&str, Option<f64>, Option<f64>, &str); 10] = [
    ("id_read", Some(150.0), Some(140.0), "mean of 64 IDR0 reads; peer: prototype without checks"),
    ("cons_read", Some(150.0), Some(140.0), "mean of 64 CMDQ_CONS reads; peer: prototype without checks"),
    (
        "prod_tlbi_sync",
        Some(450.0),
        Some(215.0),
        "mean of 64 PROD writes, TLBI_NH_VA and SYNC, queue and lock uncontended; peer: prototype without checks",
    ),
    ("prod_tlbi_sync_msi", Some(450.0), None, "the same with Linux's completion: EL2 stores to the entry"),
    ("prod_cfgi_ste", None, None, "CFGI_STE of an aborting entry, and SYNC"),
    ("prod_sync", None, None, "SYNC alone"),
    ("hvc_version", Some(150.0), None, "mean of 64"),
    ("psci_version", Some(150.0), None, "mean of 64; includes EL2's own SMC to firmware"),
    ("gicr_ctlr_read", None, None, "mean of 64 reads of GICR_CTLR"),
    ("gits_inv_sync", None, None, "a CWRITER write, INV and SYNC"),
];
/// Maximum size of the stripped image in bytes.
const IMAGE_TARGET: f64 = 160.0 * 1024.0;
/// Bytes of 4K leaves that pKVM needs for 4 GiB.
const PKVM_TABLES_4G: f64 = 8.0 * 1024.0 * 1024.0;

/// Measures instructions and sizes.
///
/// # Errors
/// If a machine does not finish its run.
pub(crate) fn measure(checkout: &Checkout, images: &Images, report: &mut Report) -> Result<()> {
    let traps = step("Counting instructions of traps", || {
        payload::run(checkout, images, HypervisorKind::Portcullis, "bench_traps", "1G")
    })?;
    for (name, target, peer, note) in TRAPS {
        let name = format!("el2_insns.{name}");
        let Ok(value) = traps.value(&name) else { continue };
        report.add(name, Figure { target, peer, ..Figure::new(value, "instructions").note(note) });
    }
    step("Counting instructions of the boot", || boot(checkout, images, report))?;
    let image = images.hyp.as_ref().context("no hypervisor image")?;
    let bytes = fs::metadata(image).with_context(|| format!("cannot read {}", image.display()))?.len();
    let note = "the raw image that is loaded; peer: prototype";
    report.add("image_bytes", Figure::new(from_count(bytes), "bytes").target(IMAGE_TARGET).peer(21_504.0).note(note));
    Ok(())
}

fn boot(checkout: &Checkout, images: &Images, report: &mut Report) -> Result<()> {
    // Without a hypervisor the same counter counts only the loader's stub.
    let stub = payload::run(checkout, images, HypervisorKind::Native, "bench_boot", "1G")?.value("reset_to_host")?;
    for (mem, name, target) in [("1G", "host_1g", Some(5e6)), ("4G", "host_4g", None)] {
        let run = payload::run(checkout, images, HypervisorKind::Portcullis, "bench_boot", mem)?;
        let value = run.value("reset_to_host")? - stub;
        let note =
            format!("from EL2's entry to the host's first instruction, without the {stub} instructions of the loader");
        report.add(format!("boot_insns.{name}"), Figure { target, ..Figure::new(value, "instructions").note(note) });
        if mem == "4G" {
            let kib = |after: &str, before: &str| {
                number_before(&run.el2_console, after, before)
                    .map(|kib| kib * 1024.0)
                    .with_context(|| format!("EL2's console has no figure between {after:?} and {before:?}"))
            };
            let tables = kib("for CPUs, ", " KiB for DMA")?;
            let note = "IOMMU stage 2 with blocks; peer: pKVM's 4K leaves";
            let figure = Figure::new(tables, "bytes").target(65_536.0).peer(PKVM_TABLES_4G).note(note);
            report.add("table_bytes.host_4g", figure);
            let (total, free) = (kib(" of ", " KiB free")?, kib("pool ", " of ")?);
            let note = format!("reserved by EL2 for tables, queues and stream tables; {} in use", total - free);
            report.add("pool_bytes.host_4g", Figure::new(total, "bytes").note(note));
        }
    }
    Ok(())
}

/// The number between two texts, in the last line that has both in this order.
fn number_before(console: &str, after: &str, before: &str) -> Option<f64> {
    console.lines().rev().find_map(|line| {
        let (head, _) = line.split_once(before)?;
        let (_, digits) = head.rsplit_once(after)?;
        digits.trim().parse().ok()
    })
}

/// A count as a figure; exact up to 2^53.
pub(crate) fn from_count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stop_line_is_read() {
        let console = "portcullis: pages revoked 0 granted 0 rolled back 0; pool 18228 of 18356 KiB free; \
            stage 2 32 KiB for CPUs, 20 KiB for DMA\nportcullis: exit token=aa";
        assert_eq!(number_before(console, "for CPUs, ", " KiB for DMA"), Some(20.0));
        assert_eq!(number_before(console, " of ", " KiB free"), Some(18356.0));
        assert_eq!(number_before(console, "pool ", " of "), Some(18228.0));
        assert_eq!(number_before(console, "pool ", " nothing"), None);
    }
}
