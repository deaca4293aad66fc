//! Common parts of the device emulations of a hypervisor with an untrusted host.
//!
//! - [`memory`]: host memory that is claimed while it is read, and EL2's memory that a device walks.
//! - [`access`]: the registers of the host's view, as a table; all other accesses are denied.
//! - [`field`]: words built from fields.
//! - [`encoding`]: enums of the values that an architecture defines.
//! - [`budget`]: the limit of the work of one trap.
//!
//! ```
//! use host_access::access::{AccessSize, Part};
//!
//! mod reg {
//!     pub const CTLR: u32 = 0x0;
//!     pub const BASER: u32 = 0x8;
//! }
//! host_access::register_table! {
//!     Ctlr reg::CTLR, Bits32, "last written", "stored";
//!     Baser reg::BASER, Bits64, "last written", "stored";
//! }
//! assert_eq!(search(0x8, AccessSize::Double), Some((Register::Baser, Part::Double)));
//! assert_eq!(search(0xc, AccessSize::Word), Some((Register::Baser, Part::High)));
//! assert_eq!(search(0x0, AccessSize::Byte), None);
//! ```
#![no_std]
#![forbid(unsafe_code)]
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

pub mod access;
pub mod budget;
pub mod encoding;
pub mod field;
pub mod memory;
