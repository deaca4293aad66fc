//! Interrupts move between CPUs, drivers are unbound and bound, functions are removed and found by a rescan, in one
//! kernel or in two kernels (`kexec -e`). The emulated GIC and the SMMU's stream table must follow these changes.

use crate::linux::verdict::Expect;

/// The checks of each kernel, besides the digests.
const FIRST: [&str; 8] = [
    "first_interrupt_per_cpu",
    "first_network_affinity",
    "first_nvme_affinity",
    "first_rebind_nvme",
    "first_rebind_virtio_blk",
    "first_rebind_network",
    "first_rescan",
    "first_interrupt_per_cpu_again",
];
const SECOND: [&str; 8] = [
    "second_interrupt_per_cpu",
    "second_network_affinity",
    "second_nvme_affinity",
    "second_rebind_nvme",
    "second_rebind_virtio_blk",
    "second_rebind_network",
    "second_rescan",
    "second_interrupt_per_cpu_again",
];

/// Adds the checks of the first kernel.
pub fn first(expect: &mut Expect) {
    expect.checks.extend(FIRST);
}

/// Adds the checks of both kernels, and that the second one ran.
pub fn both(expect: &mut Expect) {
    first(expect);
    expect.checks.push("kexec_loaded");
    expect.checks.extend(SECOND);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_makes_every_check() {
        let script = include_str!("../guest/devices.sh");
        for (checks, kernel) in [(FIRST, "first"), (SECOND, "second")] {
            for check in checks {
                let text = check.replace(kernel, "\"$1").replacen("\"$1_", "check \"$1_", 1);
                assert!(script.contains(&format!("{text}\"")), "{check}");
            }
        }
    }
}
