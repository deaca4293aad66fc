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
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hyp::backlog::{Backlog, Cause};
use hyp::uart::{MODES, Modes, Port};
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
static BASE: AtomicU64 = AtomicU64::new(0);
/// Whether lines are buffered until [`drain`], because the host runs.
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

/// A driver for the PL011 at `base`, which must be mapped as device memory (or the MMU be off).
fn driver(base: u64) -> Option<(Uart<'static>, UniqueMmioPointer<'static, Modes>)> {
    let registers = NonNull::new(base as *mut PL011Registers)?;
    let modes = NonNull::new(base.wrapping_add(MODES) as *mut Modes)?;
    // SAFETY: (1) `base` is a PL011 from the device tree, mapped for EL2; (2) only this module creates drivers, one
    // per console, and a second one only after the last use of the first (see `print_final_lines`); (3) the driver
    // never accesses the registers of `Modes`.
    let (uart, modes) = unsafe { (UniqueMmioPointer::new(registers), UniqueMmioPointer::new(modes)) };
    Some((Uart::new(uart), modes))
}

/// Starts the console on the PL011 at physical address `base`.
pub fn init(base: u64) {
    let mut console = lock();
    console.port = Port::new(driver(base));
    console.port.start();
    BASE.store(base, Ordering::Relaxed);
}

/// Physical address of the console's UART, 0 before [`init`].
pub fn base() -> u64 {
    BASE.load(Ordering::Relaxed)
}

/// Bytes dropped because the transmitter was full.
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
    let mut port = Port::new(driver(base()));
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
