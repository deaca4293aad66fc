//! The tests. Each registers itself; `tNN_…` is a row of the attack catalogue.

pub mod boot;
pub mod cpu_access;
pub mod demo;
pub mod drivers;
pub mod hypercalls;
pub mod ownership;
pub mod registers;
pub mod smc;
pub mod traps;
