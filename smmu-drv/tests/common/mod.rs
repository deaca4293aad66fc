//! A machine for tests: the driver on top of the independent model, a host whose pages are owned or not, and devices.
#![allow(dead_code, unreachable_pub)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use io_pgtable::{Ipa, Pa};
use smmu_drv::{
    AccessSize, ClaimError, Coherency, DmaBuffer, HostMemory, MsiAdvert, Platform, ProbeConfig, Probed, Smmu,
    Stage2Cfg, WiredIrq, WriteOutcome,
};
use smmu_model::{Config, Memory, Model, Region, Snoop, WriteBuffer};

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

/// Register offsets, written down here a second time on purpose.
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

/// Looks at the hardware.
pub type Watch = Box<dyn FnMut(&Model)>;

/// What is shared between the platform, its buffers and the test.
pub struct World {
    pub model: RefCell<Model>,
    pub mem: Memory,
    /// EL2's stores to queues and tables that hardware need not see yet.
    pub stores: WriteBuffer,
    /// EVENTQ_PROD was read, and no barrier has followed that orders reads of the records.
    pub announced: Cell<bool>,
    pub clock: Cell<u64>,
    pub irqs: RefCell<Vec<WiredIrq>>,
    pub next: Cell<u64>,
    pub live_bytes: Cell<usize>,
    /// Allocations that still succeed.
    pub allocations: Cell<usize>,
    /// Called after every register write of EL2.
    pub watch: RefCell<Option<Watch>>,
    pub mmio: Cell<u64>,
    /// Loads of EL2 from registers.
    pub loads: Cell<u64>,
    /// What GBPA reads as while it is broken: what is written can be read, but its update never ends.
    pub broken_gbpa: Cell<Option<u32>>,
    /// A register of hardware that reads as this, whatever it is.
    pub forged: Cell<Option<(u32, u32)>>,
}

#[derive(Clone)]
pub struct Board(pub Rc<World>);

impl Board {
    pub fn new(config: Config) -> Self {
        let mem = Memory::new(config.snoop);
        mem.add(RAM, RAM_SIZE, Region::Ram);
        mem.add(POOL, POOL_SIZE, Region::Ram);
        mem.add(MMIO, 0x1000, Region::Mmio);
        let model = Model::new(config, mem.clone());
        Self(Rc::new(World {
            model: RefCell::new(model),
            stores: WriteBuffer::new(mem.clone()),
            announced: Cell::new(false),
            mem,
            clock: Cell::new(0),
            irqs: RefCell::new(Vec::new()),
            next: Cell::new(POOL + 0x10_0000),
            live_bytes: Cell::new(0),
            allocations: Cell::new(usize::MAX),
            watch: RefCell::new(None),
            mmio: Cell::new(0),
            loads: Cell::new(0),
            broken_gbpa: Cell::new(None),
            forged: Cell::new(None),
        }))
    }

    /// A register write that hands memory over to hardware comes after a barrier, whatever this hardware would forgive.
    fn check_order(&self, offset: u32, value: u32) {
        // Asked only in need: hardware takes its time by the number of reads.
        let enabled = || u64::from(self.0.model.borrow_mut().read32(r::CR0ACK));
        let stored = self.0.stores.has_stores();
        let unordered = match offset {
            r::CR0 => stored && value != 0,
            r::CMDQ_PROD | r::GERRORN => stored && enabled() & r::CMDQEN != 0,
            r::EVENTQ_CONS => self.0.stores.has_loads() && enabled() & r::EVENTQEN != 0,
            _ => false,
        };
        assert!(!unordered, "no barrier before the write of {value:#x} to register {offset:#x}");
    }

    fn after_write(&self) {
        self.0.mmio.set(self.0.mmio.get() + 1);
        if let Some(watch) = self.0.watch.borrow_mut().as_mut() {
            watch(&self.0.model.borrow());
        }
    }
}

impl Platform for Board {
    type Buffer = Buffer;

    fn read32(&self, offset: u32) -> u32 {
        self.0.loads.set(self.0.loads.get() + 1);
        if offset == r::EVENTQ_PROD {
            self.0.announced.set(true);
        }
        if let (r::GBPA, Some(value)) = (offset, self.0.broken_gbpa.get()) {
            return value;
        }
        if let Some((register, value)) = self.0.forged.get()
            && register == offset
        {
            return value;
        }
        self.0.model.borrow_mut().read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.check_order(offset, value);
        if let (r::GBPA, Some(old)) = (offset, self.0.broken_gbpa.get()) {
            assert!(old >> 31 == 0, "a write of GBPA while an update is under way");
            self.0.broken_gbpa.set(Some(value & (1 << 31 | 1 << 20)));
        } else {
            self.0.model.borrow_mut().write32(offset, value);
        }
        self.after_write();
    }
    fn read64(&self, offset: u32) -> u64 {
        self.0.model.borrow_mut().read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.0.model.borrow_mut().write64(offset, value);
        self.after_write();
    }
    fn alloc(&self, size: usize) -> Option<Buffer> {
        assert!(size.is_power_of_two() && size >= 4096, "{size}");
        let left = self.0.allocations.get().checked_sub(1)?;
        self.0.allocations.set(left);
        // Never reused: what a later owner would do is done at once when a buffer is freed, and the model's memory of every
        // word stays short.
        let mask = size as u64 - 1;
        let pa = (self.0.next.get() + mask) & !mask;
        self.0.next.set(pa + size as u64);
        assert!(pa + size as u64 <= POOL + POOL_SIZE, "test pool too small");
        self.0.live_bytes.set(self.0.live_bytes.get() + size);
        Some(Buffer { world: Rc::clone(&self.0), pa, size })
    }
    fn dsb(&self) {
        self.0.stores.barrier();
        self.0.announced.set(false);
    }
    fn now_us(&self) -> u64 {
        self.0.clock.set(self.0.clock.get() + 50);
        self.0.clock.get()
    }
    fn relax(&self) {
        self.0.model.borrow_mut().relax();
        self.0.clock.set(self.0.clock.get() + 50);
    }
    fn raise(&self, irq: WiredIrq) {
        self.0.irqs.borrow_mut().push(irq);
    }
}

pub struct Buffer {
    world: Rc<World>,
    pa: u64,
    size: usize,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.world.live_bytes.set(self.world.live_bytes.get() - self.size);
        self.world.stores.discard(&(self.pa..self.pa + self.size as u64));
        // Freed memory is reused for anything: make entries in it bypass, as a hostile later owner would.
        for at in (self.pa..self.pa + self.size as u64).step_by(64) {
            self.world.mem.cpu_write64(at, 1 | 4 << 1);
        }
    }
}

impl DmaBuffer for Buffer {
    fn pa(&self) -> Pa {
        Pa(self.pa)
    }
    fn size(&self) -> usize {
        self.size
    }
    fn read64(&self, offset: usize) -> u64 {
        if !offset.is_multiple_of(8) || offset + 8 > self.size {
            return 0;
        }
        assert!(!self.world.announced.get(), "no barrier between EVENTQ_PROD and what it announces");
        self.world.stores.read64(self.pa + offset as u64)
    }
    fn write64(&mut self, offset: usize, value: u64) {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.size, "a store at {offset:#x} of {:#x}", self.size);
        self.world.stores.write64(self.pa + offset as u64, value);
    }
    fn clean(&self, offset: usize, len: usize) {
        let from = self.pa + offset as u64;
        self.world.stores.clean(from..from + len as u64);
    }
    fn invalidate(&self, offset: usize, len: usize) {
        let from = self.pa + offset as u64;
        self.world.mem.invalidate(from..from + len as u64);
    }
}

/// The host's page ownership.
pub struct Host {
    pub mem: Memory,
    pub owned: BTreeSet<u64>,
    pub claims: BTreeMap<u64, u32>,
    /// Called on every fetch, so that a test can change memory between two.
    pub on_read: Option<Box<dyn Fn(u64)>>,
    pub reads: Cell<u64>,
    pub log: RefCell<Vec<u64>>,
}

pub struct Claim {
    ipa: u64,
    size: u64,
}

impl Host {
    pub fn new(mem: Memory) -> Self {
        let owned = (RAM / 4096..(RAM + RAM_SIZE) / 4096).collect();
        Self { mem, owned, claims: BTreeMap::new(), on_read: None, reads: Cell::new(0), log: RefCell::default() }
    }

    /// Gives a page away; refused while it is claimed.
    pub fn donate(&mut self, page: u64) -> bool {
        if self.claims.contains_key(&(page / 4096)) {
            return false;
        }
        self.owned.remove(&(page / 4096))
    }

    fn at(&self, claim: &Claim, offset: u64, size: u64) -> Option<u64> {
        let end = offset.checked_add(size)?;
        // A page that went in spite of the claim: only a test takes it.
        let owned = self.owned.contains(&(claim.ipa.checked_add(offset)? / 4096));
        (owned && offset.is_multiple_of(size) && end <= claim.size).then_some(claim.ipa + offset)
    }
}

impl HostMemory for Host {
    type Claim = Claim;

    fn claim(&mut self, ipa: Ipa, size: u64) -> Result<Claim, ClaimError> {
        let last = size.checked_sub(1).and_then(|s| ipa.0.checked_add(s)).ok_or(ClaimError::BadRange)?;
        let pages = ipa.0 / 4096..=last / 4096;
        if pages.end() - pages.start() > 0x10_0000 || !pages.clone().all(|p| self.owned.contains(&p)) {
            return Err(ClaimError::NotOwned);
        }
        for page in pages {
            *self.claims.entry(page).or_default() += 1;
        }
        Ok(Claim { ipa: ipa.0, size })
    }
    fn release(&mut self, claim: Claim) {
        for page in claim.ipa / 4096..=(claim.ipa + claim.size - 1) / 4096 {
            let count = self.claims.get_mut(&page).expect("released twice");
            *count -= 1;
            if *count == 0 {
                self.claims.remove(&page);
            }
        }
    }
    fn read64(&self, claim: &Claim, offset: u64) -> Option<u64> {
        let at = self.at(claim, offset, 8)?;
        self.reads.set(self.reads.get() + 1);
        self.log.borrow_mut().push(at);
        let value = self.mem.cpu_read64(at);
        if let Some(hook) = &self.on_read {
            hook(at);
        }
        Some(value)
    }
    fn write64(&mut self, claim: &Claim, offset: u64, value: u64) -> Option<()> {
        let at = self.at(claim, offset, 8)?;
        self.mem.cpu_write64(at, value);
        Some(())
    }
    fn write32(&mut self, claim: &Claim, offset: u64, value: u32) -> Option<()> {
        let at = self.at(claim, offset, 4)?;
        self.mem.cpu_write32(at, value);
        Some(())
    }
}

/// EL2's stage 2 of tests: identity, 4K leaves, 40 bits, two concatenated level-1 tables.
pub struct Stage2 {
    mem: Memory,
    root: u64,
    next: u64,
}

impl Stage2 {
    pub fn new(mem: &Memory) -> Self {
        let root = POOL;
        let mut table = Self { mem: mem.clone(), root, next: POOL + 0x2000 };
        // 4K leaves around BUF, 2M blocks elsewhere.
        let mut block = RAM;
        while block < RAM + RAM_SIZE {
            if block == BUF {
                for page in (block..block + 0x20_0000).step_by(4096) {
                    table.map(page);
                }
            } else {
                let page = table.entry(block, true).unwrap() & !0xfff;
                let (l1, l2) = (block >> 30 & 0x3ff, block >> 21 & 0x1ff);
                let l2_table = mem.cpu_read64(root + l1 * 8) & 0x00ff_ffff_f000;
                assert_eq!(mem.cpu_read64(l2_table + l2 * 8) & 0x00ff_ffff_f000, page);
                table.store(l2_table + l2 * 8, block | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 1);
            }
            block += 0x20_0000;
        }
        table
    }

    fn entry(&mut self, ipa: u64, create: bool) -> Option<u64> {
        let mut table = self.root;
        for shift in [30, 21] {
            let index = if shift == 30 { ipa >> 30 & 0x3ff } else { ipa >> shift & 0x1ff };
            let at = table + index * 8;
            let desc = self.mem.cpu_read64(at);
            if desc & 1 == 0 {
                if !create {
                    return None;
                }
                let new = self.next;
                self.next += 4096;
                self.store(at, new | 3);
                table = new;
            } else {
                table = desc & 0x00ff_ffff_f000;
            }
        }
        Some(table + (ipa >> 12 & 0x1ff) * 8)
    }

    fn store(&self, at: u64, value: u64) {
        self.mem.cpu_write64(at, value);
        self.mem.clean(at..at + 8);
    }

    pub fn map(&mut self, ipa: u64) {
        let at = self.entry(ipa, true).unwrap();
        self.store(at, ipa | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 3);
    }

    pub fn unmap(&mut self, ipa: u64) {
        if let Some(at) = self.entry(ipa, false) {
            self.store(at, 0);
        }
    }

    /// Replaces the 2M block at `block` by a table without `hole`.
    pub fn split(&mut self, block: u64, hole: u64) {
        let table = self.next;
        self.next += 4096;
        for page in (block..block + 0x20_0000).step_by(4096) {
            let desc = if page == hole { 0 } else { page | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 3 };
            self.store(table + (page >> 12 & 0x1ff) * 8, desc);
        }
        let l2 = self.mem.cpu_read64(self.root + (block >> 30 & 0x3ff) * 8) & 0x00ff_ffff_f000;
        self.store(l2 + (block >> 21 & 0x1ff) * 8, table | 3);
    }

    pub fn cfg(&self) -> Stage2Cfg {
        let (irgn, orgn, sh) = (1, 1, 3);
        Stage2Cfg { ttb: Pa(self.root), t0sz: 24, sl0: 1, irgn, orgn, sh, tg: 0, ps: 2, vmid: VMID }
    }
}

/// The driver, live, with its surroundings.
pub struct Rig {
    pub board: Board,
    pub host: Host,
    pub smmu: Smmu<Board, Host>,
    pub s2: Stage2,
    pub prod: u32,
    pub again: u32,
}

/// Where the host of tests keeps its structures.
pub const CMDQ: u64 = RAM + 0x1_0000;
pub const EVTQ: u64 = RAM + 0x2_0000;
pub const STRTAB: u64 = RAM + 0x10_0000;
pub const L2TAB: u64 = RAM + 0x20_0000;
pub const CDTAB: u64 = RAM + 0x30_0000;
pub const S1TAB: u64 = RAM + 0x40_0000;
pub const BUF: u64 = RAM + 0x80_0000;
pub const CMDQ_LOG2: u32 = 8;
pub const EVTQ_LOG2: u32 = 7;

pub fn firmware(config: &Config) -> ProbeConfig {
    let coherent = if config.snoop == Snoop::Coherent { Coherency::Coherent } else { Coherency::NonCoherent };
    ProbeConfig { coherent, msi: MsiAdvert::WhenCoherent }
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
        let s2 = Stage2::new(&board.0.mem);
        let smmu = Probed::probe(board.clone(), firmware).unwrap().take_over(s2.cfg()).unwrap();
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
        panic!("a store never completes");
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

    /// Command and event queue on, as Linux does it.
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
        assert_eq!(self.read(r::CMDQ_CONS), u64::from(self.prod), "queue did not run dry");
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
        self.write(r::EVENTQ_CONS, cons | (prod & 1 << 31));
        out
    }

    pub fn hazards(&self) -> Vec<smmu_model::Hazard> {
        self.board.0.model.borrow_mut().take_hazards()
    }

    pub fn irqs(&self) -> Vec<WiredIrq> {
        std::mem::take(&mut self.board.0.irqs.borrow_mut())
    }

    /// EL2 memory, all of it.
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
        self.store(l3, BUF | 1 << 11 | 1 << 10 | 3 << 8 | 1 << 6 | 3);
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
        [1 | 5 << 1 | cd, 1 << 2 | 1 << 4 | 3 << 6, 0, 0, 0, 0, 0, 0]
    }
}

pub const SYNC: [u64; 2] = [0x46, 0];
pub const CFGI_ALL: [u64; 2] = [4, 31];
pub const BYPASS: [u64; 8] = [1 | 4 << 1, 1 << 44, 0, 0, 0, 0, 0, 0];
pub const ABORT: [u64; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

pub fn cfgi_ste(sid: u32) -> [u64; 2] {
    [3 | u64::from(sid) << 32, 1]
}
