//! What the emulated machine is given: an initramfs with busybox, the modules it needs
//! and the script that does the checks, and disks whose contents xtask knows.

pub(crate) mod cpio;
pub(crate) mod disks;
pub(crate) mod initramfs;
pub(crate) mod modules;
