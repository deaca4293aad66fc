//! Address map of the modelled machine.

/// RAM.
pub const RAM: u64 = 0x4000_0000;
/// Bytes of RAM.
pub const RAM_BYTES: u64 = 0x400_0000;
/// EL2's memory from boot on: image, tables and pool.
pub const EL2: u64 = RAM + RAM_BYTES - EL2_BYTES;
/// Size of EL2's memory in bytes.
pub const EL2_BYTES: u64 = 0x100_0000;
/// A page of EL2 with known content.
pub const SECRET: u64 = EL2 + 0x1000;
/// Tables of the IOMMU stage 2.
pub const TABLES: u64 = EL2 + 0x10_0000;
/// Size of that memory in bytes.
pub const TABLES_BYTES: u64 = 0x8_0000;
/// Tables of the guests' IOMMU stage 2.
pub const GUEST_TABLES: u64 = TABLES + TABLES_BYTES;
/// Size of that memory in bytes.
pub const GUEST_TABLES_BYTES: u64 = POOL - GUEST_TABLES;
/// Size in bytes of the tables of one guest.
pub const GUEST_TABLE_BYTES: u64 = 0x2_0000;
/// Buffers of the drivers.
pub const POOL: u64 = EL2 + 0x20_0000;
/// Size of that memory in bytes.
pub const POOL_BYTES: u64 = EL2_BYTES - 0x20_0000;

/// Distributor and redistributors.
pub const GIC: u64 = 0x0800_0000;
/// ITS control frame.
pub const ITS: u64 = 0x0808_0000;
/// ITS translater page: the one device page that DMA may write.
pub const TRANSLATER: u64 = 0x0809_0000;
/// Size of the translater page in bytes.
pub const TRANSLATER_BYTES: u64 = 0x1_0000;
/// First SMMU; others follow.
pub const SMMU: u64 = 0x0905_0000;
/// UART.
pub const UART: u64 = 0x0900_0000;
/// A device's BAR.
pub const BAR: u64 = 0x1000_0000;
/// ECAM.
pub const ECAM: u64 = 0x40_1000_0000;

/// The host's linear or level-1 stream table.
pub const HOST_STRTAB: u64 = RAM + 0x10_0000;
/// Level-2 stream tables of the host.
pub const HOST_L2: u64 = RAM + 0x14_0000;
/// Command queue of the host.
pub const HOST_CMDQ: u64 = RAM + 0x18_0000;
/// Event queue of the host.
pub const HOST_EVTQ: u64 = RAM + 0x19_0000;
/// Context descriptors of the host.
pub const HOST_CD: u64 = RAM + 0x1a_0000;
/// Stage 1 tables of the host: one page per level.
pub const HOST_S1: u64 = RAM + 0x1b_0000;
/// Address to which CMD_SYNC of the host stores.
pub const HOST_FLAG: u64 = RAM + 0x1c_0000;
/// Data pages of the host, which it may donate.
pub const HOST_DATA: u64 = RAM + 0x100_0000;
/// An IOVA that the host's stage 1 maps.
pub const IOVA: u64 = 0x10_0000;
/// The StreamID of the attacking device.
pub const SID: u32 = 8;
/// StreamIDs that tests check: the first, the one of the attacking device, another, and the last of the linear table.
pub const SIDS: [u32; 4] = [0, SID, 9, 63];
