//! A machine around the guard: the GIC model, EL2's memory, and a host with Linux's habits.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod board;
pub mod host;

use std::rc::Rc;

use gic_guard::platform::Frame;
use gic_guard::{AccessSize, Config as GuardConfig, Guard, RdConfig, TakeOverError, WriteOutcome};
pub use gic_model::{Config, Model};
use io_pgtable::Pa;

pub use board::Board;
#[allow(unused_imports)]
pub use board::POOL;
pub use host::Host;

/// The host's memory.
pub const RAM: u64 = 0x4000_0000;
pub const RAM_SIZE: u64 = 0x0400_0000;
/// A guest's.
pub const GUEST: u64 = 0x6000_0000;
pub const RING: u64 = RAM + 0x10_0000;
pub const DEVICES: u64 = RAM + 0x20_0000;
pub const COLLECTIONS: u64 = RAM + 0x28_0000;
pub const ITT: u64 = RAM + 0x30_0000;
pub const PROP: u64 = RAM + 0x40_0000;
pub const PEND: u64 = RAM + 0x50_0000;

/// Registers, as a host's driver has them.
pub mod r {
    pub const CTLR: u32 = 0x0;
    pub const IIDR: u32 = 0x4;
    pub const TYPER: u32 = 0x8;
    pub const WAKER: u32 = 0x14;
    pub const CBASER: u32 = 0x80;
    pub const CWRITER: u32 = 0x88;
    pub const CREADR: u32 = 0x90;
    pub const BASER0: u32 = 0x100;
    pub const BASER1: u32 = 0x108;
    pub const PROPBASER: u32 = 0x70;
    pub const PENDBASER: u32 = 0x78;
    pub const PIDR2: u32 = 0xffe8;
    /// Inner shareable, write-back.
    pub const ITS_WB: u64 = 7 << 59 | 1 << 10;
    pub const RD_WB: u64 = 7 << 7 | 1 << 10;
    pub const VALID: u64 = 1 << 63;
    pub const INDIRECT: u64 = 1 << 62;
    pub const PAGE_64K: u64 = 2 << 8;
}

pub type Cmd = [u64; 4];

pub fn mapd(device: u64, bits: u64) -> Cmd {
    [device << 32 | 0x08, bits - 1, r::VALID | ITT, 0]
}
pub fn unmapd(device: u64) -> Cmd {
    [device << 32 | 0x08, 0, 0, 0]
}
pub fn mapc(icid: u64, cpu: u64) -> Cmd {
    [0x09, 0, r::VALID | cpu << 16 | icid, 0]
}
pub fn unmapc(icid: u64) -> Cmd {
    [0x09, 0, icid, 0]
}
pub fn mapti(device: u64, event: u64, lpi: u64, icid: u64) -> Cmd {
    [device << 32 | 0x0a, lpi << 32 | event, icid, 0]
}
pub fn mapi(device: u64, event: u64, icid: u64) -> Cmd {
    [device << 32 | 0x0b, event, icid, 0]
}
pub fn movi(device: u64, event: u64, icid: u64) -> Cmd {
    [device << 32 | 0x01, event, icid, 0]
}
pub fn movall(from: u64, to: u64) -> Cmd {
    [0x0e, 0, from << 16, to << 16]
}
pub fn inv(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x0c, event, 0, 0]
}
pub fn invall(icid: u64) -> Cmd {
    [0x0d, 0, icid, 0]
}
pub fn int(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x03, event, 0, 0]
}
pub fn clear(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x04, event, 0, 0]
}
pub fn discard(device: u64, event: u64) -> Cmd {
    [device << 32 | 0x0f, event, 0, 0]
}
pub fn sync(cpu: u64) -> Cmd {
    [0x05, 0, cpu << 16, 0]
}

/// The machine.
pub struct Rig {
    pub board: Board,
    pub guard: Box<Guard<Board>>,
    pub host: Host,
    pub config: Config,
    /// The host's write offsets.
    pub tail: Vec<u64>,
    /// Traps of the last store.
    pub traps: u32,
}

/// The guard, not taken over.
pub fn bare(config: Config) -> (Board, Box<Guard<Board>>, Host) {
    let board = Board::new(config);
    let host = Host::new(board.memory().clone());
    (board.clone(), Box::new(Guard::new(board)), host)
}

/// What firmware says of `config`.
pub fn rds(config: Config) -> Vec<RdConfig> {
    (0..config.cpus).map(|n| RdConfig { base: Pa(config.rd_address(n)) }).collect()
}

/// Take-over of a machine.
pub fn take_over(config: Config) -> Result<Rig, TakeOverError> {
    let (board, mut guard, host) = bare(config);
    guard.take_over(&GuardConfig { its: config.its, rds: &rds(config), intid_bits: 16 })?;
    let tail = vec![0; config.its];
    Ok(Rig { board, guard, host, config, tail, traps: 0 })
}

impl Rig {
    pub fn new(config: Config) -> Self {
        take_over(config).unwrap()
    }

    /// A machine on which Linux has set up every ITS and CPU.
    pub fn linux(config: Config) -> Self {
        let mut rig = Self::new(config);
        for its in 0..config.its {
            rig.linux_its(its);
        }
        for cpu in 0..config.cpus {
            rig.linux_cpu(cpu);
        }
        rig.check();
        rig
    }

    pub fn model(&self) -> std::cell::RefMut<'_, Model> {
        self.board.0.model.borrow_mut()
    }

    pub fn read(&mut self, frame: Frame, offset: u32, size: AccessSize) -> u64 {
        self.guard.mmio_read(frame, offset, size)
    }

    pub fn its64(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Its(n), offset, AccessSize::Double)
    }

    pub fn its32(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Its(n), offset, AccessSize::Word)
    }

    pub fn rd32(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Rd(n), offset, AccessSize::Word)
    }

    pub fn rd64(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Rd(n), offset, AccessSize::Double)
    }

    /// A store, once.
    pub fn once(&mut self, frame: Frame, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        let (before, start) = (self.board.work(), self.board.now());
        let reads = self.host.reads.get();
        let outcome = self.guard.mmio_write(&mut self.host, frame, offset, size, value);
        assert_eq!(self.host.claimed.get(), 0, "a claim outlives the trap");
        let (accesses, waited) = (self.board.work() - before, self.board.now() - start);
        assert!(waited < 1_100_000, "one trap waited {waited} us");
        assert!(accesses <= 2000 + waited / 100, "one trap made {accesses} register accesses");
        assert!(self.host.reads.get() - reads <= 5000, "one trap read {} words", self.host.reads.get() - reads);
        outcome
    }

    /// A store, repeated until it is complete.
    pub fn write(&mut self, frame: Frame, offset: u32, size: AccessSize, value: u64) {
        self.traps = 1;
        while self.once(frame, offset, size, value) == WriteOutcome::Again {
            self.traps += 1;
            assert!(self.traps < 5000, "the host repeats its store for ever");
        }
    }

    pub fn set_its64(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Its(n), offset, AccessSize::Double, value);
    }

    pub fn set_its32(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Its(n), offset, AccessSize::Word, value);
    }

    pub fn set_rd64(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Rd(n), offset, AccessSize::Double, value);
    }

    pub fn set_rd32(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Rd(n), offset, AccessSize::Word, value);
    }

    /// As Linux sets up an ITS.
    pub fn linux_its(&mut self, n: usize) {
        let far = n as u64 * 0x10_0000 * 16;
        self.set_its32(n, r::CTLR, 0);
        for offset in (0x100..0x140).step_by(8) {
            self.set_its64(n, offset, 0);
        }
        self.set_its64(n, r::BASER0, r::VALID | r::INDIRECT | r::ITS_WB | r::PAGE_64K | (DEVICES + far));
        self.set_its64(n, r::BASER1, r::VALID | r::ITS_WB | r::PAGE_64K | (COLLECTIONS + far));
        self.set_its64(n, r::CBASER, r::VALID | r::ITS_WB | (RING + far) | 15);
        self.set_its64(n, r::CWRITER, 0);
        self.set_its32(n, r::CTLR, 1);
        self.tail[n] = 0;
        assert!(self.its32(n, r::CTLR) & 1 == 1 || self.guard.failed(n).is_some());
    }

    /// As Linux sets up a CPU.
    pub fn linux_cpu(&mut self, cpu: usize) {
        self.set_rd32(cpu, r::WAKER, 0);
        self.set_rd64(cpu, r::PROPBASER, r::RD_WB | PROP | 15);
        self.set_rd64(cpu, r::PENDBASER, r::RD_WB | (PEND + 0x1_0000 * cpu as u64));
        self.set_rd32(cpu, r::CTLR, 1);
        assert_eq!(self.rd32(cpu, r::CTLR), 3, "EnableLPIs and CES");
        for its in 0..self.config.its {
            let id = cpu as u64;
            self.post(its, &[mapc(id, id), sync(id)]);
            self.post(its, &[invall(id), sync(id)]);
        }
    }

    /// Address of the host's queue of ITS `n`.
    pub fn ring(&mut self, n: usize) -> u64 {
        self.its64(n, r::CBASER) & 0xf_ffff_ffff_f000
    }

    /// Puts commands into the host's queue; returns the new tail.
    pub fn queue(&mut self, n: usize, commands: &[Cmd]) -> u64 {
        let cbaser = self.its64(n, r::CBASER);
        let bytes = ((cbaser & 0xff) + 1) * 4096;
        let base = cbaser & 0xf_ffff_ffff_f000;
        for command in commands {
            for (word, at) in command.iter().zip([0, 8, 16, 24]) {
                self.board.memory().write64(base + self.tail[n] + at, *word);
            }
            self.tail[n] = (self.tail[n] + 32) % bytes;
        }
        self.tail[n]
    }

    /// Posts commands and waits for them.
    pub fn post(&mut self, n: usize, commands: &[Cmd]) {
        let tail = self.queue(n, commands);
        self.set_its64(n, r::CWRITER, tail);
        assert_eq!(self.its64(n, r::CREADR), tail);
        self.check();
    }

    /// The host's configuration byte of an LPI.
    pub fn configure(&mut self, lpi: u64, byte: u8) {
        let at = PROP + lpi - 8192;
        let mut word = self.board.memory().read64(at).to_le_bytes();
        word[(at & 7) as usize] = byte;
        self.board.memory().write64(at, u64::from_le_bytes(word));
    }

    /// A device raises an interrupt; the LPIs that reached each CPU.
    pub fn raise(&mut self, its: usize, device: u64, event: u64) -> Vec<(usize, u32)> {
        self.model().translate(its, device, event);
        self.delivered()
    }

    pub fn delivered(&mut self) -> Vec<(usize, u32)> {
        self.model().settle();
        let cpus = self.config.cpus;
        (0..cpus)
            .flat_map(|cpu| self.model().take_delivered(cpu).into_iter().map(move |lpi| (cpu, lpi)).collect::<Vec<_>>())
            .collect()
    }

    /// Nothing of hardware is outside EL2's memory, now or before, and hardware was used as the architecture demands.
    pub fn check(&mut self) {
        let hazards = self.model().hazards();
        assert_eq!(hazards, []);
        let foreign = self.model().foreign();
        assert_eq!(foreign, []);
        let memory = self.board.memory().clone();
        self.guard.audit(|pa, size| memory.is_given(pa.0, size as u64)).unwrap();
    }

    /// Bytes of the pool in use.
    pub fn live(&self) -> usize {
        self.board.0.live.get()
    }
}

/// So that tests can look at one machine from two sides.
pub fn shared<T>(value: T) -> Rc<std::cell::RefCell<T>> {
    Rc::new(std::cell::RefCell::new(value))
}
