//! Attacks of firmware that continues as a part of the host (row T70): a transfer in flight while EL2 takes over,
//! DMA afterwards, tables that change afterwards, and a program that allocates EL2's memory by address.
//!
//! It starts `portcullis.efi` itself, from the same disk, and prints results as the EL1 payload does: `TEST`, `ATTACK`,
//! `CONTROL`, `ANNOUNCED`. On other targets this program is empty.
#![cfg_attr(target_os = "uefi", no_std, no_main)]
#![allow(unreachable_pub)] // A binary exports nothing: `pub` here means visible to its other modules.

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod attack;
#[cfg(target_os = "uefi")]
mod edu;
#[cfg(target_os = "uefi")]
mod loader;

#[cfg(not(target_os = "uefi"))]
fn main() {}
