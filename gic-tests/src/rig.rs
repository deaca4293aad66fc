//! The machine, and a host that behaves like Linux.

use gic_guard::platform::Frame;
use gic_guard::{AccessSize, Config as GuardConfig, GicFinding, Guard, RdConfig, TakeOverError, WriteOutcome};
use io_pgtable::Pa;

use crate::audits::Input;
use crate::{Board, COLLECTIONS, Cmd, Config, DEVICES, Host, Model, PEND, PROP, RING, invall, mapc, r, sync};

/// Maximum number of audits in a row that are skipped. The guard's own state is not compared.
const MAX_SKIPPED: u32 = 15;

/// The machine.
pub struct Rig {
    /// Hardware and EL2's memory.
    pub board: Board,
    /// The guard.
    pub guard: Box<Guard<Board>>,
    /// The host's memory.
    pub host: Host,
    /// The configuration of the GIC.
    pub config: Config,
    /// The host's write offset in each queue.
    pub tail: Vec<u64>,
    /// Number of traps of the last store.
    pub traps: u32,
    /// What the last audit read, if it found nothing.
    audited: Option<Input>,
    /// Number of audits skipped since then.
    skipped: u32,
}

/// Creates a guard that has not taken the machine over.
pub fn bare(config: Config) -> (Board, Box<Guard<Board>>, Host) {
    let board = Board::new(config);
    let host = Host::new(board.memory().clone());
    (board.clone(), Box::new(Guard::new(board)), host)
}

/// The firmware's description of `config`.
pub fn rds(config: Config) -> Vec<RdConfig> {
    (0..config.cpus).map(|n| RdConfig { base: Pa(config.rd_address(n)) }).collect()
}

/// Takes a machine over.
///
/// # Errors
/// The guard refuses the machine.
pub fn take_over(config: Config) -> Result<Rig, TakeOverError> {
    let (board, mut guard, host) = bare(config);
    guard.take_over(&GuardConfig { its: config.its, rds: &rds(config), intid_bits: 16 })?;
    let tail = vec![0; config.its];
    Ok(Rig { board, guard, host, config, tail, traps: 0, audited: None, skipped: 0 })
}

impl Rig {
    /// Takes over a machine that the guard must accept.
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

    /// The GIC.
    pub fn model(&self) -> std::cell::RefMut<'_, Model> {
        self.board.0.model.borrow_mut()
    }

    /// Loads from a register as the host.
    pub fn read(&mut self, frame: Frame, offset: u32, size: AccessSize) -> u64 {
        self.guard.mmio_read(frame, offset, size)
    }

    /// A 64-bit load from an ITS.
    pub fn its64(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Its(n), offset, AccessSize::Double)
    }

    /// A 32-bit load from an ITS.
    pub fn its32(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Its(n), offset, AccessSize::Word)
    }

    /// A 32-bit load from a redistributor.
    pub fn rd32(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Rd(n), offset, AccessSize::Word)
    }

    /// A 64-bit load from a redistributor.
    pub fn rd64(&mut self, n: usize, offset: u32) -> u64 {
        self.read(Frame::Rd(n), offset, AccessSize::Double)
    }

    /// Stores once to a register as the host.
    pub fn once(&mut self, frame: Frame, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        let (before, start) = (self.board.work(), self.board.now());
        let (reads, moved) = (self.host.reads.get(), self.board.0.moved.get());
        let outcome = self.guard.mmio_write(&mut self.host, frame, offset, size, value);
        assert_eq!(self.host.claimed.get(), 0, "a claim was not released in the trap");
        let (accesses, waited) = (self.board.work() - before, self.board.now() - start);
        assert!(waited < 1_100_000, "one trap waited {waited} us");
        assert!(accesses <= 2000 + waited / 100, "one trap made {accesses} register accesses");
        let moved = self.board.0.moved.get() - moved;
        assert!(moved <= 0x11_0000, "one trap allocated and freed {moved:#x} bytes");
        assert!(self.host.reads.get() - reads <= 5000, "one trap read {} words", self.host.reads.get() - reads);
        outcome
    }

    /// Stores to a register as the host, repeated until the store is complete.
    pub fn write(&mut self, frame: Frame, offset: u32, size: AccessSize, value: u64) {
        self.traps = 1;
        while self.once(frame, offset, size, value) == WriteOutcome::Again {
            self.traps += 1;
            assert!(self.traps < 5000, "the store is not complete after many repetitions");
        }
    }

    /// A 64-bit store to an ITS.
    pub fn set_its64(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Its(n), offset, AccessSize::Double, value);
    }

    /// A 32-bit store to an ITS.
    pub fn set_its32(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Its(n), offset, AccessSize::Word, value);
    }

    /// A 64-bit store to a redistributor.
    pub fn set_rd64(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Rd(n), offset, AccessSize::Double, value);
    }

    /// A 32-bit store to a redistributor.
    pub fn set_rd32(&mut self, n: usize, offset: u32, value: u64) {
        self.write(Frame::Rd(n), offset, AccessSize::Word, value);
    }

    /// Sets up an ITS as Linux does.
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

    /// Sets up a CPU as Linux does.
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
                let place = base + self.tail[n] + at;
                if self.host.owns(place) {
                    self.board.memory().write64(place, *word);
                }
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

    /// Raises an interrupt of a device. Returns each LPI that was delivered to a CPU.
    pub fn raise(&mut self, its: usize, device: u64, event: u64) -> Vec<(usize, u32)> {
        self.model().translate(its, device, event);
        self.delivered()
    }

    /// The LPIs that were delivered to each CPU since the last call.
    pub fn delivered(&mut self) -> Vec<(usize, u32)> {
        self.model().settle();
        let cpus = self.config.cpus;
        (0..cpus)
            .flat_map(|cpu| self.model().take_delivered(cpu).into_iter().map(move |lpi| (cpu, lpi)).collect::<Vec<_>>())
            .collect()
    }

    /// Checks that hardware accessed only EL2's memory, and that it was used as the architecture requires.
    pub fn check(&mut self) {
        let hazards = self.model().hazards();
        assert_eq!(hazards, []);
        let foreign = self.model().foreign();
        assert_eq!(foreign, []);
        self.audit().unwrap();
    }

    /// Runs the guard's audit, unless its input is the same as that of the last audit without a finding. At most
    /// `MAX_SKIPPED` audits in a row are skipped.
    ///
    /// # Errors
    /// See [`Guard::audit`].
    pub fn audit(&mut self) -> Result<(), GicFinding> {
        let (board, memory) = (&self.board, self.board.memory());
        let unchanged = self.audited.as_ref().is_some_and(|input| input.is_unchanged(board, memory));
        if unchanged && self.skipped < MAX_SKIPPED {
            self.skipped += 1;
            return Ok(());
        }
        self.audit_all()
    }

    /// Runs the guard's audit.
    ///
    /// # Errors
    /// See [`Guard::audit`].
    pub fn audit_all(&mut self) -> Result<(), GicFinding> {
        let (board, memory) = (&self.board, self.board.memory());
        let (result, input) = board.reads(|| self.guard.audit(|pa, size| memory.is_given(pa.0, size as u64)));
        self.audited = input.filter(|_| result.is_ok());
        self.skipped = 0;
        result
    }

    /// Bytes of the pool in use.
    pub fn live(&self) -> usize {
        self.board.0.live.get()
    }
}
