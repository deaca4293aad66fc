//! Skips an audit of the guard while its input is unchanged.
//!
//! An audit is repeated if a register that it read has another value, if a page that it read was stored to, or if EL2
//! memory was allocated or freed. The guard's own state is not compared: for this reason every sixteenth audit is
//! complete, and so is the last one of a run.

use gic_guard::Platform;
use gic_guard::platform::Frame;
use gic_model::Memory;

/// A register, and the value that was read from it.
#[derive(Clone, Copy)]
enum Register {
    Word(Frame, u32, u32),
    Double(Frame, u32, u64),
}

/// What an audit reads.
#[derive(Default)]
pub(crate) struct Input {
    registers: Vec<Register>,
    /// Addresses and stamps of pages.
    pages: Vec<(u64, u64)>,
    /// Stamp of the ranges of EL2's memory.
    given: u64,
}

impl Input {
    /// The input of an audit that starts now.
    pub(crate) fn new(memory: &Memory) -> Self {
        Self { given: memory.given_stamp(), ..Self::default() }
    }

    /// A 32-bit register was read.
    pub(crate) fn word(&mut self, frame: Frame, offset: u32, value: u32) {
        self.registers.push(Register::Word(frame, offset, value));
    }

    /// A 64-bit register was read.
    pub(crate) fn double(&mut self, frame: Frame, offset: u32, value: u64) {
        self.registers.push(Register::Double(frame, offset, value));
    }

    /// A word of the page at `address` was read.
    pub(crate) fn page(&mut self, memory: &Memory, address: u64) {
        self.pages.push((address, memory.stamp(address)));
    }

    /// Whether another audit would read the same. This reads the registers as an audit does.
    pub(crate) fn is_unchanged(&self, platform: &impl Platform, memory: &Memory) -> bool {
        let same = |register: &Register| match *register {
            Register::Word(frame, offset, value) => platform.read32(frame, offset) == value,
            Register::Double(frame, offset, value) => platform.read64(frame, offset) == value,
        };
        self.given == memory.given_stamp()
            && self.pages.iter().all(|(page, stamp)| memory.stamp(*page) == *stamp)
            && self.registers.iter().all(same)
    }
}
