//! Portcullis' reference hypervisor: EL2 below an unmodified Linux host, with a stage 2 of EL2 for every DMA master.
//!
//! The binary has the hardware access: assembly, system registers, memory by address. The decisions are in the
//! package's library, which is tested on the build machine.
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
mod devices;
mod exit;
#[cfg(feature = "ghost")]
mod ghost;
mod gic;
mod host;
mod iommu;
mod memory;
mod ownership;
#[cfg(target_os = "none")]
mod panic;
mod pool;
mod pool_buffer;
mod psci;
mod stopping;
mod trap;
