//! Checks of the boot loader's input, before anything else runs.
//!
//! EL2 gets the description of the machine from an untrusted flattened device tree. All later isolation depends on
//! it: the owner of each page, the registers that the host may access, the masters behind each SMMU. So the modules
//! below are pure functions from bytes to plain data, return only checked addresses, and refuse unknown input.
//!
//! The order of a boot:
//!
//! 1. [`dtb_size`] on the first bytes at x0, then [`Early::read`]: the console and the token, even if the rest is
//!    invalid.
//! 2. [`Platform::parse`]: memory, modules, CPUs, GIC, SMMUs, PCI hosts; [`Platform::read_rules`] of the policy module.
//! 3. [`MmioPolicy::decide`]: each node with registers is given, emulated or withheld, with a reason.
//! 4. [`layout::plan`]: EL2's pool, the host's memory, the address of the host's own device tree.
//! 5. [`plan::check`]: the check of the finished plan.
//! 6. [`fdt_edit::write_host_dtb`]: writes that tree, without EL2's command line.
//!
//! [`evaluate()`] is steps 2 to 5 in one call, for tools and tests.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions)]

pub mod boot_map;
mod cells;
pub mod cmdline;
pub mod cpus;
pub mod early;
pub mod entry;
pub mod error;
mod evaluate;
pub mod fdt_edit;
pub mod gic;
pub mod image;
pub mod layout;
pub mod memory;
mod module_kind;
pub mod modules;
mod named;
mod overlap;
mod path;
pub mod pci;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod power;
pub mod range;
mod rule_kind;
pub mod rules;
pub mod smmu;
pub mod tree;
pub mod uart;
mod wired;
mod writer;

#[cfg(test)]
mod tests;

pub use early::Early;
pub use entry::Entry;
pub use error::BootError;
pub use evaluate::{Evaluated, evaluate, evaluate_with_policy};
pub use image::ImageHeader;
pub use layout::{Layout, Request};
pub use platform::Platform;
pub use policy::MmioPolicy;
pub use range::{PhysRange, RangeSet};
pub use tree::{NodeId, Path, dtb_size};
