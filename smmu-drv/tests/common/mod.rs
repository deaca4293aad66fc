//! A machine for tests: the driver on top of the independent model, a host with pages that it owns or does not own,
//! and devices.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod board;
mod host;
mod named;
mod rig;
mod stage2;
mod two_level;

pub use board::Board;
pub use host::Host;
pub use named::*;
pub use rig::{Rig, firmware};
pub use stage2::Stage2;
pub use two_level::{enable_two_level, l1, l2_ste};

/// Host RAM.
pub const RAM: u64 = 0x4000_0000;
pub const RAM_SIZE: u64 = 0x100_0000;
/// EL2's pool.
pub const POOL: u64 = 0x6000_0000;
pub const POOL_SIZE: u64 = 0x200_0000;
/// A device's registers, reachable by the host's CPUs but not by DMA.
pub const MMIO: u64 = 0x900_0000;
/// VMID of the host's streams.
pub const VMID: u16 = 1;

/// Memory of guests.
pub const GUEST: u64 = POOL + POOL_SIZE - 0x10_0000;

/// Register offsets, written independently of the driver.
pub mod r {
    pub const IDR0: u32 = 0x0;
    pub const IDR1: u32 = 0x4;
    pub const IDR3: u32 = 0xc;
    pub const IDR5: u32 = 0x14;
    pub const CR0: u32 = 0x20;
    pub const CR0ACK: u32 = 0x24;
    pub const CR1: u32 = 0x28;
    pub const CR2: u32 = 0x2c;
    pub const GBPA: u32 = 0x44;
    pub const IRQ_CTRL: u32 = 0x50;
    pub const IRQ_CTRLACK: u32 = 0x54;
    pub const GERROR: u32 = 0x60;
    pub const GERRORN: u32 = 0x64;
    pub const STRTAB_BASE: u32 = 0x80;
    pub const STRTAB_BASE_CFG: u32 = 0x88;
    pub const CMDQ_BASE: u32 = 0x90;
    pub const CMDQ_PROD: u32 = 0x98;
    pub const CMDQ_CONS: u32 = 0x9c;
    pub const EVENTQ_BASE: u32 = 0xa0;
    pub const EVENTQ_PROD: u32 = 0x100a8;
    pub const EVENTQ_CONS: u32 = 0x100ac;
    pub const SMMUEN: u64 = 1;
    pub const EVENTQEN: u64 = 4;
    pub const CMDQEN: u64 = 8;
}

/// Addresses of the structures of the tests' host.
pub const CMDQ: u64 = RAM + 0x1_0000;
pub const EVTQ: u64 = RAM + 0x2_0000;
pub const STRTAB: u64 = RAM + 0x10_0000;
pub const L2TAB: u64 = RAM + 0x20_0000;
pub const CDTAB: u64 = RAM + 0x30_0000;
pub const S1TAB: u64 = RAM + 0x40_0000;
pub const BUF: u64 = RAM + 0x80_0000;
pub const CMDQ_LOG2: u32 = 8;
pub const EVTQ_LOG2: u32 = 7;

pub const SYNC: [u64; 2] = [0x46, 0];
pub const CFGI_ALL: [u64; 2] = [4, 31];
pub const BYPASS: [u64; 8] = [1 | 4 << 1, 1 << 44, 0, 0, 0, 0, 0, 0];
pub const ABORT: [u64; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

pub fn cfgi_ste(sid: u32) -> [u64; 2] {
    [3 | u64::from(sid) << 32, 1]
}

/// Whether the transfer was aborted, with or without an event.
pub fn aborted(transfer: &smmu_model::Transfer) -> bool {
    matches!(transfer, smmu_model::Transfer::Aborted(_))
}

/// A linear table of hardware, so that a change for all streams takes many traps.
pub fn slow() -> Rig {
    Rig::new(smmu_model::Config { two_level: false, sid_bits: 16, ..smmu_model::Config::qemu() })
}

/// As [`slow`], with fewer streams: two traps and more.
pub fn smaller() -> Rig {
    Rig::new(smmu_model::Config { two_level: false, sid_bits: 12, ..smmu_model::Config::qemu() })
}
