//! Implementations on the model that can violate one contract.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod host;
pub mod platform;
pub mod smmus;
pub mod tables;
