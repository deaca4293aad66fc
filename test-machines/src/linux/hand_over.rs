//! The NVMe is assigned to a guest and returned several times under a running Linux, which binds its driver and reads
//! the disk each time. Meanwhile the other disk is read and pages change owner.

use crate::console::AttackResult::Blocked;
use crate::linux::verdict::Expect;

/// Adds the expected output of the guest's script.
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
