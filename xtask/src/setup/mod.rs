//! The Rust side of what has to be on the machine: targets and components of the toolchain, and helpers of cargo.

pub(crate) mod rust;
pub(crate) mod tools;
