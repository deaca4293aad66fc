//! `portcullis.efi`: UEFI firmware at EL2 runs this program, which starts Portcullis at EL2; the firmware continues at
//! EL1.
//!
//! The program collects the firmware's description of the machine, reserves memory, copies EL2's image and the device
//! tree to it, and enters the image (`hand-over`). Then it returns to the firmware. Every driver, loader and operating
//! system that starts later is part of the host. On other targets this program is empty.
#![cfg_attr(target_os = "uefi", no_std, no_main)]
#![allow(unreachable_pub)] // A binary exports nothing: `pub` here means visible to its other modules.

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod acpi;
#[cfg(target_os = "uefi")]
mod efi;
#[cfg(target_os = "uefi")]
mod enter;
#[cfg(target_os = "uefi")]
mod machine;
#[cfg(target_os = "uefi")]
mod options;
#[cfg(target_os = "uefi")]
mod own;
#[cfg(target_os = "uefi")]
mod registers;
#[cfg(target_os = "uefi")]
mod spaces;
#[cfg(target_os = "uefi")]
mod translation;

#[cfg(not(target_os = "uefi"))]
fn main() {}
