//! Runs machines under QEMU and evaluates the result.
//!
//! The tests of this package, the demonstration and the Linux boots of xtask share the code to start a machine
//! ([`qemu`]), to read its consoles ([`console`]) and to make what it boots ([`images`]). [`payload`] runs one test of
//! the EL1 payload.

pub mod boot_input;
pub mod console;
pub mod firmware;
pub mod images;
pub mod payload;
pub mod qemu;
