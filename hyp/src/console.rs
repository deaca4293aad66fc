//! EL2's console: lines that start with `portcullis: `, on a UART that the host cannot reach when the machine has a
//! second one.
//!
//! Lines are buffered. While the host runs, a trap writes a bounded number of bytes and never waits for the
//! transmitter; before and after, every wait is bounded, since flow control may stall the UART. Output that does not
//! fit is dropped and counted; a part of the buffer is reserved for EL2's own lines. A UART shared with the host is
//! set up again before the last lines. One of the modules that may use `unsafe`: it creates the only driver of the
//! UART from its address.
#![allow(unsafe_code)]

use crate::{arch, stopping};
use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use hyp::backlog::{Backlog, Cause};
use hyp::boot_info::uart::{self, UartKind, Width};
use hyp::uart::ns16550::{Lanes, Ns16550};
use hyp::uart::{DIVISOR, Driver, MODES, Modes, Port};
use safe_mmio::fields::ReadPureWrite;
use spin::Once;
use spin::mutex::{TicketMutex, TicketMutexGuard};

/// Time that a panic waits for the console lock, which the panicking CPU itself may hold: longer than the time to
/// print a line.
const PANIC_MS: u64 = 500;

/// Size of the line buffer: about eighty faults.
const BACKLOG: usize = 8192;
/// Reserved bytes for EL2's own lines: about twenty errors.
const RESERVE: usize = 2048;

static CONSOLE: TicketMutex<Console> =
    TicketMutex::new(Console { port: Port::new(None), backlog: Backlog::new(), dropped: 0 });
/// The UART and firmware's settings; unset if there is no UART.
static PLACE: Once<Place> = Once::new();
/// Lines are buffered until [`drain`], since the host runs.
static HOST_RUNS: AtomicBool = AtomicBool::new(false);
/// Whether [`drain`] has output to print.
static WAITING: AtomicBool = AtomicBool::new(false);

struct Console {
    port: Port<'static>,
    backlog: Backlog<BACKLOG, RESERVE>,
    /// Bytes dropped because the buffer was full.
    dropped: u64,
}

impl Console {
    /// Adds a line to the buffer.
    fn queue(&mut self, cause: Cause, text: fmt::Arguments<'_>) {
        if let Err(full) = self.backlog.line(cause, format_args!("portcullis: {text}")) {
            self.dropped = self.dropped.wrapping_add(full.bytes as u64);
        }
    }

    /// Prints the buffer, with a bounded wait for each byte; stops when another CPU ends the run.
    fn flush(&mut self) {
        while !stopping::elsewhere()
            && let Some(byte) = self.backlog.pop()
        {
            self.port.put(byte);
        }
    }
}

/// Locks the console. If another CPU ends the run after a bug of EL2, this one parks instead: that CPU prints the
/// final lines, and it waits for this lock only for a bounded time.
fn lock() -> TicketMutexGuard<'static, Console> {
    let console = CONSOLE.lock();
    park_if_ending(console)
}

/// Returns `console`, or releases it and parks if another CPU ends the run.
fn park_if_ending(console: TicketMutexGuard<'static, Console>) -> TicketMutexGuard<'static, Console> {
    if stopping::elsewhere() {
        drop(console);
        stopping::park();
    }
    console
}

/// A UART and its divisor.
#[derive(Clone, Copy)]
struct Place {
    base: u64,
    kind: UartKind,
    /// The divisor that firmware set: for a PL011 in units of 1/64; 0 if none was set.
    divisor: u32,
}

impl Place {
    /// The UART of the device tree, before EL2 changes it. Its registers must be mapped as device memory (or the MMU
    /// must be off).
    fn of(uart: &uart::Uart) -> Self {
        let mut place = Self { base: uart.range.base().0, kind: uart.kind, divisor: 0 };
        place.divisor = match uart.kind {
            UartKind::Pl011 => {
                // SAFETY: (1) a PL011 of the device tree has these registers; (2) reading them changes nothing.
                let [whole, part] =
                    DIVISOR.map(|at| unsafe { (place.base.wrapping_add(at) as *const u32).read_volatile() });
                (whole & 0xffff) << 6 | part & 0x3f
            }
            UartKind::Sbsa => 0,
            UartKind::Ns16550 { shift, width } => {
                let mut uart = place.ns16550(shift, width);
                uart.as_mut().and_then(Ns16550::read_divisor).map_or(0, u32::from)
            }
        };
        place
    }

    /// A driver for it. Only this module creates drivers.
    fn driver(&self) -> Option<Driver<'static>> {
        let pl011 = || {
            let registers = NonNull::new(self.base as *mut PL011Registers)?;
            // SAFETY: (1) `base` is a UART of this kind from the device tree, mapped for EL2; (2) a second driver is
            // created only when the first is not used any more (see `print_final_lines`); (3) of an SBSA UART the
            // driver accesses only the data and flag registers.
            Some(Uart::new(unsafe { UniqueMmioPointer::new(registers) }))
        };
        match self.kind {
            UartKind::Pl011 => {
                let modes = NonNull::new(self.base.wrapping_add(MODES) as *mut Modes)?;
                // SAFETY: (1), (2) as above; (3) the PL011's driver never accesses the registers of `Modes`.
                let modes = unsafe { UniqueMmioPointer::new(modes) };
                Some(Driver::Pl011 { uart: pl011()?, modes, divisor: self.divisor })
            }
            UartKind::Sbsa => Some(Driver::Sbsa(pl011()?)),
            UartKind::Ns16550 { shift, width } => Some(Driver::Ns16550(self.ns16550(shift, width)?)),
        }
    }

    fn ns16550(&self, shift: u8, width: Width) -> Option<Ns16550<'static>> {
        let bytes = 1_usize.checked_shl(shift.into())?;
        let (lanes, stride) = match width {
            Width::Byte => {
                let first = NonNull::new(self.base as *mut ReadPureWrite<u8>)?;
                let registers = NonNull::slice_from_raw_parts(first, Ns16550::elements(bytes));
                // SAFETY: (1) `base` is a 16550 of the device tree with these distances, mapped for EL2; (2) as above.
                (Lanes::Bytes(unsafe { UniqueMmioPointer::new(registers) }), bytes)
            }
            Width::Word => {
                let stride = bytes.checked_div(size_of::<u32>())?;
                let first = NonNull::new(self.base as *mut ReadPureWrite<u32>)?;
                let registers = NonNull::slice_from_raw_parts(first, Ns16550::elements(stride));
                // SAFETY: (1), (2) as above.
                (Lanes::Words(unsafe { UniqueMmioPointer::new(registers) }), stride)
            }
        };
        let divisor = u16::try_from(self.divisor).ok().filter(|divisor| *divisor != 0);
        Some(Ns16550::new(lanes, stride, divisor))
    }
}

/// Starts the console on `uart`; called once. Without a call nothing is printed.
pub fn init(uart: &uart::Uart) {
    let mut console = lock();
    let place = PLACE.call_once(|| Place::of(uart));
    console.port = Port::new(place.driver());
    console.port.start();
}

/// Physical address of the console's UART, if there is one.
pub fn base() -> Option<u64> {
    PLACE.get().map(|place| place.base)
}

/// Number of bytes dropped because the transmitter was full.
pub fn dropped() -> u64 {
    let console = lock();
    console.dropped.wrapping_add(console.port.dropped())
}

/// Prints one line; the macros [`log!`](crate::log) and [`host_log!`](crate::host_log) call it. While
/// the host runs it is buffered until [`drain`].
pub fn line(cause: Cause, text: fmt::Arguments<'_>) {
    let mut console = lock();
    console.queue(cause, text);
    if HOST_RUNS.load(Ordering::Relaxed) {
        WAITING.store(true, Ordering::Relaxed);
    } else {
        console.flush();
    }
}

/// From now on the host runs: output is buffered until [`drain`].
pub fn host_runs() {
    HOST_RUNS.store(true, Ordering::Relaxed);
}

/// The host is stopped and the UART unmapped from it: prints the buffer; later lines are printed immediately.
pub fn host_stops() {
    HOST_RUNS.store(false, Ordering::Relaxed);
    let mut console = lock();
    console.port.restart();
    console.flush();
    drop(park_if_ending(console));
}

/// Whether lines are buffered. One load: called in every trap.
#[inline]
pub fn waits() -> bool {
    WAITING.load(Ordering::Relaxed)
}

/// Prints a part of the buffer at the end of a trap: a bounded number of bytes, without waiting for the transmitter.
#[cold]
pub fn drain() {
    let mut guard = lock();
    let Console { port, backlog, .. } = &mut *guard;
    backlog.transmit(|byte| port.try_put(byte));
    WAITING.store(!backlog.is_empty(), Ordering::Relaxed);
}

/// Prints the last line of a run that ends without an error, on a separate line. Afterwards only a CPU that found a
/// bug prints.
pub fn last_line(text: fmt::Arguments<'_>) {
    let mut console = lock();
    console.flush();
    let mut console = park_if_ending(console);
    // If the UART is shared, the host may have stopped in the middle of a line.
    let _ = writeln!(console.port, "\nportcullis: {text}");
    core::mem::forget(console);
}

/// Prints the last two lines of a run that ends with a bug, from a CPU that may already hold the console lock. The
/// UART is set up again.
pub fn print_final_lines(error: fmt::Arguments<'_>, last: fmt::Arguments<'_>) {
    let both = |port: &mut Port<'_>| {
        let _ = writeln!(port, "\nportcullis: {error}\n\nportcullis: {last}");
    };
    let until = arch::deadline_ms(PANIC_MS);
    if let Some(mut console) = stopping::ending().take(&CONSOLE, || arch::counter() < until) {
        console.port.restart();
        console.flush();
        both(&mut console.port);
        core::mem::forget(console);
        return;
    }
    let mut port = Port::new(PLACE.get().and_then(Place::driver));
    port.restart();
    both(&mut port);
}

/// Prints one line of EL2's own with the arguments of `format_args!`: an error, or another message with a bounded
/// number.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::console::line(hyp::backlog::Cause::El2, format_args!($($arg)*)) };
}

/// As [`log!`], for messages that the host can cause without limit.
#[macro_export]
macro_rules! host_log {
    ($($arg:tt)*) => { $crate::console::line(hyp::backlog::Cause::Host, format_args!($($arg)*)) };
}
