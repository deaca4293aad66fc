//! SPCR: the console (Microsoft's Serial Port Console Redirection Table, revisions 2 to 4).

use alloc::vec::Vec;

use crate::error::{Error, Note};
use crate::range::Range;
use crate::table::{HEADER, Table};

const LENGTH: usize = 80;
const KIND: usize = HEADER;
/// The Generic Address Structure of its registers.
const SPACE: usize = 40;
const WIDTH: usize = 41;
const ACCESS: usize = 43;
const ADDRESS: usize = 44;
/// Size in bytes of a console's registers.
const SIZE: u64 = 0x1000;
/// Address space ID of system memory.
const SYSTEM_MEMORY: u8 = 0;

/// How a console is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pl011,
    Sbsa,
    /// `shift` is log2 of the distance between registers in bytes, `width` the access size in bytes.
    Ns16550 {
        shift: u32,
        width: u32,
    },
}

/// The console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Console {
    pub(crate) range: Range,
    pub(crate) kind: Kind,
}

/// Reads the table; `None` for a console that EL2 cannot drive, which is withheld from the host too.
pub(crate) fn read(spcr: &Table<'_>, notes: &mut Vec<Note>) -> Result<Option<Console>, Error> {
    spcr.expect(&[2, 3, 4], LENGTH)?;
    let address = spcr.u64(ADDRESS)?;
    let kind = match (spcr.u8(KIND)?, spcr.u8(WIDTH)?, spcr.u8(ACCESS)?) {
        (3, _, _) => Some(Kind::Pl011),
        (0xd | 0xe, _, _) => Some(Kind::Sbsa),
        (0x12, 8, 0 | 1) => Some(Kind::Ns16550 { shift: 0, width: 1 }),
        (0x12, 32, 0 | 3) => Some(Kind::Ns16550 { shift: 2, width: 4 }),
        (0x12, 32, 1) => Some(Kind::Ns16550 { shift: 2, width: 1 }),
        (0 | 1, 8, 0 | 1) => Some(Kind::Ns16550 { shift: 0, width: 1 }),
        _ => None,
    };
    // Address 0 means that console redirection is disabled.
    let usable = spcr.u8(SPACE)? == SYSTEM_MEMORY && address != 0 && address.checked_add(SIZE).is_some();
    let console = kind.filter(|_| usable).map(|kind| Console { range: Range { base: address, size: SIZE }, kind });
    if console.is_none() {
        notes.push(spcr.note(ADDRESS, address, "console of a kind that EL2 does not drive, withheld"));
    }
    Ok(console)
}
