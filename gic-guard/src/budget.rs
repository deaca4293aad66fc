//! The work of one trap. See `docs/gic-emulation.md`.

/// Units of one trap. One unit is about the work of one command.
pub const TRAP: u32 = 1024;
/// A command of the host, or a command that EL2 gives to hardware for it.
pub const COMMAND: u32 = 1;
/// A record of an event that is read, or a word of 64 LPIs.
pub const EVENT: u32 = 1;
/// A host page that is claimed and read, or a failed claim.
pub const PAGE: u32 = 8;
/// A SYNC of hardware.
pub const SYNC: u32 = 16;
/// A MOVALL: hardware walks the pending tables of two redistributors.
pub const MOVALL: u32 = 4 * SYNC;
/// Allocating and zeroing, or freeing, 4 KiB of memory.
pub const ALLOC: u32 = 4;

/// 4 KiB blocks of a device that has the most events: an ITT of 16-byte entries, and records of 8 bytes.
const DEVICE: u32 = (16 + 8) << (crate::limits::MAX_EVENT_BITS - 12);
/// The most expensive step that starts again from its beginning: a device is freed and mapped again, with a level-2
/// table of 64 KiB.
const REMAP: u32 = 6 * COMMAND + 2 * PAGE + SYNC + ALLOC * (2 * DEVICE + 16);
const _: () = assert!(REMAP <= TRAP);
/// A SYNC on each ITS.
const _: () = assert!(SYNC * 8 < TRAP && crate::limits::MAX_ITS == 8);

/// The rows of docs/gic-emulation.md: the work, its charge, and its maximum per trap.
pub const CHARGES: [(&str, u32, u32); 6] = [
    ("command", COMMAND, TRAP),
    ("event", EVENT, TRAP),
    ("page", PAGE, TRAP / PAGE),
    ("SYNC", SYNC, TRAP / SYNC),
    ("MOVALL", MOVALL, TRAP / MOVALL),
    ("allocation", ALLOC, TRAP / ALLOC),
];
