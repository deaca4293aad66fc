//! The application's entry point and its steps.

use alloc::format;
use alloc::string::String;
use uefi::prelude::*;
use uefi::runtime::{self, VariableVendor};
use uefi::{cstr16, println};

use crate::own::Own;
use crate::{enter, machine, options};

/// EL2's image, an arm64 Image.
pub static IMAGE: &[u8] = include_bytes!(env!("PORTCULLIS_IMAGE"));

#[entry]
fn main() -> Status {
    println!("Portcullis {}: DMA isolation at EL2", env!("CARGO_PKG_VERSION"));
    match run() {
        Ok(()) => {
            println!("portcullis: EL2 runs; all later software is at EL1, and its DMA can only access its memory");
            // If a boot entry returns success, the firmware starts no further entry.
            if is_boot_entry() { Status::ABORTED } else { Status::SUCCESS }
        }
        Err(why) => {
            println!("portcullis: error: {why}");
            println!("portcullis: EL2 does not run and NOTHING IS ISOLATED: all later software runs without it");
            Status::ABORTED
        }
    }
}

fn run() -> Result<(), String> {
    enter::check()?;
    let command_line = options::read()?;
    let own = Own::allocate(IMAGE)?;
    let tree = machine::describe(own.range(), &command_line)?;
    let places = own.fill(IMAGE, &tree)?;
    match enter::hand_over(&places) {
        Ok(()) => {
            own.keep();
            Ok(())
        }
        Err(why) => Err(format!("EL2 refuses: {why}")),
    }
}

/// Whether the boot manager started this program from a `Boot####` entry, not from a `SysPrep####` entry.
fn is_boot_entry() -> bool {
    runtime::variable_exists(cstr16!("BootCurrent"), &VariableVendor::GLOBAL_VARIABLE).unwrap_or(false)
}
