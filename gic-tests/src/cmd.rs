//! The commands of an ITS, in the format that a host's driver writes.

use crate::{ITT, r};

/// A command: four 64-bit words.
pub type Cmd = [u64; 4];

/// Maps a device with 2^`bits` events.
pub fn mapd(device: u64, bits: u64) -> Cmd {
    [device << 32 | 0x08, bits - 1, r::VALID | ITT, 0]
}

/// Unmaps a device.
pub fn unmapd(device: u64) -> Cmd {
    [device << 32 | 0x08, 0, 0, 0]
}

/// Maps a collection to a processor number.
pub fn mapc(icid: u64, cpu: u64) -> Cmd {
    [0x09, 0, r::VALID | cpu << 16 | icid, 0]
}

/// Unmaps a collection.
pub fn unmapc(icid: u64) -> Cmd {
    [0x09, 0, icid, 0]
}

/// Maps an event to an LPI and a collection.
pub fn mapti(device: u64, event: u64, lpi: u64, icid: u64) -> Cmd {
    [device << 32 | 0x0a, lpi << 32 | event, icid, 0]
}

/// Maps an event to the LPI with the same number.
pub fn mapi(device: u64, event: u64, icid: u64) -> Cmd {
    [device << 32 | 0x0b, event, icid, 0]
}

/// Moves an event to a collection.
pub fn movi(device: u64, event: u64, icid: u64) -> Cmd {
    [device << 32 | 0x01, event, icid, 0]
}

/// Moves all LPIs of a processor number to another one.
pub fn movall(from: u64, to: u64) -> Cmd {
    [0x0e, 0, from << 16, to << 16]
}

/// Makes the ITS read the configuration of an event's LPI again.
pub fn inv(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x0c, event, 0, 0]
}

/// Makes the ITS read the configuration of a collection's LPIs again.
pub fn invall(icid: u64) -> Cmd {
    [0x0d, 0, icid, 0]
}

/// Makes an event pending.
pub fn int(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x03, event, 0, 0]
}

/// Makes an event not pending.
pub fn clear(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x04, event, 0, 0]
}

/// Unmaps an event.
pub fn discard(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x0f, event, 0, 0]
}

/// Completes the earlier commands for a processor number.
pub fn sync(cpu: u64) -> Cmd {
    [0x05, 0, cpu << 16, 0]
}
