//! The host's console: a PL011, with bounded polling, one line at a time.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{mmio, sysreg};

/// Base address of the UART: QEMU virt's until the device tree is read.
static BASE: AtomicU64 = AtomicU64::new(0x0900_0000);
static LOCK: spin::mutex::SpinMutex<()> = spin::mutex::SpinMutex::new(());

const DR: u64 = 0x00;
const FR: u64 = 0x18;
const FR_TXFF: u32 = 1 << 5;
/// Number of polls of a full FIFO after which a character is dropped.
const MAX_POLLS: u32 = 1_000_000;

/// Uses the PL011 at `base` from now on.
pub fn set_base(base: u64) {
    BASE.store(base, Ordering::Relaxed);
}

/// The UART's base address.
pub fn base() -> u64 {
    BASE.load(Ordering::Relaxed)
}

struct Pl011;

impl Write for Pl011 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let mut polls = MAX_POLLS;
            while mmio::read32(base() + FR) & FR_TXFF != 0 && polls > 0 {
                polls -= 1;
                sysreg::relax();
            }
            mmio::write32(base() + DR, u32::from(byte));
        }
        Ok(())
    }
}

/// Prints without a lock that a failed CPU might hold: for the panic path.
pub fn print_unlocked(args: fmt::Arguments<'_>) {
    // Writing to the UART returns no error.
    let _ = Pl011.write_fmt(args);
}

/// Prints whole lines; CPUs do not interleave.
pub fn print(args: fmt::Arguments<'_>) {
    let _guard = LOCK.lock();
    print_unlocked(args);
}

/// Prints one line on the host's console.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
