//! Rust software that must be installed: targets and components of the toolchain, and cargo subcommands.

pub(crate) mod rust;
pub(crate) mod tools;
