//! The reasons why a machine is refused, and the parts that the host does not get.

use core::fmt;

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table with this signature.
    Table([u8; 4]),
    /// The UEFI memory map; the offset is the number of the entry.
    MemoryMap,
    /// The GCD memory space map; the offset is the number of the entry.
    Spaces,
    /// The addresses allocated to functions below root bridges; the offset is the number of the entry.
    Apertures,
    /// The registers that the loader has listed; the offset is the number of the entry.
    Registers,
    /// The memory that the loader has reserved for EL2.
    Own,
    /// EL2's command line; the offset is that of the character.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(signature) => {
                for byte in signature {
                    let shown = if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
                    write!(f, "{shown}")?;
                }
                Ok(())
            }
            Self::MemoryMap => f.write_str("UEFI memory map"),
            Self::Spaces => f.write_str("GCD memory space map"),
            Self::Apertures => f.write_str("addresses of PCI functions"),
            Self::Registers => f.write_str("registers that the loader lists"),
            Self::Own => f.write_str("EL2's memory"),
            Self::CommandLine => f.write_str("EL2's command line"),
        }
    }
}

/// The reason why a machine is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The table or map with the wrong value.
    pub source: Source,
    /// Offset of the value: in bytes from the start of a table; for other sources see [`Source`].
    pub offset: usize,
    /// The value.
    pub value: u64,
    /// What is wrong with the value: the first part of the message.
    pub problem: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, offset, value, problem, remedy } = self;
        write!(f, "{source}, offset {offset:#x}: {problem} (found {value:#x}): {remedy}")
    }
}

impl core::error::Error for Error {}

/// A part of the machine that the host does not get, or gets in another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The table or map that describes it.
    pub source: Source,
    /// Offset in the table or map.
    pub offset: usize,
    /// The part's address or number.
    pub value: u64,
    /// What the part is, and what EL2 does with it.
    pub what: &'static str,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, offset, value, what } = self;
        write!(f, "{source}, offset {offset:#x}: {value:#x}: {what}")
    }
}

/// The remedy for errors that only the firmware's author can correct.
pub(crate) const FIRMWARE: &str = "update the firmware, or boot by device tree";
