//! A table's bytes, checked before use: ACPI 6.5, 5.2.6.

use crate::error::{Error, FIRMWARE, Note, Source};

/// Bytes of the header that all tables have.
pub(crate) const HEADER: usize = 36;
/// Maximum length of a table in bytes; tables that this crate parses are much shorter.
const LENGTH_MAX: usize = 1 << 20;

/// A table, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    signature: [u8; 4],
    bytes: &'a [u8],
    /// Offset of the bytes in the table.
    start: usize,
}

impl<'a> Table<'a> {
    /// Checks the length and the checksum of `bytes`.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<Self, Error> {
        let signature = bytes.first_chunk().copied().unwrap_or_default();
        let table = Self { signature, bytes, start: 0 };
        if !(HEADER..=LENGTH_MAX).contains(&bytes.len()) {
            let problem = "the table is shorter than a header, or longer than 1 MiB";
            return Err(table.bad(0, wide(bytes.len()), problem, FIRMWARE));
        }
        let length = table.u32(4)?;
        if usize::try_from(length) != Ok(bytes.len()) {
            let problem = "the length in the header differs from the length of the copied table";
            return Err(table.bad(4, length.into(), problem, "copy the number of bytes that is in the header"));
        }
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if sum != 0 {
            return Err(table.bad(9, sum.into(), "the checksum is wrong: the sum of all bytes is not 0", FIRMWARE));
        }
        Ok(table)
    }

    /// Refuses a revision that is not in `known`, or a table of fewer than `least` bytes.
    pub(crate) fn expect(&self, known: &[u8], least: usize) -> Result<(), Error> {
        let revision = self.u8(8)?;
        if !known.contains(&revision) {
            return Err(self.bad(8, revision.into(), "the revision is unknown", FIRMWARE));
        }
        if self.len() < least {
            return Err(self.bad(4, wide(self.len()), "the table is too short for its revision", FIRMWARE));
        }
        Ok(())
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Offset of this part in the table.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// `length` bytes from `at`, as a part.
    pub(crate) fn part(&self, at: usize, length: usize) -> Result<Self, Error> {
        let bytes = at.checked_add(length).and_then(|end| self.bytes.get(at..end));
        let bytes = bytes.ok_or_else(|| self.too_short(at, length))?;
        Ok(Self { signature: self.signature, bytes, start: self.start.saturating_add(at) })
    }

    /// The byte at `at`.
    pub(crate) fn u8(&self, at: usize) -> Result<u8, Error> {
        self.array::<1>(at).map(u8::from_le_bytes)
    }

    /// The little-endian number at `at`.
    pub(crate) fn u16(&self, at: usize) -> Result<u16, Error> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// The little-endian number at `at`.
    pub(crate) fn u32(&self, at: usize) -> Result<u32, Error> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// The little-endian number at `at`.
    pub(crate) fn u64(&self, at: usize) -> Result<u64, Error> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Error> {
        self.bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or_else(|| self.too_short(at, N))
    }

    fn too_short(&self, at: usize, length: usize) -> Error {
        self.bad(at, wide(length), "the field has this many bytes, and the table or its entry ends before", FIRMWARE)
    }

    /// The error about `value` at `at`.
    pub(crate) fn bad(&self, at: usize, value: u64, problem: &'static str, remedy: &'static str) -> Error {
        Error { source: Source::Table(self.signature), offset: self.start.saturating_add(at), value, problem, remedy }
    }

    /// The note about `value` at `at`.
    pub(crate) fn note(&self, at: usize, value: u64, what: &'static str) -> Note {
        Note { source: Source::Table(self.signature), offset: self.start.saturating_add(at), value, what }
    }
}

/// Converts `number` to the type of values in errors.
pub(crate) fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
