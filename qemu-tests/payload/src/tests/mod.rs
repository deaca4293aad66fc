//! The tests. Each registers itself; `tNN_…` is a row of the attack catalogue.

pub mod boot;
pub mod demo;
pub mod drivers;
