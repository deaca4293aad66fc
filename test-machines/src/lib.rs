//! Machines under QEMU for tests: their images, their start and end, and the evaluation of their consoles.
//!
//! [`qemu`] starts a machine under a timeout and collects its consoles, which [`console`] parses; [`images`] converts
//! the images that it boots. [`payload`] runs one test of the EL1 payload, [`boot_input`] and [`firmware`] run
//! variants of EL2's boot input and firmware, [`two_smmus`] is a machine with two of them, and [`trap_log`] counts what
//! EL2 prints in each trap. [`linux`] boots
//! Debian Linux and evaluates what the guest reports; [`guest`] makes its initramfs and disks. [`packages`] fetches
//! kernels, programs and QEMU itself with apt, without touching the system. All files are in a [`work`] folder.
//! [`exec`] and [`progress`] run programs and print progress messages.

pub mod board_policy;
pub mod boot_input;
pub mod console;
pub mod exec;
pub mod firmware;
pub mod firmware_attack;
pub mod guest;
pub mod images;
pub mod linux;
pub mod load_address;
pub mod packages;
pub mod payload;
pub mod progress;
pub mod qemu;
pub mod trap_log;
mod tree;
pub mod two_smmus;
pub mod work;
