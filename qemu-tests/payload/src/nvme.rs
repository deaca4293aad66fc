//! A small NVMe driver: admin queue, one I/O queue, one or several commands at a time. It is a fast source of DMA.
//!
//! When the SMMU blocks a transfer, QEMU's device uses a bounce buffer and reports success: only the data
//! shows whether a transfer landed, see [`Nvme::write_lands`].

use crate::edu::Direction;
use crate::machine::Machine;
use crate::mem::{PAGE, alloc};
use crate::mmio;
use crate::num::{low32, u64_of};
use crate::pci::{self, Function};
use crate::sysreg;

/// Class code: mass storage, non-volatile memory, NVMe.
const CLASS: u32 = 0x01_08_02;
const CAP: u64 = 0x00;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
const CC_ENABLE: u32 = 1;
/// 64-byte submission and 16-byte completion entries.
const CC_ENTRY_SIZES: u32 = (6 << 16) | (4 << 20);
const CSTS_READY: u32 = 1;
const ENTRIES: u32 = 64;
const TIMEOUT_US: u64 = 5_000_000;

/// Size in bytes of a logical block of QEMU's disk.
pub const SECTOR: u64 = 512;

/// Upper 16 bits of every word that the disk writes for [`Nvme::write_lands`].
pub const DISK_WORD: u64 = 0xd15c << 48;

/// Maximum number of transfers in flight: one entry of a queue stays empty.
pub const DEPTH: u32 = ENTRIES - 1;

/// The used admin and I/O opcodes.
mod opcode {
    pub(super) const CREATE_SQ: u32 = 0x01;
    pub(super) const CREATE_CQ: u32 = 0x05;
    pub(super) const IDENTIFY: u32 = 0x06;
    pub(super) const WRITE: u32 = 0x01;
    pub(super) const READ: u32 = 0x02;
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvmeError {
    /// No completion in time: the device could not write it, or could not fetch the command.
    Timeout,
    /// The completion's status field (SCT and SC).
    Status(u32),
}

/// One transfer between the disk and memory, for [`Nvme::begin`].
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Direction.
    pub direction: Direction,
    /// First sector on the disk.
    pub lba: u32,
    /// Number of sectors; together with the address's offset in its page, at most a page.
    pub sectors: u32,
    /// Bus address in memory.
    pub prp: u64,
}

/// A queue pair: rings and indices.
#[derive(Debug)]
struct Queue {
    id: u64,
    sq: u64,
    cq: u64,
    tail: u32,
    head: u32,
    phase: u32,
}

/// The used fields of a command.
#[derive(Clone, Copy, Debug, Default)]
struct Command {
    opcode: u32,
    namespace: u32,
    prp1: u64,
    dw10: u32,
    dw11: u32,
    dw12: u32,
}

/// The device. All its addresses are converted with `to_bus`, for the SMMU's mode at that time.
#[derive(Debug)]
pub struct Nvme {
    /// Its PCI function.
    pub function: Function,
    bar: u64,
    stride: u64,
    admin: Queue,
    io: Queue,
    next_id: u32,
}

impl Nvme {
    /// Finds the device and enables bus mastering; the controller stays disabled.
    pub fn find(machine: &Machine) -> Option<Self> {
        let function = pci::find(machine, |_, class| class == CLASS)?;
        let bar = function.assign_bar(machine, 0);
        function.enable();
        let stride = 4 << (mmio::read64(bar + CAP) >> 32 & 0xf);
        let queue = |id| Queue { id, sq: alloc(PAGE, PAGE), cq: alloc(PAGE, PAGE), tail: 0, head: 0, phase: 1 };
        Some(Self { function, bar, stride, admin: queue(0), io: queue(1), next_id: 0 })
    }

    /// BAR0.
    pub fn bar(&self) -> u64 {
        self.bar
    }

    /// Pages that the device reads and writes for its queues: they must be mapped before [`Nvme::enable`].
    pub fn pages(&self) -> [u64; 4] {
        [self.admin.sq, self.admin.cq, self.io.sq, self.io.cq]
    }

    /// Resets the device, enables it and creates the I/O queue; `to_bus` converts page addresses into bus addresses.
    ///
    /// # Errors
    /// The device timed out or refused a command.
    pub fn enable(&mut self, to_bus: impl Fn(u64) -> u64) -> Result<(), NvmeError> {
        let (bar, ready) = (self.bar, |bar| mmio::read32(bar + CSTS) & CSTS_READY);
        mmio::write32(bar + CC, 0);
        if !sysreg::poll_us(TIMEOUT_US, || ready(bar) == 0) {
            return Err(NvmeError::Timeout);
        }
        for queue in [&mut self.admin, &mut self.io] {
            (queue.tail, queue.head, queue.phase) = (0, 0, 1);
            mmio::fill(queue.cq, PAGE, 0);
        }
        mmio::write32(bar + AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        mmio::write64(bar + ASQ, to_bus(self.admin.sq));
        mmio::write64(bar + ACQ, to_bus(self.admin.cq));
        mmio::write32(bar + CC, CC_ENABLE | CC_ENTRY_SIZES);
        if !sysreg::poll_us(TIMEOUT_US, || ready(bar) != 0) {
            return Err(NvmeError::Timeout);
        }
        let size_and_id = (ENTRIES - 1) << 16 | 1;
        let contiguous = 1;
        self.admin(Command {
            opcode: opcode::CREATE_CQ,
            prp1: to_bus(self.io.cq),
            dw10: size_and_id,
            dw11: contiguous,
            ..Command::default()
        })?;
        self.admin(Command {
            opcode: opcode::CREATE_SQ,
            prp1: to_bus(self.io.sq),
            dw10: size_and_id,
            dw11: 1 << 16 | contiguous,
            ..Command::default()
        })
    }

    /// Writes the controller's Identify data to the page at bus address `prp`.
    ///
    /// # Errors
    /// No completion, or its status.
    pub fn identify(&mut self, prp: u64) -> Result<(), NvmeError> {
        self.admin(Command { opcode: opcode::IDENTIFY, prp1: prp, dw10: 1, ..Command::default() })
    }

    /// Reads `sectors` (at most a page) from the disk to bus address `prp`: DMA writes to memory.
    ///
    /// # Errors
    /// No completion, or its status: no data was transferred.
    pub fn read(&mut self, lba: u32, sectors: u32, prp: u64) -> Result<(), NvmeError> {
        self.rw(opcode::READ, lba, sectors, prp)
    }

    /// Writes `sectors` (at most a page) to the disk from bus address `prp`: DMA reads of memory.
    ///
    /// # Errors
    /// No completion, or its status: no data was transferred.
    pub fn write(&mut self, lba: u32, sectors: u32, prp: u64) -> Result<(), NvmeError> {
        self.rw(opcode::WRITE, lba, sectors, prp)
    }

    /// Whether the disk can read back data that it wrote to bus address `attacked`. `own` is the bus
    /// address of a page of the host's at `own_pa`. Sectors 16 to 18 are overwritten.
    ///
    /// # Errors
    /// A command on the host's own page failed.
    pub fn write_lands(&mut self, attacked: u64, own: u64, own_pa: u64) -> Result<bool, NvmeError> {
        self.next_id = (self.next_id + 1) & 0xffff;
        let word = DISK_WORD | pattern(attacked, crate::num::usize_of(u64::from(self.next_id))) >> 16;
        mmio::fill(own_pa, SECTOR, word);
        self.write(16, 1, own)?;
        mmio::fill(own_pa, SECTOR, !word);
        self.write(17, 1, own)?;
        // A command error counts as data that did not arrive.
        let there = self.read(16, 1, attacked);
        let back = self.write(17, 1, attacked);
        self.read(17, 1, own)?;
        Ok(there.is_ok() && back.is_ok() && mmio::find_other(own_pa, SECTOR, word).is_none())
    }

    /// Queues a transfer with command ID `id`, unique among those in flight; [`Nvme::ring`] starts it. At most
    /// [`DEPTH`] may be in flight, and none during a transfer of another method.
    pub fn begin(&mut self, id: u32, transfer: Transfer) {
        let opcode = match transfer.direction {
            Direction::ToMemory => opcode::READ,
            Direction::FromMemory => opcode::WRITE,
        };
        let Transfer { lba, sectors, prp, .. } = transfer;
        self.io.put(id, Command { opcode, namespace: 1, prp1: prp, dw10: lba, dw11: 0, dw12: sectors - 1 });
    }

    /// Rings the submission doorbell.
    pub fn ring(&self) {
        self.io.ring(self.bar, self.stride);
    }

    /// Takes the next completion, if there is one: its command ID and result. The caller then calls
    /// [`Nvme::acknowledge`].
    pub fn completion(&mut self) -> Option<(u32, Result<(), NvmeError>)> {
        self.io.take()
    }

    /// Updates the completion queue head doorbell.
    pub fn acknowledge(&self) {
        self.io.acknowledge(self.bar, self.stride);
    }

    fn rw(&mut self, opcode: u32, lba: u32, sectors: u32, prp: u64) -> Result<(), NvmeError> {
        let command = Command { opcode, namespace: 1, prp1: prp, dw10: lba, dw11: 0, dw12: sectors - 1 };
        self.next_id = (self.next_id + 1) & 0xffff;
        self.io.submit(self.bar, self.stride, self.next_id, command)
    }

    fn admin(&mut self, command: Command) -> Result<(), NvmeError> {
        self.next_id = (self.next_id + 1) & 0xffff;
        self.admin.submit(self.bar, self.stride, self.next_id, command)
    }
}

impl Queue {
    fn submit(&mut self, bar: u64, stride: u64, id: u32, command: Command) -> Result<(), NvmeError> {
        self.put(id, command);
        self.ring(bar, stride);
        let mut answer = None;
        sysreg::poll_us(TIMEOUT_US, || {
            answer = self.take();
            answer.is_some()
        });
        let (_, result) = answer.ok_or(NvmeError::Timeout)?;
        self.acknowledge(bar, stride);
        result
    }

    /// Writes an entry after the last one.
    fn put(&mut self, id: u32, command: Command) {
        let entry = self.sq + u64::from(self.tail) * 64;
        mmio::fill(entry, 64, 0);
        mmio::write32(entry, command.opcode | id << 16);
        mmio::write32(entry + 4, command.namespace);
        mmio::write64(entry + 24, command.prp1);
        mmio::write32(entry + 40, command.dw10);
        mmio::write32(entry + 44, command.dw11);
        mmio::write32(entry + 48, command.dw12);
        self.tail = (self.tail + 1) % ENTRIES;
    }

    fn ring(&self, bar: u64, stride: u64) {
        sysreg::dsb();
        mmio::write32(bar + DOORBELLS + 2 * self.id * stride, self.tail);
    }

    /// Takes the completion at the head, if there is one.
    fn take(&mut self) -> Option<(u32, Result<(), NvmeError>)> {
        let completion = self.cq + u64::from(self.head) * 16;
        let word = mmio::read32(completion + 12);
        if word >> 16 & 1 != self.phase {
            return None;
        }
        sysreg::dsb();
        self.head = (self.head + 1) % ENTRIES;
        if self.head == 0 {
            self.phase ^= 1;
        }
        let status = word >> 17 & 0x7ff;
        Some((word & 0xffff, if status == 0 { Ok(()) } else { Err(NvmeError::Status(status)) }))
    }

    fn acknowledge(&self, bar: u64, stride: u64) {
        mmio::write32(bar + DOORBELLS + (2 * self.id + 1) * stride, self.head);
    }
}

/// Test data that differs in every sector and run.
pub fn pattern(seed: u64, index: usize) -> u64 {
    let mixed = (seed ^ u64_of(index).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ u64::from(low32(mixed >> 29))
}
