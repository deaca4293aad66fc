//! Commands, events and fields of registers by their names; positions are written independently of the driver.

/// CMD_SYNC with CS, completed by a store of `data` to `address`, or by the wired interrupt if `address` is 0.
pub fn sync_irq(data: u64, address: u64) -> [u64; 2] {
    [0x46 | 1 << 12 | data << 32, address]
}

/// CMD_SYNC with this CS and nothing else.
pub fn sync_cs(cs: u64) -> [u64; 2] {
    [0x46 | cs << 12, 0]
}

pub const CS_RESERVED: u64 = 3;

/// CMD_CFGI_STE, Leaf == 0.
pub fn cfgi_ste_walk(sid: u32) -> [u64; 2] {
    [3 | u64::from(sid) << 32, 0]
}

/// CMD_CFGI_STE_RANGE over 2^(range + 1) StreamIDs.
pub fn cfgi_ste_range(sid: u32, range: u64) -> [u64; 2] {
    [4 | u64::from(sid) << 32, range]
}

/// CMD_TLBI_NH_ASID.
pub fn tlbi_nh_asid(asid: u64) -> [u64; 2] {
    [0x11 | asid << 48, 0]
}

/// An event without further fields.
pub fn record(kind: u64, sid: u32) -> [u64; 4] {
    [kind | u64::from(sid) << 32, 0, 0, 0]
}

pub const C_BAD_STREAMID: u64 = 2;
pub const C_BAD_STE: u64 = 4;
pub const F_STE_FETCH: u64 = 3;
pub const C_BAD_CD: u64 = 0xa;

/// SMMU_GBPA.
pub const GBPA_ABORT: u64 = 1 << 20;
pub const GBPA_UPDATE: u64 = 1 << 31;

/// SMMU_GERROR.
pub const EVENTQ_ABT_ERR: u64 = 1 << 2;
pub const MSI_CMDQ_ABT_ERR: u64 = 1 << 4;
pub const SFM_ERR: u64 = 1 << 8;

/// SMMU_CMDQ_CONS with an error at `index`.
pub fn cmdq_error(index: u32, error: u64) -> u64 {
    u64::from(index) | error << 24
}

pub const CERROR_ILL: u64 = 1;
pub const CERROR_ABT: u64 = 2;

/// The overflow flag of SMMU_EVENTQ_PROD and SMMU_EVENTQ_CONS.
pub const OVERFLOW: u64 = 1 << 31;

/// SMMU_STRTAB_BASE_CFG of a 2-level table.
pub fn two_level_cfg(log2: u32, split: u32) -> u64 {
    u64::from(log2) | u64::from(split) << 6 | 1 << 16
}

/// Dword 0 of a valid entry of the stream table.
pub fn dw0(config: u64, context_table: u64) -> u64 {
    1 | config << 1 | context_table
}

pub const CONFIG_BYPASS: u64 = 4;
pub const CONFIG_S1: u64 = 5;

/// A level-3 descriptor of stage 1: not global, accessed, inner shareable, readable and writable at EL0.
pub fn s1_page(pa: u64) -> u64 {
    pa | 1 << 11 | 1 << 10 | 3 << 8 | 1 << 6 | 3
}
