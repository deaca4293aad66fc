//! QEMU's `edu` device: 0.1 s after its start, a transfer moves bytes between memory and the device's buffer.
#![allow(unsafe_code)]

use alloc::string::String;
use core::time::Duration;
use uefi::boot::{self, EventType, OpenProtocolAttributes, OpenProtocolParams, TimerTrigger, Tpl, image_handle};
use uefi::proto::pci::PciIoAddress;
use uefi::proto::pci::root_bridge::PciRootBridgeIo;

/// Vendor and device ID.
const ID: u32 = 0x11e8_1234;
const SLOTS: u8 = 32;
const COMMAND: u8 = 4;
const MEMORY_AND_MASTER: u32 = 0b110;
const BAR0: u8 = 0x10;
/// Offsets of registers, and the device's own address of its buffer.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const START: u64 = 0x98;
const BUFFER: u64 = 0x4_0000;
/// Bits of the register [`START`]: the transfer runs, and its direction.
const RUNS: u64 = 1;
const TO_MEMORY: u64 = 2;

/// Waits with a timer of the firmware, so that the CPU sleeps: with `-icount` QEMU then skips that time.
fn sleep(time: Duration) {
    // SAFETY: (1) the event has no notify function.
    let Ok(event) = (unsafe { boot::create_event(EventType::TIMER, Tpl::APPLICATION, None, None) }) else { return };
    if boot::set_timer(&event, TimerTrigger::Relative(time)).is_ok() {
        // SAFETY: (1) the copy is used only here, and the event is closed afterwards.
        let _ = boot::wait_for_event(&[unsafe { event.unsafe_clone() }]);
    }
    // If the call fails, the event stays allocated, which does no harm.
    let _ = boot::close_event(event);
}

/// The device.
pub struct Edu {
    registers: u64,
}

impl Edu {
    /// Finds the device on bus 0 and enables its DMA.
    ///
    /// # Errors
    /// A message.
    pub fn find() -> Result<Self, String> {
        let handle = boot::get_handle_for_protocol::<PciRootBridgeIo>().map_err(|_| "no PCI root bridge")?;
        let params = OpenProtocolParams { handle, agent: image_handle(), controller: None };
        // SAFETY: (1) the protocol is not removed while this program runs.
        let bridge = unsafe { boot::open_protocol::<PciRootBridgeIo>(params, OpenProtocolAttributes::GetProtocol) };
        let mut bridge = bridge.map_err(|_| "the PCI root bridge cannot be opened")?;
        for slot in 0..SLOTS {
            let at = PciIoAddress::new(0, slot, 0);
            if bridge.pci().read_one::<u32>(at) != Ok(ID) {
                continue;
            }
            let command = bridge.pci().read_one::<u32>(at.with_register(COMMAND)).unwrap_or(0);
            let enabled = command & 0xffff | MEMORY_AND_MASTER;
            bridge.pci().write_one::<u32>(at.with_register(COMMAND), enabled).map_err(|_| "no bus mastering")?;
            let bar = bridge.pci().read_one::<u32>(at.with_register(BAR0)).unwrap_or(0) & !0xf;
            return Ok(Self { registers: u64::from(bar) });
        }
        Err("no edu on bus 0 (QEMU: -device edu,dma_mask=0xffffffffff)".into())
    }

    fn register(&self, offset: u64) -> *mut u64 {
        self.registers.wrapping_add(offset) as *mut u64
    }

    fn write(&self, offset: u64, value: u64) {
        // SAFETY: (1) a register of the device, whose BAR the firmware assigned.
        unsafe { self.register(offset).write_volatile(value) };
    }

    fn transfer(&self, source: u64, destination: u64, count: u64, direction: u64) {
        self.write(SOURCE, source);
        self.write(DESTINATION, destination);
        self.write(COUNT, count);
        self.write(START, RUNS | direction);
    }

    /// Starts to write `count` bytes of the buffer to memory.
    pub fn start_store(&self, address: u64, count: u64) {
        self.transfer(BUFFER, address, count, TO_MEMORY);
    }

    /// Waits for the end of a transfer.
    pub fn wait(&self) {
        for _ in 0..20 {
            // SAFETY: (1) a register of the device.
            if unsafe { self.register(START).read_volatile() } & RUNS == 0 {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Reads `count` bytes of memory into the buffer.
    pub fn load(&self, address: u64, count: u64) {
        self.transfer(address, BUFFER, count, 0);
        self.wait();
    }

    /// Writes `count` bytes of the buffer to memory.
    pub fn store(&self, address: u64, count: u64) {
        self.start_store(address, count);
        self.wait();
    }
}
