//! QEMU's `edu` device: one DMA engine with a 4 KiB buffer, slow (100 ms of virtual time per transfer).

use crate::machine::Machine;
use crate::mmio;
use crate::num::u64_of;
use crate::pci::{self, Function};
use crate::{sysreg, time};

const VENDOR_DEVICE: u32 = 0x11e8_1234;
const IDENTIFICATION: u64 = 0x00;
/// Low byte of the identification register.
const IDENTITY: u32 = 0xed;
const IRQ_RAISE: u64 = 0x60;
const IRQ_ACKNOWLEDGE: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
const COMMAND_RUN: u64 = 1;
const COMMAND_TO_RAM: u64 = 1 << 1;
/// Address of the device's buffer in its own address space.
const BUFFER: u64 = 0x4_0000;
/// Upper 16 bits of words that the device writes in tests where they must differ from other data.
pub const EDU_WORD: u64 = 0xed0a << 48;
/// The device's own delay, with a margin, in microseconds.
const DELAY_US: u64 = 101_000;
/// Maximum duration of a transfer, in microseconds.
const TIMEOUT_US: u64 = 2_000_000;

/// The device.
#[derive(Clone, Copy, Debug)]
pub struct Edu {
    /// Its PCI function.
    pub function: Function,
    /// BAR0.
    pub bar: u64,
}

/// Direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Memory to the device's buffer: a DMA read.
    FromMemory,
    /// The device's buffer to memory: a DMA write.
    ToMemory,
}

impl Edu {
    /// Finds the device on bus 0 and makes it a bus master.
    pub fn find(machine: &Machine) -> Option<Self> {
        Self::find_on(machine, 0)
    }

    /// As [`Edu::find`], on another bus.
    pub fn find_on(machine: &Machine, bus: u32) -> Option<Self> {
        let function = pci::find_on(machine, bus, |id, _| id == VENDOR_DEVICE)?;
        let bar = function.assign_bar(machine, 0);
        function.enable();
        (mmio::read32(bar + IDENTIFICATION) & 0xff == IDENTITY).then_some(Self { function, bar })
    }

    /// Starts a transfer of `bytes` between `addr` and byte `offset` of the device's buffer.
    pub fn start(&self, direction: Direction, addr: u64, offset: usize, bytes: usize) {
        let buffer = BUFFER + u64_of(offset);
        let (source, destination, command) = match direction {
            Direction::FromMemory => (addr, buffer, COMMAND_RUN),
            Direction::ToMemory => (buffer, addr, COMMAND_RUN | COMMAND_TO_RAM),
        };
        sysreg::dsb();
        mmio::write64(self.bar + DMA_SOURCE, source);
        mmio::write64(self.bar + DMA_DESTINATION, destination);
        mmio::write64(self.bar + DMA_COUNT, u64_of(bytes));
        mmio::write64(self.bar + DMA_COMMAND, command);
    }

    /// Whether no transfer is in progress.
    pub fn is_idle(&self) -> bool {
        let idle = mmio::read64(self.bar + DMA_COMMAND) & COMMAND_RUN == 0;
        sysreg::dsb();
        idle
    }

    /// Waits until no transfer is in progress.
    ///
    /// # Errors
    /// Timeout: twenty times its delay.
    pub fn finish(&self) -> Result<(), &'static str> {
        time::delay_us(DELAY_US);
        let done = sysreg::poll_us(TIMEOUT_US, || mmio::read64(self.bar + DMA_COMMAND) & COMMAND_RUN == 0);
        sysreg::dsb();
        if done { Ok(()) } else { Err("edu DMA timed out") }
    }

    /// A whole transfer.
    ///
    /// # Errors
    /// As [`Edu::finish`]. The device does not report whether the data arrived.
    pub fn transfer(&self, direction: Direction, addr: u64, offset: usize, bytes: usize) -> Result<(), &'static str> {
        self.start(direction, addr, offset, bytes);
        self.finish()
    }

    /// Programs and enables the device's MSI: it writes `data` to `address`.
    ///
    /// # Errors
    /// The device has no MSI capability.
    pub fn set_message(&self, address: u64, data: u16) -> Result<(), &'static str> {
        let capability = self.function.capability(pci::MSI).ok_or("edu has no MSI capability")?;
        let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
        mmio::write32(capability + 4, u32::from_le_bytes([a, b, c, d]));
        mmio::write32(capability + 8, u32::from_le_bytes([e, f, g, h]));
        mmio::write16(capability + 12, data);
        // Enable.
        mmio::write16(capability + 2, mmio::read16(capability + 2) | 1);
        Ok(())
    }

    /// Disables MSI: the device uses its wired interrupt again.
    ///
    /// # Errors
    /// The device has no MSI capability.
    pub fn disable_messages(&self) -> Result<(), &'static str> {
        let capability = self.function.capability(pci::MSI).ok_or("edu has no MSI capability")?;
        mmio::write16(capability + 2, mmio::read16(capability + 2) & !1);
        Ok(())
    }

    /// Makes the device send its MSI.
    pub fn send_message(&self) {
        self.raise();
        self.lower();
    }

    /// Raises the device's interrupt.
    pub fn raise(&self) {
        sysreg::dsb();
        mmio::write32(self.bar + IRQ_RAISE, 1);
    }

    /// Lowers the device's interrupt.
    pub fn lower(&self) {
        mmio::write32(self.bar + IRQ_ACKNOWLEDGE, 1);
        sysreg::dsb();
    }
}
