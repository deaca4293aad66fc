//! What the boot loader handed over, judged before anything else runs.
//!
//! EL2 learns about the machine from a flattened device tree that it did not write, and everything that later keeps the
//! host in its place starts here: which memory is whose, which registers the host may reach, which masters sit behind
//! an SMMU. So the modules below are pure functions from bytes to plain data, they hold no address that they have not
//! checked, and they refuse what they do not understand.
//!
//! The order of a boot:
//!
//! 1. [`dtb_size`] on the first bytes at x0, then [`Early::read`]: the console and the token, even when the rest is
//!    bad.
//! 2. [`Platform::parse`]: memory, modules, CPUs, GIC, SMMUs, PCI hosts.
//! 3. [`MmioPolicy::decide`]: each node with registers is given, emulated or withheld, with a reason.
//! 4. [`layout::plan`]: EL2's pool, the host's memory, the place of the host's own device tree.
//! 5. [`plan::check`]: the finished plan, held against one sentence.
//! 6. [`fdt_edit::write_host_dtb`]: that tree, without a trace of EL2's command line.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

pub mod array;
mod cells;
pub mod cmdline;
pub mod cpus;
pub mod early;
pub mod error;
pub mod fdt_edit;
pub mod gic;
pub mod image;
pub mod layout;
pub mod memory;
mod module_kind;
pub mod modules;
mod named;
pub mod pci;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod power;
pub mod range;
pub mod smmu;
pub mod tree;
pub mod uart;
mod writer;

#[cfg(test)]
mod tests;

pub use array::Array;
pub use early::Early;
pub use error::BootError;
pub use image::ImageHeader;
pub use layout::{Layout, Request};
pub use platform::Platform;
pub use policy::MmioPolicy;
pub use range::{PhysRange, RangeSet};
pub use tree::{NodeId, Path, dtb_size};
