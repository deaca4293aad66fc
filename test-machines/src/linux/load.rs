//! Every CPU of the guest reads both disks for a while: the SMMU's command queue, its size and its lock are what is
//! tried. Kernels before 7.0 lock up where a queue is short and CPUs are many.

use crate::linux::verdict::Expect;
use crate::qemu::Machine;

/// How long a second of the machine's may take on a busy machine.
pub const REAL_SECONDS: u64 = 30;

/// Has the machine's time pass with instructions, 8 ns for each, of whichever CPU. With eight CPUs on two real ones, one
/// that waits for another would otherwise wait as long as the machine that builds leaves that one without time, and
/// time out for that reason alone.
pub fn by_instructions(machine: &mut Machine) {
    machine.arg("-icount").arg("shift=3,sleep=off");
}

/// Words for the guest's script.
pub fn private_args(seconds: u64) -> String {
    format!("portcullis.load={seconds}")
}

/// What the guest has to say, beside the digests of its disks.
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

/// The size of the command queue that EL2's command line has it show.
fn entries(el2_append: &str) -> Option<u64> {
    let log2 = el2_append.split_whitespace().find_map(|word| word.strip_prefix("cmdq="))?;
    1_u64.checked_shl(log2.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_asked_for_is_the_size_expected() {
        assert_eq!(entries("pool=4M cmdq=8"), Some(256));
        assert_eq!(entries(""), None);
        assert!(expect("cmdq=14").values.contains(&("cmdq_entries", "16384".to_owned())));
    }
}
