//! The driver after take-over, with a host that programs it, and devices that make transfers.

use smmu_drv::errata::Quirks;
use smmu_drv::{
    AccessSize, Coherency, HOST_CMDQS, HostedSmmu, MsiAdvert, ProbeConfig, Probed, ReadsAs, Unassigned, WiredIrq,
    WriteOutcome,
};
use smmu_model::{Config, Memory, Region, Snoop};

use super::*;

/// The driver after take-over, with its platform.
pub struct Rig {
    pub board: Board,
    pub host: Host,
    pub smmu: HostedSmmu<Board, Host>,
    pub s2: Stage2,
    pub prod: u32,
    pub again: u32,
}

pub fn firmware(config: &Config) -> ProbeConfig {
    let coherent = if config.snoop == Snoop::Coherent { Coherency::Coherent } else { Coherency::NonCoherent };
    ProbeConfig { msi: MsiAdvert::WhenCoherent, ..ProbeConfig::new(coherent) }
}

impl Rig {
    pub fn new(config: Config) -> Self {
        let firmware = firmware(&config);
        Self::on(Board::new(config), firmware)
    }

    pub fn qemu() -> Self {
        Self::new(Config::qemu())
    }

    pub fn on(board: Board, firmware: ProbeConfig) -> Self {
        Self::on_stage2(board, firmware, 40)
    }

    /// A machine with a stage 2 of `bits` bits.
    pub fn on_stage2(board: Board, firmware: ProbeConfig, bits: u8) -> Self {
        let s2 = Stage2::new(&board.0.mem);
        let smmu = Probed::probe(board.clone(), firmware)
            .unwrap()
            .take_over_with_host(s2.cfg_of(bits), Default::default())
            .unwrap();
        let host = Host::new(board.0.mem.clone());
        Self { board, host, smmu, s2, prod: 0, again: 0 }
    }

    pub fn mem(&self) -> &Memory {
        &self.board.0.mem
    }

    pub fn read(&mut self, offset: u32) -> u64 {
        self.smmu.mmio_read(&mut self.host, offset, AccessSize::Word)
    }

    pub fn read64(&mut self, offset: u32) -> u64 {
        self.smmu.mmio_read(&mut self.host, offset, AccessSize::Double)
    }

    fn repeat(&mut self, offset: u32, size: AccessSize, value: u64) {
        for _ in 0..1_000_000 {
            match self.smmu.mmio_write(&mut self.host, offset, size, value) {
                WriteOutcome::Done => return,
                WriteOutcome::Again => self.again += 1,
            }
        }
        panic!("a store does not complete");
    }

    pub fn write(&mut self, offset: u32, value: u64) {
        self.repeat(offset, AccessSize::Word, value);
    }

    pub fn write64(&mut self, offset: u32, value: u64) {
        self.repeat(offset, AccessSize::Double, value);
    }

    /// The host's CPU stores, cleaning its caches for an SMMU that does not snoop.
    pub fn store(&self, at: u64, value: u64) {
        self.mem().cpu_write64(at, value);
        self.mem().clean(at..at + 8);
    }

    /// Enables the command and event queue as Linux does.
    pub fn enable_queues(&mut self) {
        self.write64(r::CMDQ_BASE, CMDQ | u64::from(CMDQ_LOG2) | 1 << 62);
        self.write(r::CMDQ_PROD, 0);
        self.write(r::CMDQ_CONS, 0);
        self.prod = 0;
        self.write(r::CR2, 6);
        self.write(r::CR0, r::CMDQEN);
        self.write64(r::EVENTQ_BASE, EVTQ | u64::from(EVTQ_LOG2) | 1 << 62);
        self.write(r::EVENTQ_PROD, 0);
        self.write(r::EVENTQ_CONS, 0);
        self.write(r::CR0, r::CMDQEN | r::EVENTQEN);
        assert_eq!(self.read(r::CR0ACK), r::CMDQEN | r::EVENTQEN);
    }

    /// Linear stream table of 2^log2 zeroed entries, translation on.
    pub fn enable_linear(&mut self, log2: u32) {
        self.enable_queues();
        self.mem().cpu_write(STRTAB, &vec![0; 64 << log2]);
        self.write64(r::STRTAB_BASE, STRTAB | 1 << 62);
        self.write(r::STRTAB_BASE_CFG, u64::from(log2));
        self.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
        assert_eq!(self.read(r::CR0ACK), r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    }

    pub fn ste(&self, sid: u32, words: [u64; 8]) {
        for (n, word) in words.into_iter().enumerate() {
            self.store(STRTAB + u64::from(sid) * 64 + n as u64 * 8, word);
        }
    }

    pub fn queue(&mut self, cmd: [u64; 2]) {
        let slot = u64::from(self.prod & ((1 << CMDQ_LOG2) - 1));
        self.store(CMDQ + slot * 16, cmd[0]);
        self.store(CMDQ + slot * 16 + 8, cmd[1]);
        self.prod = (self.prod + 1) & ((2 << CMDQ_LOG2) - 1);
    }

    pub fn ring(&mut self) {
        let prod = self.prod;
        self.write(r::CMDQ_PROD, u64::from(prod));
    }

    pub fn issue(&mut self, cmds: &[[u64; 2]]) {
        for cmd in cmds {
            self.queue(*cmd);
        }
        self.queue(SYNC);
        self.ring();
        assert_eq!(self.read(r::CMDQ_CONS), u64::from(self.prod), "the queue is not empty");
    }

    pub fn set_ste(&mut self, sid: u32, words: [u64; 8]) {
        self.ste(sid, words);
        self.issue(&[cfgi_ste(sid)]);
    }

    pub fn dma_write(&mut self, sid: u32, iova: u64, data: u64) -> smmu_model::Transfer {
        self.board.0.model.borrow_mut().dma_write(sid, None, iova, &data.to_le_bytes())
    }

    pub fn can_reach(&self, sid: u32, pa: u64) -> bool {
        self.board.0.model.borrow().can_reach(sid, pa).is_some()
    }

    pub fn events(&mut self) -> Vec<[u64; 4]> {
        let prod = self.read(r::EVENTQ_PROD);
        let mut cons = self.read(r::EVENTQ_CONS);
        let mask = (2_u64 << EVTQ_LOG2) - 1;
        let mut out = Vec::new();
        while cons & mask != prod & mask {
            let at = EVTQ + (cons & (mask >> 1)) * 32;
            out.push([0, 8, 16, 24].map(|n| self.mem().cpu_read64(at + n)));
            cons = (cons + 1) & mask;
        }
        self.write(r::EVENTQ_CONS, cons | (prod & OVERFLOW));
        out
    }

    pub fn hazards(&self) -> Vec<smmu_model::Hazard> {
        self.board.0.model.borrow_mut().take_hazards()
    }

    pub fn irqs(&self) -> Vec<WiredIrq> {
        std::mem::take(&mut self.board.0.irqs.borrow_mut())
    }

    /// All memory of EL2.
    pub fn el2_reachable(&self, sid: u32) -> bool {
        self.board.0.model.borrow().can_reach_any(sid, POOL..POOL + POOL_SIZE).is_some()
    }

    /// A context descriptor for `sid` over a 39-bit stage 1 that maps IOVA 0 to `BUF`, 4K.
    pub fn context(&mut self, asid: u64) -> [u64; 8] {
        let l1 = S1TAB + asid * 0x4000;
        let (l2, l3) = (l1 + 0x1000, l1 + 0x2000);
        self.mem().cpu_write(l1, &[0; 0x3000]);
        self.store(l1, l2 | 3);
        self.store(l2, l3 | 3);
        self.store(l3, s1_page(BUF));
        self.mem().clean(l1..l1 + 0x3000);
        let cd = CDTAB + asid * 64;
        // T0SZ=25, 4K, WBWA, ISH, EPD1, V, AA64, R, A, ASET, IPS=40 bits.
        let word0 = 25
            | 1 << 8
            | 1 << 10
            | 3 << 12
            | 1 << 30
            | 1 << 31
            | 2 << 32
            | 1 << 41
            | 1 << 45
            | 1 << 46
            | 1 << 47
            | asid << 48;
        self.store(cd, word0);
        self.store(cd + 8, l1);
        self.store(cd + 16, 0);
        self.store(cd + 24, 0xff);
        for n in 4..8 {
            self.store(cd + n * 8, 0);
        }
        [dw0(CONFIG_S1, cd), 1 << 2 | 1 << 4 | 3 << 6, 0, 0, 0, 0, 0, 0]
    }
}
