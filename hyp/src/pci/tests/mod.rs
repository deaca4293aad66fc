//! Tests on a modelled bus: an NVMe-like function with a reset, one without, a root port with a bus behind it.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod aliases;
mod buses;
mod ecam;
mod extended;
mod failed_begin;
mod fixed_buses;
mod handover;
mod inspect;
mod machine;
mod messages;
