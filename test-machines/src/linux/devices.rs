//! Interrupts that move between CPUs, drivers that are unbound and bound, functions that are removed and found again: in
//! one kernel, or in two that follow each other by `kexec -e`. The GIC that EL2 emulates and the SMMU's stream table
//! follow what the kernel does with its devices.

use crate::linux::verdict::Expect;

/// What each kernel checks, besides the digests.
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

/// Adds what the kernel checks that boots first.
pub fn first(expect: &mut Expect) {
    expect.checks.extend(FIRST);
}

/// Adds what both kernels check, and that there are two.
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
