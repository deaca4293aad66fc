//! Lines that wait for the console: a trap writes a bounded number of bytes and waits for no transmitter, the rest follows.

use core::fmt::{self, Write};

/// Bytes that one trap hands to the console at most, whatever it has to say: 11 ms at 115,200 baud if the transmitter took them no
/// faster, and it is not waited for.
pub const CONSOLE_BYTES: usize = 128;

/// Whole lines, first in, first out, in `N` bytes.
pub struct Backlog<const N: usize> {
    bytes: [u8; N],
    first: usize,
    len: usize,
}

/// A line did not fit; nothing of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Its bytes.
    pub bytes: usize,
}

impl<const N: usize> Default for Backlog<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Backlog<N> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], first: 0, len: 0 }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `text` as one line, with a carriage return before each line feed.
    ///
    /// # Errors
    /// [`Full`]; nothing was added.
    pub fn line(&mut self, text: fmt::Arguments<'_>) -> Result<(), Full> {
        let before = self.len;
        let mut line = Line { backlog: self, bytes: 0 };
        // The writer itself never fails.
        let _ = writeln!(line, "{text}");
        let bytes = line.bytes;
        if self.len.checked_sub(before) == Some(bytes) {
            return Ok(());
        }
        self.len = before;
        Err(Full { bytes })
    }

    /// Offers the bytes of one trap to `sink`, until it does not take one.
    pub fn hand_over(&mut self, mut sink: impl FnMut(u8) -> bool) {
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

    fn push(&mut self, byte: u8) {
        if self.len < N
            && let Some(slot) = self.bytes.get_mut(wrapped::<N>(self.first, self.len))
        {
            *slot = byte;
            self.len = self.len.wrapping_add(1);
        }
    }
}

/// `at` and `more`, both at most `N`, around the end.
fn wrapped<const N: usize>(at: usize, more: usize) -> usize {
    let sum = at.saturating_add(more);
    sum.checked_sub(N).unwrap_or(sum)
}

/// A line on its way in.
struct Line<'a, const N: usize> {
    backlog: &'a mut Backlog<N>,
    bytes: usize,
}

impl<const N: usize> Line<'_, N> {
    fn put(&mut self, byte: u8) {
        self.backlog.push(byte);
        self.bytes = self.bytes.saturating_add(1);
    }
}

impl<const N: usize> Write for Line<'_, N> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn all<const N: usize>(backlog: &mut Backlog<N>) -> String {
        std::iter::from_fn(|| backlog.pop()).map(char::from).collect()
    }

    #[test]
    fn lines_come_out_as_they_went_in_around_the_end() {
        let mut backlog = Backlog::<16>::new();
        for n in 0..40 {
            assert_eq!(backlog.line(format_args!("n={n}")), Ok(()));
            assert_eq!(backlog.line(format_args!("x")), Ok(()));
            assert_eq!(all(&mut backlog), format!("n={n}\r\nx\r\n"));
            assert!(backlog.is_empty());
        }
    }

    #[test]
    fn t65_a_trap_prints_a_bounded_number_of_bytes_and_waits_for_nothing() {
        let mut backlog = Backlog::<4096>::new();
        (0..40).for_each(|n| {
            assert_eq!(backlog.line(format_args!("dma fault {n}, and what there is to say of it")), Ok(()))
        });
        let whole = backlog.len;
        let mut taken = 0;
        backlog.hand_over(|_| {
            taken += 1;
            true
        });
        assert_eq!((taken, whole - backlog.len), (CONSOLE_BYTES, CONSOLE_BYTES));
        // A transmitter that takes five and no more.
        let mut offered = 0;
        backlog.hand_over(|_| {
            offered += 1;
            offered <= 5
        });
        assert_eq!((offered, whole - backlog.len), (6, CONSOLE_BYTES + 5));
        let page = include_str!("../../docs/smmu-emulation.md");
        assert!(page.contains(&format!("A trap prints at most {CONSOLE_BYTES} bytes")));
    }

    #[test]
    fn a_line_that_does_not_fit_leaves_nothing_behind() {
        let mut backlog = Backlog::<16>::new();
        assert_eq!(backlog.line(format_args!("0123456789abcd")), Ok(()));
        assert_eq!(backlog.pop(), Some(b'0'));
        assert_eq!(backlog.line(format_args!("yz")), Err(Full { bytes: 4 }));
        assert_eq!(all(&mut backlog), "123456789abcd\r\n");
        assert_eq!(backlog.line(format_args!("0123456789abcdef")), Err(Full { bytes: 18 }));
        assert_eq!((backlog.pop(), backlog.is_empty()), (None, true));
    }
}
