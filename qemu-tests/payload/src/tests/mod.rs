//! The tests. Each registers itself; `tNN_…` is a row of the attack catalogue.

pub mod aarch32;
pub mod boot;
pub mod commands;
pub mod concurrent;
pub mod costly;
pub mod cpu_access;
pub mod demo;
pub mod drivers;
pub mod errata;
pub mod features;
pub mod hypercalls;
pub mod interrupts;
pub mod its;
pub mod its_commands;
pub mod its_delivery;
pub mod its_tables;
pub mod ownership;
pub mod platform;
pub mod pool;
pub mod registers;
pub mod second_kernel;
pub mod smc;
pub mod stress;
pub mod suspend;
pub mod tables;
pub mod traps;
