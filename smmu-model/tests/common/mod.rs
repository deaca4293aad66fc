//! A machine with the model: RAM, the functions of a driver, and page tables written by hand.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use smmu_model::arch::regs as r;
use smmu_model::{Config, Hazard, Memory, Model, Region, Snoop, Transfer};

pub const RAM: u64 = 0x4000_0000;
pub const RAM_SIZE: u64 = 0x400_0000;
pub const STRTAB: u64 = RAM;
pub const CMDQ: u64 = RAM + 0x1_0000;
pub const EVENTQ: u64 = RAM + 0x2_0000;
pub const S2_ROOT: u64 = RAM + 0x4_0000;
pub const S2_L2: u64 = RAM + 0x5_0000;
pub const S2_L3: u64 = RAM + 0x6_0000;
pub const CDS: u64 = RAM + 0x10_0000;
pub const S1_ROOT: u64 = RAM + 0x11_0000;
pub const S1_L2: u64 = RAM + 0x11_1000;
pub const S1_L3: u64 = RAM + 0x11_2000;
/// A 2 MiB area that the tests map to streams.
pub const DATA: u64 = RAM + 0x100_0000;
/// Memory that no test maps.
pub const SECRET: u64 = RAM + 0x200_0000;
pub const SID: u32 = 8;
pub const VMID: u64 = 5;
pub const ASID: u64 = 3;

pub struct Machine {
    pub smmu: Model,
    pub mem: Memory,
    pub prod: u32,
}

/// log2 of the number of entries of each queue.
pub const QUEUE: u32 = 5;

impl Machine {
    pub fn new(config: Config) -> Self {
        let mem = Memory::new(Snoop::Coherent);
        mem.add(RAM, RAM_SIZE, Region::Ram);
        mem.add(0x800_0000, 0x10_0000, Region::Mmio);
        Self { smmu: Model::new(config, mem.clone()), mem, prod: 0 }
    }

    /// Tables, queues and enables, in the order that the specification recommends.
    pub fn on(config: Config) -> Self {
        let mut machine = Self::new(config);
        machine.queues();
        machine.smmu.write64(r::STRTAB_BASE, STRTAB);
        machine.smmu.write32(r::STRTAB_BASE_CFG, 6);
        machine.smmu.write32(r::CR2, r::CR2_RECINVSID | r::CR2_PTM);
        machine.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN);
        machine.cmd([4, 31]);
        machine.cmd([0x30, 0]);
        machine.sync();
        machine.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN);
        machine
    }

    pub fn queues(&mut self) {
        self.smmu.write64(r::CMDQ_BASE, CMDQ | u64::from(QUEUE));
        self.smmu.write32(r::CMDQ_PROD, 0);
        self.smmu.write32(r::CMDQ_CONS, 0);
        self.smmu.write64(r::EVENTQ_BASE, EVENTQ | u64::from(QUEUE));
        self.smmu.write32(r::EVENTQ_PROD, 0);
        self.smmu.write32(r::EVENTQ_CONS, 0);
    }

    pub fn cr0(&mut self, value: u32) {
        self.smmu.write32(r::CR0, value);
        self.smmu.run_to_idle();
        assert_eq!(self.smmu.read32(r::CR0ACK), value);
    }

    pub fn cmd(&mut self, words: [u64; 2]) {
        let slot = CMDQ + u64::from(self.prod % (1 << QUEUE)) * 16;
        self.mem.cpu_write64(slot, words[0]);
        self.mem.cpu_write64(slot + 8, words[1]);
        self.prod = (self.prod + 1) % (2 << QUEUE);
        self.smmu.write32(r::CMDQ_PROD, self.prod);
    }

    pub fn sync(&mut self) {
        self.cmd([0x46, 0]);
        self.smmu.run_to_idle();
        assert_eq!(self.smmu.read32(r::CMDQ_CONS) & 0xf_ffff, self.prod);
    }

    pub fn ste(&mut self, sid: u32, words: [u64; 4]) {
        for (at, word) in (STRTAB + u64::from(sid) * 64..).step_by(8).zip(words) {
            self.mem.cpu_write64(at, word);
        }
    }

    pub fn install(&mut self, sid: u32, words: [u64; 4]) {
        self.ste(sid, words);
        self.cmd([u64::from(sid) << 32 | 3, 1]);
        self.sync();
    }

    /// Maps 2 MiB at IPA `DATA`, identity, with 512 leaves of 4 KiB.
    pub fn map_pages(&mut self) {
        self.mem.cpu_write64(S2_ROOT + (DATA >> 30) * 8, S2_L2 | 3);
        for page in 0..512 {
            self.mem.cpu_write64(S2_L3 + page * 8, (DATA + page * 4096) | S2_LEAF | 3);
        }
        self.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, S2_L3 | 3);
    }

    /// Maps the same 2 MiB with one block.
    pub fn map_block(&mut self) {
        self.mem.cpu_write64(S2_ROOT + (DATA >> 30) * 8, S2_L2 | 3);
        self.mem.cpu_write64(S2_L2 + ((DATA >> 21) & 511) * 8, DATA | S2_LEAF | 1);
    }

    /// The descriptor of page `index` of the area.
    pub fn s2_page(&self, index: u64) -> u64 {
        S2_L3 + index * 8
    }

    /// Also maps the memory of CDs and stage 1 tables, identity, with one block.
    pub fn map_host_tables(&mut self) {
        self.mem.cpu_write64(S2_ROOT + (DATA >> 30) * 8, S2_L2 | 3);
        self.mem.cpu_write64(S2_L2 + ((CDS >> 21) & 511) * 8, (CDS & !0x1f_ffff) | S2_LEAF | 1);
    }

    /// Writes a context descriptor for ASID 3 and its tables, which map VA `va` to `to` with one page.
    pub fn stage1(&mut self, va: u64, to: u64) {
        self.mem.cpu_write64(S1_ROOT + ((va >> 30) & 511) * 8, S1_L2 | 3);
        self.mem.cpu_write64(S1_L2 + ((va >> 21) & 511) * 8, S1_L3 | 3);
        self.mem.cpu_write64(S1_L3 + ((va >> 12) & 511) * 8, to | S1_LEAF | 3);
        for (at, word) in (CDS..).step_by(8).zip(cd(S1_ROOT)) {
            self.mem.cpu_write64(at, word);
        }
    }

    pub fn write(&mut self, iova: u64, byte: u8) -> Transfer {
        self.smmu.dma_write(SID, None, iova, &[byte])
    }

    pub fn assert_no_hazards(&mut self) {
        assert_eq!(self.smmu.take_hazards(), []);
    }

    pub fn assert_only_command_errors(&mut self) {
        let others: Vec<Hazard> = self.smmu.take_hazards();
        assert!(others.iter().all(|h| matches!(h, Hazard::CommandError { .. })), "{others:?}");
    }
}

/// AF, S2AP read and write, inner shareable, Normal write-back.
pub const S2_LEAF: u64 = 1 << 10 | 3 << 6 | 3 << 8 | 0xf << 2;
/// AF, `AP[1]`, nG, inner shareable.
pub const S1_LEAF: u64 = 1 << 10 | 1 << 6 | 3 << 8 | 1 << 11;

/// Word 2 of an entry: VMID 5, 39-bit IPAs from level 1, 4 KiB, 44-bit output, AArch64, record.
pub const S2_WORD: u64 = VMID | 25 << 32 | 1 << 38 | 4 << 48 | 1 << 51 | 1 << 58;

pub fn s2_only() -> [u64; 4] {
    [0b110 << 1 | 1, 0, S2_WORD, S2_ROOT]
}

pub fn nested() -> [u64; 4] {
    [CDS | 0b111 << 1 | 1, 0, S2_WORD, S2_ROOT]
}

pub fn s1_only() -> [u64; 4] {
    [CDS | 0b101 << 1 | 1, 0, VMID, 0]
}

pub fn bypass() -> [u64; 4] {
    [0b100 << 1 | 1, 0, 0, 0]
}

pub fn abort() -> [u64; 4] {
    [1, 0, 0, 0]
}

/// 39-bit VAs, 4 KiB, TTB1 off, V, 44-bit output, AArch64, R, A, ASID 3.
pub fn cd(ttb: u64) -> [u64; 4] {
    [25 | 1 << 30 | 1 << 31 | 4 << 32 | 1 << 41 | 1 << 45 | 1 << 46 | ASID << 48, ttb, 0, 0xff]
}

pub fn s2_ipa(ipa: u64) -> [u64; 2] {
    [VMID << 32 | 0x2a, ipa & !0xfff]
}

pub const NH_ALL: [u64; 2] = [VMID << 32 | 0x10, 0];
pub const S12_VMALL: [u64; 2] = [VMID << 32 | 0x28, 0];
