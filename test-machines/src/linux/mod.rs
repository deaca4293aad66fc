//! Debian Linux as the untrusted host, or without a hypervisor for comparison: one boot, the expected output of the
//! guest, and its evaluation.

pub mod attack;
pub mod attack_boots;
pub mod boot;
pub mod devices;
pub mod guest;
pub mod guest_lines;
pub mod hand_over;
pub mod kexec;
pub mod load;
pub mod module;
pub mod report;
pub mod uefi;
pub mod variant;
pub mod verdict;
