//! The payload's SMMUv3 driver: stage 1 with context descriptors, bypass entries, disabled; linear and two-level
//! stream tables; command and event queues.
//!
//! Written independently from Arm IHI 0070: it shares no constant with the hypervisor's driver, so that a mistake in
//! either fails a test.

pub mod queue;
pub mod spec;
pub mod stage1;
pub mod strtab;

use crate::machine::Machine;
use crate::mem::{PAGE, alloc};
use crate::mmio;
use crate::num::{low32, u64_of};
use crate::sysreg;
use queue::{CommandQueue, Event, EventQueue};
use spec::{Cmd, cr0, reg};
use strtab::StreamTable;

/// Longest time a register handshake or a SYNC may take, in microseconds.
pub const TIMEOUT_US: u64 = 1_000_000;

/// SMMU errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmmuError {
    /// CR0ACK did not follow CR0.
    Cr0(u32),
    /// GBPA.UPDATE stayed set.
    Gbpa,
    /// A SYNC did not complete.
    SyncTimeout,
    /// The command queue stopped: CMDQ_CONS.ERR.
    Command(u32),
}

/// The SMMU with the host's driver.
#[derive(Debug)]
pub struct Smmu {
    base: u64,
    /// Command queue.
    pub cmdq: CommandQueue,
    /// Event queue.
    pub evtq: EventQueue,
    /// Stream table.
    pub strtab: StreamTable,
}

/// Stream table format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One array of entries.
    Linear,
    /// Two levels, split at 8 bits.
    TwoLevel,
}

impl Smmu {
    /// Allocates queues and a stream table of abort entries; accesses only ID registers.
    pub fn new(machine: &Machine, format: Format) -> Self {
        Self::at(machine.smmu, format)
    }

    /// As [`Smmu::new`], for the SMMU with its registers at `base`.
    pub fn at(base: u64, format: Format) -> Self {
        let idr1 = mmio::read32(base + reg::IDR1);
        let cmdq_log2 = (idr1 >> 21 & 0x1f).min(7);
        let evtq_log2 = (idr1 >> 16 & 0x1f).min(7);
        let sid_bits = idr1 & 0x3f;
        Self {
            base,
            cmdq: CommandQueue::new(cmdq_log2),
            evtq: EventQueue::new(evtq_log2),
            strtab: StreamTable::new(format, sid_bits),
        }
    }

    /// Reads a 32-bit register.
    pub fn read(&self, offset: u64) -> u32 {
        mmio::read32(self.base + offset)
    }

    /// Writes a 32-bit register.
    pub fn write(&self, offset: u64, value: u32) {
        mmio::write32(self.base + offset, value);
    }

    /// Reads a 64-bit register.
    pub fn read64(&self, offset: u64) -> u64 {
        mmio::read64(self.base + offset)
    }

    /// Writes a 64-bit register.
    pub fn write64(&self, offset: u64, value: u64) {
        mmio::write64(self.base + offset, value);
    }

    /// Address of the register at `offset`.
    pub fn addr(&self, offset: u64) -> u64 {
        self.base + offset
    }

    /// Writes CR0 and waits for CR0ACK.
    ///
    /// # Errors
    /// CR0ACK did not follow; its value.
    pub fn set_cr0(&self, value: u32) -> Result<(), SmmuError> {
        self.write(reg::CR0, value);
        if sysreg::poll_us(TIMEOUT_US, || self.read(reg::CR0ACK) == value) {
            Ok(())
        } else {
            Err(SmmuError::Cr0(self.read(reg::CR0ACK)))
        }
    }

    /// Writes GBPA through its handshake.
    ///
    /// # Errors
    /// UPDATE stayed set.
    pub fn set_gbpa(&self, value: u32) -> Result<(), SmmuError> {
        self.write(reg::GBPA, value | spec::GBPA_UPDATE);
        if sysreg::poll_us(TIMEOUT_US, || self.read(reg::GBPA) & spec::GBPA_UPDATE == 0) {
            Ok(())
        } else {
            Err(SmmuError::Gbpa)
        }
    }

    /// Disables the SMMU and its queues: GBPA applies to all transactions.
    ///
    /// # Errors
    /// The handshake did not finish.
    pub fn off(&self) -> Result<(), SmmuError> {
        self.set_cr0(0)
    }

    /// Programs the queues and the stream table from reset and enables all of them, in Linux's order.
    ///
    /// # Errors
    /// A handshake or the first SYNC failed.
    pub fn start(&mut self) -> Result<(), SmmuError> {
        self.set_cr0(0)?;
        self.write(reg::CR1, spec::CR1_CACHEABLE);
        self.write(reg::CR2, spec::CR2_PTM | spec::CR2_RECINVSID);
        self.write64(reg::STRTAB_BASE, self.strtab.base_register());
        self.write(reg::STRTAB_BASE_CFG, self.strtab.config_register());
        self.start_cmdq(0)?;
        self.command(Cmd::cfgi_all());
        self.command(Cmd::tlbi_nsnh_all());
        self.sync()?;
        self.evtq.reset();
        self.write64(reg::EVENTQ_BASE, self.evtq.base_register());
        self.write(reg::EVENTQ_PROD, 0);
        self.write(reg::EVENTQ_CONS, 0);
        self.set_cr0(cr0::CMDQEN | cr0::EVENTQEN)?;
        self.set_cr0(cr0::CMDQEN | cr0::EVENTQEN | cr0::SMMUEN)
    }

    /// Programs the empty command queue and enables it in addition to `others` (CR0 bits that are already set).
    ///
    /// # Errors
    /// The handshake did not finish.
    pub fn start_cmdq(&mut self, others: u32) -> Result<(), SmmuError> {
        self.cmdq.reset();
        self.write64(reg::CMDQ_BASE, self.cmdq.base_register());
        self.write(reg::CMDQ_PROD, 0);
        self.write(reg::CMDQ_CONS, 0);
        self.set_cr0(others | cr0::CMDQEN)
    }

    /// Writes a command into the queue; it is published by the next [`Smmu::publish`] or [`Smmu::sync`].
    pub fn command(&mut self, cmd: Cmd) {
        self.cmdq.push(cmd);
    }

    /// Writes CMDQ_PROD.
    pub fn publish(&self) {
        sysreg::dsb();
        self.write(reg::CMDQ_PROD, self.cmdq.prod());
    }

    /// Publishes all commands and a SYNC, and waits until they are consumed.
    ///
    /// # Errors
    /// The queue stopped with an error, or timed out.
    pub fn sync(&mut self) -> Result<(), SmmuError> {
        self.command(Cmd::sync());
        self.publish();
        self.drain()
    }

    /// Waits until the SMMU has consumed the published commands.
    ///
    /// # Errors
    /// As [`Smmu::sync`].
    pub fn drain(&self) -> Result<(), SmmuError> {
        let finished =
            sysreg::poll_us(TIMEOUT_US, || self.error().is_some() || self.cmdq.is_drained(self.read(reg::CMDQ_CONS)));
        match (self.error(), finished) {
            (Some(code), _) => Err(SmmuError::Command(code)),
            (None, true) => Ok(()),
            (None, false) => Err(SmmuError::SyncTimeout),
        }
    }

    /// CMDQ_CONS.ERR while GERROR shows that the command queue has stopped.
    pub fn error(&self) -> Option<u32> {
        let active = self.read(reg::GERROR) ^ self.read(reg::GERRORN);
        (active & spec::GERROR_CMDQ != 0).then(|| self.read(reg::CMDQ_CONS) >> 24 & 0x7f)
    }

    /// Repairs a stopped command queue as Linux does: overwrites the illegal entry with a SYNC and acknowledges the
    /// error.
    pub fn repair(&mut self) {
        let cons = self.read(reg::CMDQ_CONS);
        self.cmdq.overwrite(cons, Cmd::sync());
        sysreg::dsb();
        self.acknowledge();
    }

    /// Acknowledges all active global errors.
    pub fn acknowledge(&self) {
        self.write(reg::GERRORN, self.read(reg::GERROR));
    }

    /// Runs one command and returns `Ok` or CMDQ_CONS.ERR. A stopped queue is repaired.
    ///
    /// # Errors
    /// The queue stopped with this code, or timed out.
    pub fn try_command(&mut self, cmd: Cmd) -> Result<(), SmmuError> {
        self.command(cmd);
        let result = self.sync();
        if let Err(SmmuError::Command(_)) = result {
            self.repair();
            self.drain()?;
        }
        result
    }

    /// Sets the stream's entry and invalidates it.
    ///
    /// # Errors
    /// The invalidation failed.
    pub fn set_ste(&mut self, sid: u32, ste: spec::Ste) -> Result<(), SmmuError> {
        // The entry is first made invalid, so that the SMMU never uses a partly written one.
        self.strtab.write_word(sid, 0, 0);
        self.command(Cmd::cfgi_ste(sid));
        self.sync()?;
        for (index, word) in ste.0.iter().enumerate().skip(1) {
            self.strtab.write_word(sid, u64_of(index), *word);
        }
        self.strtab.write_word(sid, 0, ste.0[0]);
        self.command(Cmd::cfgi_ste(sid));
        self.sync()
    }

    /// Next event of the host's event queue.
    pub fn next_event(&mut self) -> Option<Event> {
        let prod = self.read(reg::EVENTQ_PROD);
        let event = self.evtq.pop(prod)?;
        self.write(reg::EVENTQ_CONS, self.evtq.cons());
        Some(event)
    }
}

/// A zeroed page for DMA.
pub fn dma_page() -> u64 {
    alloc(PAGE, PAGE)
}

/// Low word of a 64-bit register value.
pub fn low(value: u64) -> u32 {
    low32(value)
}
