//! Tests with trees like QEMU's `virt` machine and with corrupted ones.
#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod board_devices;
mod board_policy;
mod board_trees;
mod cmdline;
mod edit;
mod hostile;
mod hostile_policy;
mod layout;
mod masters;
mod oracle;
mod overlap;
mod parse;
mod policy;
mod power;
mod qemu;
mod range;
mod uefi;
mod virt;
mod withheld;
