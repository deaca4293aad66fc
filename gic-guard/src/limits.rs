//! The limits of the state that EL2 keeps for a host. Beyond them a command does nothing, which affects the host only.

/// Maximum number of ITSs.
pub const MAX_ITS: usize = 8;
/// Maximum number of redistributors.
pub const MAX_RDS: usize = 64;
/// Maximum number of mapped devices of all ITSs together.
pub const MAX_DEVICES: usize = 512;
/// Maximum EventID bits of a device; MSI-X needs 11.
pub const MAX_EVENT_BITS: u32 = 13;
/// Maximum number of collections of an ITS; Linux uses one for each CPU.
pub const MAX_COLLECTIONS: u32 = 512;
/// Maximum INTID bits: 57,344 LPIs.
pub const MAX_INTID_BITS: u32 = 16;
/// Maximum number of level-2 device tables of an ITS. One covers 8,192 DeviceIDs with pages of 64 KiB and entries of 8 bytes.
pub const MAX_L2_TABLES: usize = 64;
/// Maximum bytes of a flat device table, for hardware without two-level tables.
pub const MAX_FLAT_TABLE: u64 = 1 << 20;
/// Maximum bytes of interrupt translation tables, records of events, and level-2 tables together: 256 devices with
/// 2,048 interrupts each need 12 MiB if entries have 12 bytes.
pub const MAX_DEVICE_BYTES: usize = 16 << 20;

// Indices of redistributors and ITSs are stored in one byte.
const _: () = assert!(MAX_RDS < 255 && MAX_ITS < 255);
