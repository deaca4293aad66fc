//! A guest gets the NVMe from a running Linux, which takes it back, binds its driver and reads the disk, several times,
//! while the other disk is read and pages change owner.

use crate::console::AttackResult::Blocked;
use crate::linux::verdict::Expect;

/// Adds what the guest's script has to print.
pub fn add(expect: &mut Expect) {
    expect.checks.extend([
        "module",
        "control_hand_over_before",
        "control_hand_over_after",
        "given",
        "driver_after_return",
        "disk_after_return",
        "interrupts_after_return",
        "others_meanwhile",
        "rescan_after_return",
        "module_out",
    ]);
    expect.counts.extend(["hand_overs", "transitions"]);
    expect.values.push(("transition_failures", "0".to_owned()));
    expect.attacks.extend([("function_config", Blocked), ("function_registers", Blocked)]);
}
