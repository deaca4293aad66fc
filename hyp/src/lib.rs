//! The library of the reference hypervisor: pure logic without hardware access.
//!
//! The binary connects these modules to exception vectors, page tables and devices. All of it builds
//! and is tested on the build machine.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(test)]
extern crate std;

pub mod backlog;
mod bits;
pub mod boot_info;
pub mod cpu;
pub mod donated;
pub mod ending;
pub mod errata;
pub mod esr;
pub mod gic_frames;
pub mod hvc;
pub mod inject;
pub mod pci;
pub mod smccc;
pub mod step;
pub mod uart;
