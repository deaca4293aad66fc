//! Software that a test needs on the build machine. If it is missing, it is installed without prompts; if that is not
//! allowed, the error contains the command to type.

pub mod apt;
pub mod debian;
pub mod firmware;
pub mod headers;
pub mod qemu;
pub mod qemu_release;
pub mod system;
