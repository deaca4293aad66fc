//! What has to be on the machine before anything runs, put there without questions
//! and only if it is missing. What may not be installed is named, with the command
//! to type.

pub mod apt;
pub mod debian;
pub mod headers;
pub mod qemu;
pub mod qemu_release;
pub mod system;
