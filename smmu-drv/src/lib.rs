//! An SMMUv3 taken away from an untrusted host: driver, shadow structures and register emulation.
#![no_std]
#![forbid(unsafe_code)]

pub mod platform;
