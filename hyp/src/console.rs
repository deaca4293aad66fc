//! EL2's console: lines that start with `portcullis: `, on a UART that the host cannot reach when the machine has a
//! second one.
//!
//! Lines wait in a backlog. While the host runs, a trap hands a bounded number of bytes to the transmitter and never waits for it;
//! before and after, every wait is bounded, since a host may own the other end of a shared UART, or a peer may stop reading.
//! What does not fit is dropped and counted. One of the modules that may use `unsafe`: it turns the UART's
//! address into its one driver.
#![allow(unsafe_code)]

use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hyp::backlog::Backlog;
use spin::mutex::TicketMutex;

/// Polls of a full transmitter before a byte is given up: far beyond the time of a byte at any baud rate.
const TX_POLLS: u32 = 100_000;
/// Attempts to take the console in a panic, when its holder may be the panicking CPU itself.
const PANIC_ATTEMPTS: u32 = 1_000_000;
/// UARTCLK of the boards that set none: used only for a divisor that emulated UARTs ignore.
const UARTCLK: u32 = 24_000_000;

/// Bytes of lines that wait: some eighty faults.
const BACKLOG: usize = 8192;

static CONSOLE: TicketMutex<Console> = TicketMutex::new(Console { port: Port::new(None), backlog: Backlog::new() });
static BASE: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Lines wait for [`drain`], because the host runs.
static HOST_RUNS: AtomicBool = AtomicBool::new(false);
/// [`drain`] has something to do.
static WAITING: AtomicBool = AtomicBool::new(false);

/// The UART.
struct Port {
    uart: Option<Uart<'static>>,
    /// The transmitter let a byte's time pass: bytes are tried once each until it takes one again.
    stuck: bool,
}

struct Console {
    port: Port,
    backlog: Backlog<BACKLOG>,
}

impl Console {
    /// Adds a line to what waits.
    fn queue(&mut self, text: fmt::Arguments<'_>) {
        if let Err(full) = self.backlog.line(format_args!("portcullis: {text}")) {
            DROPPED.fetch_add(full.bytes as u64, Ordering::Relaxed);
        }
    }

    /// Prints all that waits, with a bounded wait for each byte.
    fn flush(&mut self) {
        while let Some(byte) = self.backlog.pop() {
            self.port.put(byte);
        }
    }

    /// Prints what the transmitter takes at once, up to the bytes of one trap.
    fn hand_over(&mut self) {
        let Some(uart) = &mut self.port.uart else { return };
        self.backlog.hand_over(|byte| {
            let room = !uart.is_tx_fifo_full();
            if room {
                uart.write_word(byte);
            }
            room
        });
    }
}

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}

impl Port {
    const fn new(uart: Option<Uart<'static>>) -> Self {
        Self { uart, stuck: false }
    }

    fn put(&mut self, byte: u8) {
        let Some(uart) = &mut self.uart else { return };
        let polls = if self.stuck { 1 } else { TX_POLLS };
        for _ in 0..polls {
            if !uart.is_tx_fifo_full() {
                uart.write_word(byte);
                self.stuck = false;
                return;
            }
            core::hint::spin_loop();
        }
        self.stuck = true;
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// A driver for the PL011 at `base`, which must be mapped as device memory (or the MMU be off).
fn driver(base: u64) -> Option<Uart<'static>> {
    let registers = NonNull::new(base as *mut PL011Registers)?;
    // SAFETY: (1) `base` is a PL011 from the device tree, mapped for EL2; (2) only this module makes drivers, one per
    // console, and a second one only when the first can no longer be used (see `emergency`).
    Some(Uart::new(unsafe { UniqueMmioPointer::new(registers) }))
}

/// Starts the console on the PL011 at physical address `base`.
pub fn init(base: u64) {
    let mut console = CONSOLE.lock();
    let mut uart = driver(base);
    if let Some(uart) = &mut uart {
        let config = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // An impossible divisor leaves the UART as firmware set it up, which still prints.
        let _ = uart.enable(config, 115_200, UARTCLK);
    }
    console.port.uart = uart;
    BASE.store(base, Ordering::Relaxed);
}

/// Physical address of the console's UART, 0 before [`init`].
pub fn base() -> u64 {
    BASE.load(Ordering::Relaxed)
}

/// Bytes that were given up because the transmitter did not take them.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Prints one line; the macro [`log!`](crate::log) is the way to call it. While the host runs it waits for [`drain`].
pub fn line(text: fmt::Arguments<'_>) {
    let mut console = CONSOLE.lock();
    console.queue(text);
    if HOST_RUNS.load(Ordering::Relaxed) {
        WAITING.store(true, Ordering::Relaxed);
    } else {
        console.flush();
    }
}

/// The host runs from here on: what is printed waits for [`drain`].
pub fn host_runs() {
    HOST_RUNS.store(true, Ordering::Relaxed);
}

/// The host runs no more: what waits is printed, and what follows at once.
pub fn host_stops() {
    HOST_RUNS.store(false, Ordering::Relaxed);
    CONSOLE.lock().flush();
}

/// Whether lines wait. Cheap enough for every trap.
#[inline]
pub fn waits() -> bool {
    WAITING.load(Ordering::Relaxed)
}

/// Prints a part of what waits, at the end of a trap: a bounded number of bytes, and without waiting for the transmitter.
#[cold]
pub fn drain() {
    let mut console = CONSOLE.lock();
    console.hand_over();
    WAITING.store(!console.backlog.is_empty(), Ordering::Relaxed);
}

/// Prints the last line of the run: on a line of its own, and no CPU prints after it.
pub fn last_line(text: fmt::Arguments<'_>) {
    let mut console = CONSOLE.lock();
    console.flush();
    // Where the host shares the UART, it may have stopped in the middle of a line.
    let _ = writeln!(console.port, "\nportcullis: {text}");
    core::mem::forget(console);
}

/// Prints one line from a CPU that may hold the console already.
pub fn emergency(text: fmt::Arguments<'_>) {
    for _ in 0..PANIC_ATTEMPTS {
        if let Some(mut console) = CONSOLE.try_lock() {
            console.flush();
            let _ = writeln!(console.port, "\nportcullis: {text}");
            return;
        }
        core::hint::spin_loop();
    }
    let _ = writeln!(Port::new(driver(base())), "\nportcullis: {text}");
}

/// Prints one line with the arguments of `format_args!`.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::console::line(format_args!($($arg)*)) };
}
