//! Memory as EL2 sees it: its own stage 1, the host's CPU stage 2, and the tables they are made of.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

pub mod el2;
pub mod host_s2;
pub mod tables;

/// The host's pages, to claim, read and write.
pub type HostPages = mem_protect::HostPages<'static, el2::El2Table>;
