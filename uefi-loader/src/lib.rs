//! The parts of the loader that do not call the firmware: they convert EL2's registers and translation tables to EL1's
//! format.
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

pub mod command_line;
pub mod el1;
pub mod tables;
