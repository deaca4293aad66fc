//! The GIC: ITSs and redistributors that share one memory.

mod commands;
mod its;
mod oracle;
mod rd;
mod tables;

use crate::{Config, Hazard, Memory};
use its::Its;
pub use oracle::Reach;
use rd::Rd;

/// A frame of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Registers of an ITS, from its control frame on.
    Its(usize),
    /// Registers of a redistributor, from its RD frame on.
    Rd(usize),
}

/// A GIC.
pub struct Model {
    pub(crate) config: Config,
    pub(crate) memory: Memory,
    pub(crate) its: Vec<Its>,
    pub(crate) rds: Vec<Rd>,
    seed: u64,
    /// Number of loads and stores of registers.
    accesses: u64,
}

impl Model {
    /// Creates a GIC that has been reset.
    pub fn new(config: Config, memory: Memory) -> Self {
        Self {
            config,
            memory,
            its: (0..config.its).map(|_| Its::new(&config)).collect(),
            rds: (0..config.cpus).map(|_| Rd::new(&config)).collect(),
            seed: config.seed | 1,
            accesses: 0,
        }
    }

    /// A random number below `bound` (xorshift64).
    pub(crate) fn random(&mut self, bound: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) % bound
    }

    /// The memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Errors of software that were found so far.
    pub fn hazards(&self) -> Vec<Hazard> {
        self.memory.hazards()
    }

    /// Number of register accesses so far.
    pub fn accesses(&self) -> u64 {
        self.accesses
    }

    /// Reads a 32-bit register.
    pub fn read32(&mut self, place: Place, offset: u32) -> u32 {
        self.accesses += 1;
        match place {
            Place::Its(n) => match offset {
                0x0 => self.its_ctlr(n),
                0x4 => 0x0001_043b,
                0xffe8 => 0x3b,
                _ => 0,
            },
            Place::Rd(n) => match offset {
                0x0 => self.rd_ctlr(n),
                0x4 => 0x0002_043b,
                0x14 => self.rds[n].waker,
                0xffe8 => 0x3b,
                _ => 0,
            },
        }
    }

    /// Writes a 32-bit register.
    pub fn write32(&mut self, place: Place, offset: u32, value: u32) {
        self.accesses += 1;
        match (place, offset) {
            (Place::Its(n), 0) => self.set_its_ctlr(n, value),
            (Place::Rd(n), 0) => self.set_rd_ctlr(n, value),
            (Place::Rd(n), 0x14) => {
                let sleep = value & 2;
                self.rds[n].waker = sleep | sleep << 1;
            }
            _ => self.memory.report(Hazard::InUse("a 32-bit register that software must not write")),
        }
    }

    /// Reads a 64-bit register.
    pub fn read64(&mut self, place: Place, offset: u32) -> u64 {
        self.accesses += 1;
        match place {
            Place::Its(n) => match offset {
                0x8 => self.its_typer(),
                0x80 => self.its[n].cbaser,
                0x88 => self.its[n].cwriter,
                0x90 => {
                    let few = self.random(4);
                    self.run(n, few);
                    self.its[n].creadr | u64::from(self.its[n].stalled)
                }
                0x100..0x140 => self.its_baser(n, ((offset - 0x100) / 8) as usize),
                _ => 0,
            },
            Place::Rd(n) => match offset {
                0x8 => self.rd_typer(n),
                0x70 => self.rds[n].propbaser,
                0x78 => self.rds[n].pendbaser & !(1 << 62),
                0x2_0070 => self.rds[n].vpropbaser,
                0x2_0078 => self.vpendbaser(n),
                _ => 0,
            },
        }
    }

    /// Writes a 64-bit register.
    pub fn write64(&mut self, place: Place, offset: u32, value: u64) {
        self.accesses += 1;
        match place {
            Place::Its(n) => match offset {
                0x80 => self.set_cbaser(n, value),
                0x88 => self.set_cwriter(n, value),
                0x100..0x140 => self.set_baser(n, ((offset - 0x100) / 8) as usize, value),
                _ => self.memory.report(Hazard::InUse("a 64-bit register that software must not write")),
            },
            Place::Rd(n) => match offset {
                0x70 => self.set_propbaser(n, value),
                0x78 => self.set_pendbaser(n, value),
                0x2_0070 => self.set_vpropbaser(n, value),
                0x2_0078 => self.set_vpendbaser(n, value),
                _ => self.memory.report(Hazard::InUse("a 64-bit register that software must not write")),
            },
        }
    }

    /// Executes all queued commands and completes late writes.
    pub fn settle(&mut self) {
        for n in 0..self.its.len() {
            self.run(n, u64::MAX);
            self.flush(n);
        }
    }

    /// Returns the LPIs that redistributor `n` delivered since the last call.
    pub fn take_delivered(&mut self, n: usize) -> Vec<u32> {
        core::mem::take(&mut self.rds[n].delivered)
    }
}
