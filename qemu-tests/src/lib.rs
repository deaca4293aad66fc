//! Runs machines under QEMU and judges them.
//!
//! The tests of this package, the demonstration and the Linux boots of xtask share one
//! way to start a machine ([`qemu`]), to read its consoles ([`console`]) and to make
//! what it boots ([`images`]). [`payload`] runs one test of the EL1 payload.

pub mod boot_input;
pub mod console;
pub mod firmware;
pub mod images;
pub mod payload;
pub mod qemu;
