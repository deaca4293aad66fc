//! Armv8 LPAE page tables for CPUs and IOMMUs.
#![no_std]

mod addr;

pub use addr::{Iova, Ipa, Pa};
