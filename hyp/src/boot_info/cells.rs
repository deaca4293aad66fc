//! Property values, in the encoding of the device tree specification: big-endian 32-bit cells and NUL-terminated
//! strings.

/// A cursor over the cells of one property.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    rest: &'a [u8],
}

impl<'a> Cells<'a> {
    /// The cells of `value`, or `None` if it is not a whole number of cells.
    pub(super) fn new(value: &'a [u8]) -> Option<Self> {
        value.len().is_multiple_of(size_of::<u32>()).then_some(Self { rest: value })
    }

    /// Whether all cells were read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes one cell.
    pub(super) fn u32(&mut self) -> Option<u32> {
        let (cell, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*cell))
    }

    /// Reads a number of `cells` cells. If there are more than two, the upper ones must be zero.
    pub(super) fn number(&mut self, cells: u32) -> Option<u64> {
        let mut value = 0u64;
        for _ in 0..cells {
            if value >> 32 != 0 {
                return None;
            }
            value = (value << 32) | u64::from(self.u32()?);
        }
        Some(value)
    }
}

/// The strings of a string list; stops at the first that is not terminated or not UTF-8.
pub(super) fn strings(value: &[u8]) -> impl Iterator<Item = &str> {
    value.split_inclusive(|&b| b == 0).map_while(string)
}

/// Exactly one NUL-terminated string.
pub(super) fn string(value: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(value.strip_suffix(&[0])?).ok()?;
    (!text.contains('\0')).then_some(text)
}
