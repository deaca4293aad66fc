//! EL2's own stage 1, the host's CPU stage 2, and memory for their tables.

pub mod el2;
pub mod host_s2;
pub mod tables;

/// The host's pages, for claims.
pub type HostPages = mem_protect::HostPages<'static, el2::El2Table>;
