//! Implementations on the model, each of which can be broken in one way.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod host;
pub mod platform;
pub mod smmus;
pub mod tables;
