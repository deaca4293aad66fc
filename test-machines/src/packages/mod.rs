//! Software that must be on the machine before a test runs. It is installed without prompts, and only if it is
//! missing. If it may not be installed, the error has the command to type.

pub mod apt;
pub mod debian;
pub mod firmware;
pub mod headers;
pub mod qemu;
pub mod qemu_release;
pub mod system;
