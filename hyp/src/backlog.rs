//! Buffered console lines: a trap writes a bounded number of bytes and never waits for the transmitter; the remaining
//! bytes are written later.
//!
//! Part of the buffer is reserved for EL2's own lines, so that output caused by the host cannot suppress EL2's
//! errors.

use core::fmt::{self, Write};

/// Maximum bytes that one trap writes to the console (11 ms at 115,200 baud), without waiting for the transmitter.
pub const CONSOLE_BYTES: usize = 128;

/// Origin of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Caused by the host, unlimited: DMA faults, requested counters.
    Host,
    /// EL2: errors and other messages with a bounded number.
    El2,
}

/// Whole lines, first in, first out, in `N` bytes, of which the last free `RESERVE` are only for lines of
/// [`Cause::El2`].
pub struct Backlog<const N: usize, const RESERVE: usize> {
    bytes: [u8; N],
    first: usize,
    len: usize,
}

/// A line did not fit and was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Length of the line in bytes.
    pub bytes: usize,
}

impl<const N: usize, const RESERVE: usize> Default for Backlog<N, RESERVE> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const RESERVE: usize> Backlog<N, RESERVE> {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], first: 0, len: 0 }
    }

    /// Whether no byte is buffered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `text` as one line, with a carriage return before each line feed.
    ///
    /// # Errors
    /// [`Full`]; nothing was added.
    pub fn line(&mut self, cause: Cause, text: fmt::Arguments<'_>) -> Result<(), Full> {
        let room = match cause {
            Cause::Host => N.saturating_sub(RESERVE),
            Cause::El2 => N,
        };
        let before = self.len;
        let mut line = Line { backlog: self, room, bytes: 0 };
        // The writer itself never fails.
        let _ = writeln!(line, "{text}");
        let bytes = line.bytes;
        if self.len.checked_sub(before) == Some(bytes) {
            return Ok(());
        }
        self.len = before;
        Err(Full { bytes })
    }

    /// Passes up to one trap's bytes to `sink`, until it refuses one.
    pub fn transmit(&mut self, mut sink: impl FnMut(u8) -> bool) {
        for _ in 0..CONSOLE_BYTES {
            let Some(byte) = self.bytes.get(self.first).copied().filter(|_| self.len > 0) else { return };
            if !sink(byte) {
                return;
            }
            self.pop();
        }
    }

    /// Takes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.first).copied().filter(|_| self.len > 0)?;
        self.len = self.len.wrapping_sub(1);
        self.first = wrapped::<N>(self.first, 1);
        Some(byte)
    }

    /// Adds a byte while fewer than `room` bytes are buffered.
    fn push(&mut self, byte: u8, room: usize) {
        if self.len < room
            && let Some(slot) = self.bytes.get_mut(wrapped::<N>(self.first, self.len))
        {
            *slot = byte;
            self.len = self.len.wrapping_add(1);
        }
    }
}

/// `at` + `more` modulo `N`; both at most `N`.
fn wrapped<const N: usize>(at: usize, more: usize) -> usize {
    let sum = at.saturating_add(more);
    sum.checked_sub(N).unwrap_or(sum)
}

/// Calls `byte` for each byte of `text`, with a carriage return before each line feed.
pub fn for_each_byte(text: &str, mut byte: impl FnMut(u8)) {
    for each in text.bytes() {
        if each == b'\n' {
            byte(b'\r');
        }
        byte(each);
    }
}

/// A line being added.
struct Line<'a, const N: usize, const RESERVE: usize> {
    backlog: &'a mut Backlog<N, RESERVE>,
    /// Maximum buffered bytes, including this line.
    room: usize,
    /// Bytes of the line, including those that did not fit.
    bytes: usize,
}

impl<const N: usize, const RESERVE: usize> Write for Line<'_, N, RESERVE> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for_each_byte(text, |byte| {
            self.backlog.push(byte, self.room);
            self.bytes = self.bytes.saturating_add(1);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn all<const N: usize, const RESERVE: usize>(backlog: &mut Backlog<N, RESERVE>) -> String {
        std::iter::from_fn(|| backlog.pop()).map(char::from).collect()
    }

    #[test]
    fn lines_are_unchanged_across_the_end_of_the_buffer() {
        let mut backlog = Backlog::<16, 0>::new();
        for n in 0..40 {
            assert_eq!(backlog.line(Cause::El2, format_args!("n={n}")), Ok(()));
            assert_eq!(backlog.line(Cause::El2, format_args!("x")), Ok(()));
            assert_eq!(all(&mut backlog), format!("n={n}\r\nx\r\n"));
            assert!(backlog.is_empty());
        }
    }

    #[test]
    fn t65_a_trap_prints_a_bounded_number_of_bytes_without_waiting() {
        let mut backlog = Backlog::<4096, 0>::new();
        (0..40).for_each(|n| {
            assert_eq!(backlog.line(Cause::El2, format_args!("dma fault {n}, and its description")), Ok(()))
        });
        let whole = backlog.len;
        let mut taken = 0;
        backlog.transmit(|_| {
            taken += 1;
            true
        });
        assert_eq!((taken, whole - backlog.len), (CONSOLE_BYTES, CONSOLE_BYTES));
        // A transmitter with room for five bytes.
        let mut offered = 0;
        backlog.transmit(|_| {
            offered += 1;
            offered <= 5
        });
        assert_eq!((offered, whole - backlog.len), (6, CONSOLE_BYTES + 5));
        let page = include_str!("../../docs/smmu-emulation.md");
        assert!(page.contains(&format!("A trap prints at most {CONSOLE_BYTES} bytes")));
    }

    #[test]
    fn t65_lines_that_the_host_causes_leave_room_for_those_of_el2() {
        let mut backlog = Backlog::<64, 24>::new();
        let fault = |backlog: &mut Backlog<64, 24>| backlog.line(Cause::Host, format_args!("dma fault"));
        while fault(&mut backlog).is_ok() {}
        assert_eq!(fault(&mut backlog), Err(Full { bytes: 11 }));
        assert_eq!(backlog.len, 33);
        let error = "error: twenty-nine bytes long";
        assert_eq!(backlog.line(Cause::El2, format_args!("{error}")), Ok(()));
        assert_eq!(backlog.len, 64);
        assert_eq!(backlog.line(Cause::El2, format_args!("")), Err(Full { bytes: 2 }));
        // EL2's own lines also reduce the space for the host's.
        (0..33).for_each(|_| assert!(backlog.pop().is_some()));
        assert_eq!(fault(&mut backlog), Err(Full { bytes: 11 }));
        assert_eq!(all(&mut backlog), format!("{error}\r\n"));
        assert_eq!(fault(&mut backlog), Ok(()));
    }

    #[test]
    fn a_line_that_does_not_fit_is_dropped_whole() {
        let mut backlog = Backlog::<16, 0>::new();
        assert_eq!(backlog.line(Cause::El2, format_args!("0123456789abcd")), Ok(()));
        assert_eq!(backlog.pop(), Some(b'0'));
        assert_eq!(backlog.line(Cause::El2, format_args!("yz")), Err(Full { bytes: 4 }));
        assert_eq!(all(&mut backlog), "123456789abcd\r\n");
        assert_eq!(backlog.line(Cause::El2, format_args!("0123456789abcdef")), Err(Full { bytes: 18 }));
        assert_eq!((backlog.pop(), backlog.is_empty()), (None, true));
    }
}
