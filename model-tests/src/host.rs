//! A host with a minimal driver: stream table, queues, one context descriptor, one page of stage 1.

use smmu_model::arch::regs as r;

use crate::layout::{HOST_CD, HOST_CMDQ, HOST_EVTQ, HOST_FLAG, HOST_L2, HOST_S1, HOST_STRTAB, SID};
use crate::machine::Machine;

/// log2 of the number of entries of each queue.
pub const LOG2_QUEUE: u32 = 7;
/// log2 of the number of StreamIDs of the linear table.
pub const LOG2_STREAMS: u32 = 6;
/// ASID of the host's context.
pub const ASID: u64 = 7;

/// Shape of the host's stream table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Linear, for 64 streams.
    Linear,
    /// Two levels, split 8, 2^10 streams, one level-2 table for the first 256.
    TwoLevel,
}

/// The driver of one SMMU.
#[derive(Clone, Debug)]
pub struct Host {
    /// Number of the SMMU.
    pub smmu: usize,
    /// Write index of its command queue.
    pub prod: u32,
    /// Shape of its stream table.
    pub shape: Shape,
}

/// STE dwords 0 and 1: abort without an event.
pub const ABORT: [u64; 2] = [1, 0];
/// STE dwords 0 and 1: bypass.
pub const BYPASS: [u64; 2] = [0b1001, 0];
/// STE dwords 0 and 1: invalid.
pub const INVALID: [u64; 2] = [0, 0];
/// STE dwords 0 and 1: stage 1 with the host's context descriptor.
pub const STAGE1: [u64; 2] = [HOST_CD | 0b1011, 0x55 << 2];
/// Queue and translation enables.
pub const ON: u32 = r::CR0_SMMUEN | r::CR0_CMDQEN | r::CR0_EVENTQEN;
/// Queue enables.
pub const QUEUES: u32 = r::CR0_CMDQEN | r::CR0_EVENTQEN;

impl Host {
    /// Writes all registers and tables in the order of Linux's driver, with abort entries for all streams; SMMUEN stays
    /// 0.
    pub fn prepare(m: &mut Machine, smmu: usize, shape: Shape) -> Self {
        let mut host = Self { smmu, prod: 0, shape };
        m.write32(smmu, r::CR0, 0);
        m.settle();
        // Acknowledges earlier errors.
        let gerror = m.read32(smmu, r::GERROR);
        m.write32(smmu, r::GERRORN, gerror);
        m.write32(smmu, r::CR1, 0xd75);
        m.write32(smmu, r::CR2, r::CR2_PTM | r::CR2_RECINVSID);
        host.clear_table(m);
        m.write64(smmu, r::STRTAB_BASE, host.strtab() | 1 << 62);
        m.write32(smmu, r::STRTAB_BASE_CFG, host.table_cfg());
        m.write64(smmu, r::CMDQ_BASE, host.cmdq() | 1 << 62 | u64::from(LOG2_QUEUE));
        m.write32(smmu, r::CMDQ_PROD, 0);
        m.write32(smmu, r::CMDQ_CONS, 0);
        host.cr0(m, r::CR0_CMDQEN);
        host.cmd(m, [4, 31]);
        host.sync(m);
        host.cmd(m, [0x30, 0]);
        host.sync(m);
        m.write64(smmu, r::EVENTQ_BASE, host.evtq() | 1 << 62 | u64::from(LOG2_QUEUE));
        m.write32(smmu, r::EVENTQ_PROD, 0);
        m.write32(smmu, r::EVENTQ_CONS, 0);
        host.cr0(m, QUEUES);
        m.write32(smmu, r::IRQ_CTRL, r::IRQ_GERROR | r::IRQ_EVENTQ);
        m.settle();
        host
    }

    /// As [`Host::prepare`], then sets SMMUEN.
    pub fn enable(m: &mut Machine, smmu: usize, shape: Shape) -> Self {
        let mut host = Self::prepare(m, smmu, shape);
        host.cr0(m, ON);
        host
    }

    /// Enables translation, and installs one stream with a stage 1 that maps [`crate::layout::IOVA`] to `pa`.
    pub fn with_stage1(m: &mut Machine, iova: u64, pa: u64) -> Self {
        let mut host = Self::enable(m, 0, Shape::Linear);
        host.context(m);
        host.map(m, iova, pa);
        host.install(m, SID, STAGE1);
        host
    }

    fn clear_table(&mut self, m: &Machine) {
        let base = self.strtab();
        for word in (base..base + (64 << LOG2_STREAMS)).step_by(8) {
            m.mem.cpu_write64(word, 0);
        }
        if self.shape == Shape::TwoLevel {
            m.mem.cpu_write64(base, self.l2() | 9);
            for word in (self.l2()..self.l2() + (64 << 8)).step_by(8) {
                m.mem.cpu_write64(word, 0);
            }
            m.mem.clean(self.l2()..self.l2() + (64 << 8));
        }
        m.mem.clean(base..base + (64 << LOG2_STREAMS));
    }

    fn offset(&self) -> u64 {
        u64::try_from(self.smmu).unwrap_or(0) * 0x8000
    }

    /// Its stream table.
    #[must_use]
    pub fn strtab(&self) -> u64 {
        HOST_STRTAB + self.offset()
    }

    /// Its level-2 table.
    #[must_use]
    pub fn l2(&self) -> u64 {
        HOST_L2 + self.offset()
    }

    /// Its command queue.
    #[must_use]
    pub fn cmdq(&self) -> u64 {
        HOST_CMDQ + self.offset()
    }

    /// Its event queue.
    #[must_use]
    pub fn evtq(&self) -> u64 {
        HOST_EVTQ + self.offset()
    }

    /// STRTAB_BASE_CFG for its shape.
    #[must_use]
    pub fn table_cfg(&self) -> u32 {
        match self.shape {
            Shape::Linear => LOG2_STREAMS,
            Shape::TwoLevel => 10 | 8 << 6 | 1 << 16,
        }
    }

    /// Writes CR0 and waits for CR0ACK.
    pub fn cr0(&mut self, m: &mut Machine, value: u32) {
        m.write32(self.smmu, r::CR0, value);
        m.settle();
        assert_eq!(m.read32(self.smmu, r::CR0ACK), value, "CR0ACK");
    }

    /// Puts a command into the queue without a PROD write.
    pub fn queue(&mut self, m: &Machine, cmd: [u64; 2]) {
        let slot = self.cmdq() + u64::from(self.prod % (1 << LOG2_QUEUE)) * 16;
        m.mem.cpu_write64(slot, cmd[0]);
        m.mem.cpu_write64(slot + 8, cmd[1]);
        m.mem.clean(slot..slot + 16);
        self.prod = (self.prod + 1) % (2 << LOG2_QUEUE);
    }

    /// Writes PROD.
    pub fn write_prod(&mut self, m: &mut Machine) {
        m.write32(self.smmu, r::CMDQ_PROD, self.prod);
        m.settle();
    }

    /// Submits one command.
    pub fn cmd(&mut self, m: &mut Machine, cmd: [u64; 2]) {
        self.queue(m, cmd);
        self.write_prod(m);
    }

    /// Submits a SYNC and expects it to be consumed.
    pub fn sync(&mut self, m: &mut Machine) {
        self.cmd(m, [0x46, 0]);
        assert_eq!(m.read32(self.smmu, r::CMDQ_CONS) & 0xf_ffff, self.prod, "SYNC");
    }

    /// Submits a SYNC that completes by a store to `address`.
    pub fn sync_msi(&mut self, m: &mut Machine, address: u64, data: u32) {
        self.cmd(m, [1 << 12 | 0x46 | u64::from(data) << 32, address]);
    }

    /// Address of the entry of `sid`.
    #[must_use]
    pub fn ste_at(&self, sid: u32) -> u64 {
        match self.shape {
            Shape::Linear => self.strtab() + u64::from(sid) * 64,
            Shape::TwoLevel => self.l2() + u64::from(sid & 0xff) * 64,
        }
    }

    /// Writes an entry.
    pub fn write_ste(&mut self, m: &Machine, sid: u32, words: [u64; 2]) {
        let at = self.ste_at(sid);
        m.mem.cpu_write64(at + 8, words[1]);
        m.mem.cpu_write64(at, words[0]);
        m.mem.clean(at..at + 64);
    }

    /// Writes an entry and invalidates it.
    pub fn install(&mut self, m: &mut Machine, sid: u32, words: [u64; 2]) {
        self.write_ste(m, sid, words);
        self.cmd(m, [u64::from(sid) << 32 | 3, 1]);
        self.sync(m);
    }

    /// Writes a context descriptor with stage 1 tables of three levels.
    pub fn context(&mut self, m: &Machine) {
        self.context_words(m, cd(HOST_S1));
    }

    /// Writes a context descriptor with these words.
    pub fn context_words(&mut self, m: &Machine, words: [u64; 4]) {
        for (at, word) in (HOST_CD..).step_by(8).zip(words) {
            m.mem.cpu_write64(at, word);
        }
        m.mem.clean(HOST_CD..HOST_CD + 64);
    }

    /// Maps one page in stage 1 (all IOVAs in one 2 MiB range).
    pub fn map(&mut self, m: &Machine, iova: u64, pa: u64) {
        let tables = [HOST_S1, HOST_S1 + 0x1000, HOST_S1 + 0x2000];
        let index = |shift: u32| ((iova >> shift) & 511) * 8;
        m.mem.cpu_write64(tables[0] + index(30), tables[1] | 3);
        m.mem.cpu_write64(tables[1] + index(21), tables[2] | 3);
        m.mem.cpu_write64(tables[2] + index(12), pa | LEAF);
        m.mem.clean(HOST_S1..HOST_S1 + 0x3000);
    }

    /// Invalidates the translations of the host's ASID and waits.
    pub fn flush(&mut self, m: &mut Machine) {
        self.cmd(m, [ASID << 48 | 0x11, 0]);
        self.sync(m);
    }

    /// Reads and consumes the records in the host's event queue.
    pub fn events(&mut self, m: &mut Machine) -> Vec<[u64; 4]> {
        let prod = m.read32(self.smmu, r::EVENTQ_PROD);
        let mut cons = m.read32(self.smmu, r::EVENTQ_CONS) & 0xff;
        let mut out = Vec::new();
        while cons != prod & 0xff {
            let at = self.evtq() + u64::from(cons % (1 << LOG2_QUEUE)) * 32;
            out.push([0, 8, 16, 24].map(|word| m.mem.cpu_read64(at + word)));
            cons = (cons + 1) & 0xff;
        }
        m.write32(self.smmu, r::EVENTQ_CONS, cons | (prod & r::QUEUE_OVERFLOW));
        out
    }

    /// Overwrites the command at CONS with a SYNC and acknowledges the error, as Linux does.
    pub fn repair(&mut self, m: &mut Machine) {
        let cons = m.read32(self.smmu, r::CMDQ_CONS) & ((1 << LOG2_QUEUE) - 1);
        let slot = self.cmdq() + u64::from(cons) * 16;
        m.mem.cpu_write64(slot, 0x46);
        m.mem.cpu_write64(slot + 8, 0);
        m.mem.clean(slot..slot + 16);
        let gerror = m.read32(self.smmu, r::GERROR);
        m.write32(self.smmu, r::GERRORN, gerror);
        m.settle();
    }

    /// The error code in CONS while a command error is active.
    pub fn cerror(&mut self, m: &mut Machine) -> Option<u32> {
        let active = (m.read32(self.smmu, r::GERROR) ^ m.read32(self.smmu, r::GERRORN)) & r::GERROR_CMDQ != 0;
        active.then(|| m.read32(self.smmu, r::CMDQ_CONS) >> r::CONS_ERR_SHIFT)
    }

    /// Address for completions of CMD_SYNC by a store.
    #[must_use]
    pub fn flag(&self) -> u64 {
        HOST_FLAG
    }
}

/// AF, `AP[1]`, nG, inner shareable, page.
pub const LEAF: u64 = 1 << 10 | 1 << 6 | 3 << 8 | 1 << 11 | 3;

/// Address of the leaf of `iova` in the host's stage 1.
#[must_use]
pub fn leaf(iova: u64) -> u64 {
    HOST_S1 + 0x2000 + ((iova >> 12) & 511) * 8
}

/// 39-bit VAs, 4 KiB, TTB1 off, V, 44-bit output, AArch64, R, A.
#[must_use]
pub fn cd(ttb: u64) -> [u64; 4] {
    [25 | 1 << 30 | 1 << 31 | 4 << 32 | 1 << 41 | 1 << 45 | 1 << 46 | ASID << 48, ttb, 0, 0xff]
}
