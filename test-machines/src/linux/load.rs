//! Every CPU of the guest reads both disks for some seconds. This tests the size and the lock of the SMMU's command
//! queue: kernels before 7.0 lock up if many CPUs use a short queue.

use crate::linux::verdict::Expect;
use crate::qemu::Machine;

/// Maximum real seconds per guest second on a busy build machine.
pub const REAL_SECONDS: u64 = 30;

/// Guest time advances by 8 ns for each instruction of any CPU. With real time, eight guest CPUs on two CPUs of the
/// build machine could time out only because another guest CPU is not scheduled.
pub fn by_instructions(machine: &mut Machine) {
    machine.arg("-icount").arg("shift=3,sleep=off");
}

/// Options for the guest's script.
pub fn private_args(seconds: u64) -> String {
    format!("portcullis.load={seconds}")
}

/// Expected output of the guest, besides the disk digests.
pub fn expect(el2_append: &str) -> Expect {
    let mut expect = Expect {
        checks: vec!["el1", "smmu", "load_reads", "load_log"],
        counts: vec!["load_nvme_rounds", "load_virtio_blk_rounds", "cmdq_entries"],
        ..Expect::default()
    };
    if let Some(entries) = entries(el2_append) {
        expect.values.push(("cmdq_entries", entries.to_string()));
    }
    expect
}

/// The command queue size set on EL2's command line.
fn entries(el2_append: &str) -> Option<u64> {
    let log2 = el2_append.split_whitespace().find_map(|word| word.strip_prefix("cmdq="))?;
    1_u64.checked_shl(log2.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_size_is_expected() {
        assert_eq!(entries("pool=4M cmdq=8"), Some(256));
        assert_eq!(entries(""), None);
        assert!(expect("cmdq=14").values.contains(&("cmdq_entries", "16384".to_owned())));
    }
}
