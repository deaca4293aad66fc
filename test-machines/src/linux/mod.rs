//! Debian Linux as the untrusted host, or alone for comparison: one boot, what the guest has to report, and the verdict.

pub mod attack;
pub mod attack_boots;
pub mod boot;
pub mod guest;
pub mod guest_lines;
pub mod kexec;
pub mod load;
pub mod module;
pub mod report;
pub mod variant;
pub mod verdict;
