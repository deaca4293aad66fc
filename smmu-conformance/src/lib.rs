//! Checks of the traits that a hypervisor implements for `smmu-drv`, `io-pgtable` and `shadow-s2`.
//!
//! | you implement | check | what it needs from you |
//! |---|---|---|
//! | `smmu_drv::Platform`, `DmaBuffer` | [`check_platform`] | [`Observer`]: memory as the SMMU sees it |
//! | `smmu_drv::HostMemory` | [`check_host_memory`] | [`Host`]: accesses of the host, and your change of owner |
//! | `io_pgtable::TableMemory` | [`check_table_memory`] | [`Observer`] |
//! | `shadow_s2::Invalidate` | [`check_invalidate`] | [`Devices`]: DMA through old translations |
//!
//! Each returns the first violated contract. After success no memory is allocated or claimed; after a violation some
//! may be, so do not use the implementation any more.
//!
//! ```
//! use io_pgtable::Pa;
//! use smmu_conformance::{Observer, Violation, check_platform};
//! use smmu_drv::Platform;
//!
//! /// Call it for the board, and for the simulator on which your tests run.
//! fn my_platform_is_sound<P: Platform>(platform: &P, observer: &mut impl Observer) {
//!     if let Err(violation) = check_platform(platform, observer) {
//!         panic!("the platform breaks a contract of smmu-drv: {violation}");
//!     }
//! }
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod host;
mod invalidate;
mod platform;
mod tables;
mod violation;

use io_pgtable::Pa;

pub use host::{Host, Refused, check_host_memory};
pub use invalidate::{Devices, check_invalidate};
pub use platform::check_platform;
pub use tables::check_table_memory;
pub use violation::Violation;

/// Memory of the hypervisor as the SMMU sees it. On a board: a device that makes transfers through a bypassing stream.
/// On the build machine: the simulated SMMU.
///
/// Addresses are those of allocated buffers and tables.
pub trait Observer {
    /// Reads the 64-bit word at `pa` as the SMMU does, at the latest moment that the architecture allows: a store is not
    /// seen if no barrier has ordered it or, if the SMMU does not snoop, if it was not cleaned.
    fn device_read64(&mut self, pa: Pa) -> u64;
    /// Writes the 64-bit word at `pa` as the SMMU does.
    fn device_write64(&mut self, pa: Pa, value: u64);
    /// Completes all earlier stores and cleans of this CPU, with its own instruction and not with the checked
    /// implementation.
    fn barrier(&mut self);
    /// Writes back every dirty line of this CPU's caches, which hardware may do at any time: a clean of everything by
    /// set and way. Does nothing without caches.
    fn write_back(&mut self);
}

/// Returns `Err(violation)` if `kept` is false.
fn require(kept: bool, violation: Violation) -> Result<(), Violation> {
    if kept { Ok(()) } else { Err(violation) }
}

/// A word that memory does not contain by chance; it differs for each number.
fn pattern(n: u64) -> u64 {
    n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
