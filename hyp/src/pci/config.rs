//! Access to configuration space, and the list of capabilities in it.

use super::rid::Rid;
use super::spec::{self, capability, extended};
use host_access::field::get32;

/// Configuration space of the functions of one PCI host.
pub trait ConfigSpace {
    /// Loads the register at `offset`, a multiple of 4 below 4096. All ones if there is no such function.
    fn read32(&self, rid: Rid, offset: u16) -> u32;
    /// Stores the register at `offset`, a multiple of 4 below 4096.
    fn write32(&mut self, rid: Rid, offset: u16, value: u32);
    /// Stores 16 bits at `offset`, a multiple of 2 below 4096; the other half of the register is unchanged.
    fn write16(&mut self, rid: Rid, offset: u16, value: u16);
    /// Stores one byte at `offset`, below 4096.
    fn write8(&mut self, rid: Rid, offset: u16, value: u8);
}

/// The lower 16 bits of the register at `offset`.
pub fn read16(config: &impl ConfigSpace, rid: Rid, offset: u16) -> u16 {
    let [a, b, _, _] = config.read32(rid, offset).to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// Whether function `rid` exists.
pub fn exists(config: &impl ConfigSpace, rid: Rid) -> bool {
    config.read32(rid, spec::ID) != spec::ABSENT
}

/// The type of a function's header.
pub fn header_type(config: &impl ConfigSpace, rid: Rid) -> u32 {
    get32(spec::HEADER_TYPE, config.read32(rid, spec::HEADER))
}

/// Maximum number of capabilities in conventional configuration space. It bounds the walk of a circular list.
const MOST: usize = 48;
/// The first offset after the header.
const AFTER_HEADER: u16 = 0x40;

/// The offset of the capability `id`.
pub fn capability(config: &impl ConfigSpace, rid: Rid, id: u32) -> Option<u16> {
    if get32(spec::STATUS_CAPABILITIES, config.read32(rid, spec::COMMAND)) == 0 {
        return None;
    }
    let pointer = |word: u32| u16::try_from(word & 0xfc).ok().filter(|&at| at >= AFTER_HEADER);
    let mut at = pointer(config.read32(rid, spec::CAPABILITIES))?;
    for _ in 0..MOST {
        let word = config.read32(rid, at);
        if get32(capability::ID, word) == id {
            return Some(at);
        }
        at = pointer(get32(capability::NEXT, word))?;
    }
    None
}

/// Maximum number of capabilities in extended configuration space.
const MOST_EXTENDED: usize = 480;

/// The list of extended capabilities is circular, or an entry is outside extended configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

/// The offset of the extended capability `id`; `None` if there is none.
///
/// # Errors
/// [`Endless`].
pub fn extended(config: &impl ConfigSpace, rid: Rid, id: u32) -> Result<Option<u16>, Endless> {
    let mut at = extended::FIRST;
    for _ in 0..MOST_EXTENDED {
        let word = config.read32(rid, at);
        if at == extended::FIRST && (word == 0 || word == spec::ABSENT) {
            return Ok(None);
        }
        if get32(extended::ID, word) == id {
            return Ok(Some(at));
        }
        at = u16::try_from(get32(extended::NEXT, word) & 0xffc).unwrap_or(0);
        if at == 0 {
            return Ok(None);
        }
        if at < extended::FIRST {
            return Err(Endless);
        }
    }
    Err(Endless)
}
