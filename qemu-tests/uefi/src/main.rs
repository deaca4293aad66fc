//! Attacks of firmware that goes on running below the host (row T70): a transfer that is in flight while EL2 is taken,
//! DMA afterwards, tables that change afterwards, and an image that asks for EL2's memory.
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
