//! The hypercall interface: function identifiers, registers and error codes.
//!
//! Calls are fast SMC64-convention HVCs in the vendor-specific hypervisor range (Arm DEN0028, SMCCC 1.5, chapter 6).
//! X0 is the function identifier; X1 and later registers are the arguments. X0 to X3 are the result; unused registers
//! are zero. Unknown identifiers return NOT_SUPPORTED.
#![forbid(unsafe_code)]

mod abi;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;

pub use abi::{Answer, DeviceCall, Features, Function, Request, Stat, Status, VERSION_MAJOR, VERSION_MINOR};
