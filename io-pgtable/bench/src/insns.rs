//! Instructions per operation, counted by callgrind in a child process: the figure is exactly reproducible.

use std::process::Command;

use crate::workload::Workload;

/// Instructions per operation of the measured region; `None` without valgrind.
pub(crate) fn per_op(subject: &str, workload: Workload, bits: u32) -> Option<f64> {
    let own = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*measured_region*")
        .arg(own)
        .args(["--child", subject, workload.name(), &bits.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    let total: f64 = line.rsplit(':').next()?.trim().parse().ok()?;
    let ops: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    Some(total / ops)
}
