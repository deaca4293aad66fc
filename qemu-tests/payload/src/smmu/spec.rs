//! Register offsets, commands, stream table entries, context descriptors (Arm IHI 0070, chapters 3 to 7), as far as
//! the payload uses or misuses them.

/// Register offsets in bytes [IHI 0070 6.1].
pub mod reg {
    #![allow(missing_docs)]
    pub const IDR0: u64 = 0x00;
    pub const IDR1: u64 = 0x04;
    pub const IDR3: u64 = 0x0c;
    pub const IDR5: u64 = 0x14;
    pub const CR0: u64 = 0x20;
    pub const CR0ACK: u64 = 0x24;
    pub const CR1: u64 = 0x28;
    pub const CR2: u64 = 0x2c;
    pub const GBPA: u64 = 0x44;
    pub const AGBPA: u64 = 0x48;
    pub const IRQ_CTRL: u64 = 0x50;
    pub const IRQ_CTRLACK: u64 = 0x54;
    pub const GERROR: u64 = 0x60;
    pub const GERRORN: u64 = 0x64;
    pub const GERROR_IRQ_CFG0: u64 = 0x68;
    pub const STRTAB_BASE: u64 = 0x80;
    pub const STRTAB_BASE_CFG: u64 = 0x88;
    pub const CMDQ_BASE: u64 = 0x90;
    pub const CMDQ_PROD: u64 = 0x98;
    pub const CMDQ_CONS: u64 = 0x9c;
    pub const EVENTQ_BASE: u64 = 0xa0;
    pub const EVENTQ_IRQ_CFG0: u64 = 0xb0;
    pub const PRIQ_BASE: u64 = 0xc0;
    pub const PRIQ_IRQ_CFG0: u64 = 0xd0;
    pub const EVENTQ_PROD: u64 = 0x1_00a8;
    pub const EVENTQ_CONS: u64 = 0x1_00ac;
    pub const PRIQ_PROD: u64 = 0x1_00c8;
    pub const PRIQ_CONS: u64 = 0x1_00cc;
    /// Size of both register pages in bytes.
    pub const SIZE: u64 = 0x2_0000;
}

/// CR0 bits.
pub mod cr0 {
    #![allow(missing_docs)]
    pub const SMMUEN: u32 = 1 << 0;
    pub const PRIQEN: u32 = 1 << 1;
    pub const EVENTQEN: u32 = 1 << 2;
    pub const CMDQEN: u32 = 1 << 3;
    pub const ATSCHK: u32 = 1 << 4;
}

/// CR1: inner shareable, write-back tables and queues.
pub const CR1_CACHEABLE: u32 = 0xd75;
/// CR2.PTM: no broadcast TLB maintenance.
pub const CR2_PTM: u32 = 1 << 2;
/// CR2.RECINVSID: record events of StreamIDs out of range.
pub const CR2_RECINVSID: u32 = 1 << 1;
/// GBPA.UPDATE.
pub const GBPA_UPDATE: u32 = 1 << 31;
/// GBPA.ABORT.
pub const GBPA_ABORT: u32 = 1 << 20;
/// GERROR.CMDQ_ERR.
pub const GERROR_CMDQ: u32 = 1 << 0;
/// GERROR.EVENTQ_ABT_ERR.
pub const GERROR_EVENTQ_ABT: u32 = 1 << 2;
/// GERROR.MSI_CMDQ_ABT_ERR.
pub const GERROR_MSI_CMDQ_ABT: u32 = 1 << 4;
/// IDR0.MSI.
pub const IDR0_MSI: u32 = 1 << 13;
/// CMDQ_CONS.ERR: illegal command.
pub const CERROR_ILL: u32 = 1;
/// CMDQ_CONS.ERR: the entry could not be fetched.
pub const CERROR_ABT: u32 = 2;
/// Cacheable read/write-allocate hint of the base registers.
pub const BASE_ALLOCATE: u64 = 1 << 62;

/// A command of two words [IHI 0070 4].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cmd(pub [u64; 2]);

impl Cmd {
    /// CMD_SYNC without a completion signal.
    pub const fn sync() -> Self {
        Self([0x46, 0])
    }

    /// CMD_SYNC that completes by writing `data` to `addr`.
    pub const fn sync_msi(addr: u64, data: u32) -> Self {
        Self([0x46 | 1 << 12 | 3 << 22 | 0xf << 24 | (data as u64) << 32, addr])
    }

    /// CMD_CFGI_STE, leaf only.
    pub const fn cfgi_ste(sid: u32) -> Self {
        Self([0x03 | (sid as u64) << 32, 1])
    }

    /// CMD_CFGI_STE with the level-1 descriptor.
    pub const fn cfgi_ste_nonleaf(sid: u32) -> Self {
        Self([0x03 | (sid as u64) << 32, 0])
    }

    /// CMD_CFGI_STE_RANGE over 2^(`range` + 1) streams around `sid`.
    pub const fn cfgi_ste_range(sid: u32, range: u64) -> Self {
        Self([0x04 | (sid as u64) << 32, range])
    }

    /// CMD_CFGI_ALL.
    pub const fn cfgi_all() -> Self {
        Self([0x04, 31])
    }

    /// CMD_CFGI_CD of substream 0.
    pub const fn cfgi_cd(sid: u32) -> Self {
        Self([0x05 | (sid as u64) << 32, 1])
    }

    /// CMD_TLBI_NH_ALL of VMID 0.
    pub const fn tlbi_nh_all() -> Self {
        Self([0x10, 0])
    }

    /// CMD_TLBI_NH_ASID of VMID 0.
    pub const fn tlbi_nh_asid(asid: u16) -> Self {
        Self([0x11 | (asid as u64) << 48, 0])
    }

    /// CMD_TLBI_NH_VA of VMID 0, all levels.
    pub const fn tlbi_nh_va(asid: u16, addr: u64) -> Self {
        Self([0x12 | (asid as u64) << 48, addr & !0xfff])
    }

    /// CMD_TLBI_NSNH_ALL.
    pub const fn tlbi_nsnh_all() -> Self {
        Self([0x30, 0])
    }
}

/// A stream table entry of eight words [IHI 0070 5.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ste(pub [u64; 8]);

/// STE.Config values.
pub mod config {
    #![allow(missing_docs)]
    pub const ABORT: u64 = 0b000;
    pub const BYPASS: u64 = 0b100;
    pub const S1: u64 = 0b101;
    pub const S2: u64 = 0b110;
    pub const NESTED: u64 = 0b111;
}

impl Ste {
    /// An entry with which every transaction aborts.
    pub const fn abort() -> Self {
        Self([1, 0, 0, 0, 0, 0, 0, 0])
    }

    /// An entry without translation, with incoming attributes (SHCFG).
    pub const fn bypass() -> Self {
        Self([1 | config::BYPASS << 1, 1 << 44, 0, 0, 0, 0, 0, 0])
    }

    /// An entry with stage 1 and the context descriptor at `cd`.
    pub const fn stage1(cd: u64) -> Self {
        // S1CIR, S1COR write-back; S1CSH inner shareable; SHCFG incoming.
        Self([1 | config::S1 << 1 | cd, 1 << 2 | 1 << 4 | 3 << 6 | 1 << 44, 0, 0, 0, 0, 0, 0])
    }

    /// The entry with `Config` replaced.
    pub const fn with_config(self, value: u64) -> Self {
        let mut ste = self;
        ste.0[0] = ste.0[0] & !(7 << 1) | value << 1;
        ste
    }
}

/// A context descriptor's words for AArch64 tables at `ttb`, 39-bit input, 4K granule [IHI 0070 5.4].
pub const fn context_descriptor(ttb: u64, asid: u16) -> [u64; 8] {
    let t0sz = 25;
    let walks = 1 << 8 | 1 << 10 | 3 << 12; // write-back, inner shareable
    let epd1 = 1 << 30;
    let valid = 1 << 31;
    let ips = 4 << 32; // 44 bits
    let aa64 = 1 << 41;
    let r_a_aset = 0b111 << 45;
    [t0sz | walks | epd1 | valid | ips | aa64 | r_a_aset | (asid as u64) << 48, ttb, 0, 0xff, 0, 0, 0, 0]
}

/// Event types [IHI 0070 7.3].
pub mod event {
    #![allow(missing_docs)]
    pub const C_BAD_STREAMID: u32 = 0x02;
    pub const F_STE_FETCH: u32 = 0x03;
    pub const C_BAD_STE: u32 = 0x04;
    pub const F_CD_FETCH: u32 = 0x09;
    pub const C_BAD_CD: u32 = 0x0a;
    pub const F_WALK_EABT: u32 = 0x0b;
    pub const F_TRANSLATION: u32 = 0x10;
    pub const F_ADDR_SIZE: u32 = 0x11;
    pub const F_ACCESS: u32 = 0x12;
    pub const F_PERMISSION: u32 = 0x13;
}
