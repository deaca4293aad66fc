//! Addresses of the machine's memory.

/// The host's memory.
pub const RAM: u64 = 0x4000_0000;
/// The size of the host's memory.
pub const RAM_SIZE: u64 = 0x0400_0000;
/// A guest's memory.
pub const GUEST: u64 = 0x6000_0000;
/// The host's command queues.
pub const RING: u64 = RAM + 0x10_0000;
/// The host's device tables.
pub const DEVICES: u64 = RAM + 0x20_0000;
/// The host's collection tables.
pub const COLLECTIONS: u64 = RAM + 0x28_0000;
/// The host's translation tables.
pub const ITT: u64 = RAM + 0x30_0000;
/// The host's configuration table.
pub const PROP: u64 = RAM + 0x40_0000;
/// The host's pending tables.
pub const PEND: u64 = RAM + 0x50_0000;
