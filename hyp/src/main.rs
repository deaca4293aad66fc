//! Portcullis' reference hypervisor: EL2 under an unmodified Linux host, with every DMA master behind a stage 2 that
//! EL2 owns.
//!
//! The binary is the rim: assembly, system registers, memory by address, and the wiring of the library crates. What is
//! decided is decided in the package's library, where the build machine tests it.
#![cfg_attr(target_os = "none", no_std)]
#![no_main]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
#![allow(unreachable_pub)] // A binary exports nothing: `pub` here means visible to its other modules.

mod arch;
mod audit;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)] // Runs once, before the host does.
mod boot;
mod console;
mod exit;
mod gic;
mod host;
mod iommu;
mod memory;
mod ownership;
#[cfg(target_os = "none")]
mod panic;
mod pool;
mod psci;
mod stopping;
mod trap;
#[cfg(feature = "ghost")]
mod watch;
