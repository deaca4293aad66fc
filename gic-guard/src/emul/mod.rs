//! The host's view: its registers, row by row, and the check of its commands.

pub use host_access::access::{Part, Width};

pub mod decide;
pub mod gicr;
pub mod gits;
