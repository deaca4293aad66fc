//! Ratio of I/O time under EL2 to I/O time without EL2, with interleaved boots.
//!
//! Both boots of a pair run under the same load of the build machine, so their ratio is more reliable than either
//! time. The reported value is the lower bound of the 95 % interval of the mean ratio.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use test_machines::progress::say;

use crate::bench::figure::{Figure, Report};
use crate::bench::linux::{BenchGuest, HypervisorKind};
use crate::bench::traps::from_count;

/// The workloads that the guest measures.
const WORKLOADS: [&str; 4] = ["nvme_seq", "nvme_rand4k", "virtio_seq", "virtio_rand4k"];
/// Invalidation policy, command line, target.
const POLICIES: [(&str, &str, f64); 2] = [("strict", "iommu.strict=1", 1.10), ("lazy", "iommu.strict=0", 1.05)];

/// Minimum number of pairs for a comparison with a target.
const ENOUGH: usize = 15;

/// Measures in `repeats` pairs of boots for each policy.
///
/// # Errors
/// When a boot fails.
pub(crate) fn measure(guest: &BenchGuest<'_>, repeats: u32, report: &mut Report) -> Result<()> {
    for (policy, append, target) in POLICIES {
        let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for repeat in 0..repeats {
            say(&format!("{policy}: pair {} of {repeats}", repeat + 1));
            // The order alternates, so that a change of the machine's load does not bias the result.
            let order = if repeat % 2 == 0 {
                [HypervisorKind::Native, HypervisorKind::El2]
            } else {
                [HypervisorKind::El2, HypervisorKind::Native]
            };
            let mut times: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
            for hypervisor in order {
                let (lines, _) = guest.boot(hypervisor, 1, append, "portcullis.io_ratio=1")?;
                for name in WORKLOADS {
                    let time = lines.value(name).and_then(|value| value.parse::<f64>().ok());
                    let time = time.with_context(|| format!("the guest printed no time of {name}"))?;
                    let slot = usize::from(hypervisor == HypervisorKind::El2);
                    if let Some(place) = times.entry(name).or_default().get_mut(slot) {
                        *place = time;
                    }
                }
            }
            for (name, [native, el2]) in times {
                ratios.entry(name).or_default().push(el2 / native.max(1.0));
            }
        }
        for (name, ratios) in ratios {
            let (mean, half) = interval(&ratios);
            let (low, high, pairs) = (mean - half, mean + half, ratios.len());
            let note = format!("lower bound of the 95 % interval {low:.3} to {high:.3} of {pairs} interleaved pairs");
            let figure = if pairs >= ENOUGH {
                Figure::new(low, "ratio").target(target).note(note)
            } else {
                Figure::new(low, "ratio").note(format!("{note}: {ENOUGH} are needed for a comparison"))
            };
            report.add(format!("io_ratio.{name}.{policy}"), figure);
        }
    }
    Ok(())
}

/// Mean, and half the width of its 95 % interval (Student's t, two-sided).
fn interval(values: &[f64]) -> (f64, f64) {
    let count = from_count(u64::try_from(values.len()).unwrap_or(u64::MAX));
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, f64::INFINITY);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, quantile(values.len() - 1) * (variance / count).sqrt())
}

/// An upper bound of the 0.975 quantile of Student's t: the nearest value of the table.
fn quantile(freedom: usize) -> f64 {
    const TABLE: [(usize, f64); 9] = [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (6, 2.447),
        (9, 2.262),
        (14, 2.145),
        (19, 2.093),
        (29, 2.045),
    ];
    TABLE.iter().rev().find(|(least, _)| *least <= freedom).map_or(f64::INFINITY, |(_, t)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_smaller_for_similar_values() {
        let (mean, half) = interval(&[1.0, 1.2, 1.1, 1.1]);
        assert!((mean - 1.1).abs() < 1e-9);
        // s = 0.0816, s/sqrt(4) = 0.0408, t(3) = 3.182.
        assert!((half - 0.1299).abs() < 1e-3, "{half}");
        assert_eq!(interval(&[1.0]).1, f64::INFINITY);
    }
}
