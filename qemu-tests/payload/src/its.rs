//! A driver for the ITS and the redistributors: tables at given addresses, one command at a time, LPIs that become
//! pending at the boot CPU.

use crate::machine::Machine;
use crate::mem::alloc;
use crate::num::u64_of;
use crate::outcome::TestResult;
use crate::{ensure, mmio, sysreg};

/// Registers of an ITS.
pub mod gits {
    /// Control.
    pub const CTLR: u64 = 0x00;
    /// The command queue.
    pub const CBASER: u64 = 0x80;
    /// Offset of the next command that software writes.
    pub const CWRITER: u64 = 0x88;
    /// Offset of the next command that hardware reads.
    pub const CREADR: u64 = 0x90;
    /// The first of eight GITS_BASER registers.
    pub const BASER: u64 = 0x100;
    /// GITS_TRANSLATER.
    pub const TRANSLATER: u64 = 0x1_0040;
    /// `GITS_CTLR.Quiescent`.
    pub const QUIESCENT: u32 = 1 << 31;
}

/// Registers of a redistributor.
pub mod gicr {
    /// Control.
    pub const CTLR: u64 = 0x00;
    /// Type: the features of the redistributor.
    pub const TYPER: u64 = 0x08;
    /// The configuration table.
    pub const PROPBASER: u64 = 0x70;
    /// The pending table.
    pub const PENDBASER: u64 = 0x78;
}

/// Valid, in registers and commands.
pub const VALID: u64 = 1 << 63;
/// `GITS_BASER<n>`: two levels.
pub const INDIRECT: u64 = 1 << 62;
/// `GITS_BASER<n>`: pages of 64 KiB.
pub const PAGES_64K: u64 = 2 << 8;
/// The first LPI.
pub const LPI: u64 = 8192;
/// Bytes of a queue or table of this driver.
pub const TABLE: u64 = 0x1_0000;
/// A configuration byte: enabled, priority 0xa0.
pub const ENABLED: u8 = 0xa1;
/// `GITS_BASER<n>`.Type.
const DEVICES: u64 = 1;
const COLLECTIONS: u64 = 4;
const TIMEOUT_US: u64 = 1_000_000;

/// The four words of a command.
pub type Command = [u64; 4];

/// MAPD with 2^`bits` events.
pub fn mapd(device: u64, bits: u64, table: u64) -> Command {
    [0x08 | device << 32, bits - 1, VALID | table, 0]
}

/// MAPC to a processor number.
pub fn mapc(collection: u64, processor: u64) -> Command {
    [0x09, 0, VALID | processor << 16 | collection, 0]
}

/// MAPTI.
pub fn mapti(device: u64, event: u64, lpi: u64, collection: u64) -> Command {
    [0x0a | device << 32, lpi << 32 | event, collection, 0]
}

/// MOVI.
pub fn movi(device: u64, event: u64, collection: u64) -> Command {
    [0x01 | device << 32, event, collection, 0]
}

/// INT.
pub fn int(device: u64, event: u64) -> Command {
    [0x03 | device << 32, event, 0, 0]
}

/// INV.
pub fn inv(device: u64, event: u64) -> Command {
    [0x0c | device << 32, event, 0, 0]
}

/// INVALL.
pub fn invall(collection: u64) -> Command {
    [0x0d, 0, collection, 0]
}

/// MOVALL.
pub fn movall(from: u64, to: u64) -> Command {
    [0x0e, 0, from << 16, to << 16]
}

/// SYNC.
pub fn sync(processor: u64) -> Command {
    [0x05, 0, processor << 16, 0]
}

/// An ITS with a command queue.
#[derive(Debug)]
pub struct Its {
    /// Its control frame.
    pub base: u64,
    /// The command queue.
    pub queue: u64,
    /// Offset of the next command.
    pub writer: u64,
}

impl Its {
    /// Enables the ITS with its command queue and collection table in memory of the payload, and a device table at
    /// `devices`: an address with attributes.
    pub fn start(base: u64, devices: u64) -> Self {
        Self::start_with(base, devices, alloc(TABLE, TABLE))
    }

    /// As [`Its::start`], with the command queue at `queue`.
    pub fn start_with(base: u64, devices: u64, queue: u64) -> Self {
        mmio::write32(base + gits::CTLR, 0);
        let collections = alloc(TABLE, TABLE);
        for index in 0..8 {
            let register = base + gits::BASER + index * 8;
            match mmio::read64(register) >> 56 & 7 {
                DEVICES => mmio::write64(register, VALID | devices),
                COLLECTIONS => mmio::write64(register, VALID | collections),
                _ => {}
            }
        }
        mmio::write64(base + gits::CBASER, VALID | queue | 0xf);
        mmio::write64(base + gits::CWRITER, 0);
        mmio::write32(base + gits::CTLR, 1);
        Self { base, queue, writer: 0 }
    }

    /// Writes a command into the queue.
    pub fn put(&mut self, words: Command) {
        for (word, offset) in words.into_iter().zip([0, 8, 16, 24]) {
            mmio::write64(self.queue + self.writer + offset, word);
        }
        self.writer = (self.writer + 32) % TABLE;
    }

    /// Submits the commands in the queue; returns whether the ITS consumed them.
    pub fn submit(&self) -> bool {
        sysreg::dsb();
        mmio::write64(self.base + gits::CWRITER, self.writer);
        sysreg::poll_us(TIMEOUT_US, || mmio::read64(self.base + gits::CREADR) & !0x1f == self.writer)
    }

    /// Runs one command; returns whether the ITS consumed it.
    pub fn command(&mut self, words: Command) -> bool {
        self.put(words);
        self.submit()
    }

    /// Runs commands.
    ///
    /// # Errors
    /// The ITS does not consume one of the commands.
    pub fn commands(&mut self, commands: impl IntoIterator<Item = Command>) -> TestResult {
        for words in commands {
            ensure!(self.command(words), "the ITS does not consume {words:x?}");
        }
        Ok(())
    }

    /// MAPD with 16 events.
    pub fn map_device(&mut self, device: u64, table: u64) -> bool {
        self.command(mapd(device, 4, table))
    }

    /// MAPTI of event 0 to the first LPI, in collection 0.
    pub fn map_event(&mut self, device: u64) -> bool {
        self.command(mapti(device, 0, LPI, 0))
    }

    /// Makes an LPI of `device` pending at the first CPU.
    pub fn raise_lpi(&mut self, device: u64, table: u64) -> bool {
        self.map_device(device, table)
            && self.command(mapc(0, 0))
            && self.map_event(device)
            && self.command(int(device, 0))
            && self.command(sync(0))
    }
}

/// The RD frame of the redistributor of CPU `index`.
pub fn redistributor(machine: &Machine, index: usize) -> u64 {
    // With GICR_TYPER.VLPIS there are two more frames.
    let stride = if mmio::read64(machine.gicr + gicr::TYPER) & 2 == 0 { 0x2_0000 } else { 0x4_0000 };
    machine.gicr + u64_of(index) * stride
}

/// Enables LPIs with 16 bits of INTIDs.
///
/// # Errors
/// A register does not read back.
pub fn enable_lpis(gicr: u64, properties: u64, pending: u64) -> TestResult {
    mmio::write64(gicr + gicr::PROPBASER, properties | 15);
    mmio::write64(gicr + gicr::PENDBASER, pending);
    ensure!(mmio::read64(gicr + gicr::PROPBASER) == properties | 15, "GICR_PROPBASER does not read back");
    mmio::write32(gicr + gicr::CTLR, 1);
    ensure!(mmio::read32(gicr + gicr::CTLR) & 1 == 1, "GICR_CTLR.EnableLPIs does not stay set");
    Ok(())
}

/// A configuration table whose first `count` LPIs are enabled.
pub fn properties(count: u64) -> u64 {
    let table = alloc(TABLE, TABLE);
    for lpi in 0..count {
        mmio::write8(table + lpi, ENABLED);
    }
    table
}
