//! The structure of a flattened device tree (Devicetree Specification 0.4, chapter 5): the whole structure is checked
//! before any offset in it is used. Names may be longer than the specification allows, as in Linux, dtc and U-Boot, but
//! have only its characters: names are printed, and compared with paths.

use dtoolkit::fdt::Fdt;

use super::DTB_MAX;
use crate::boot_info::error::BootError;

const HEADER_SIZE: usize = 40;
/// The version whose layout this is.
const VERSION: u32 = 17;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Maximum characters of a name, including the unit address: a path of the deepest node still fits the console's
/// buffer.
pub const NAME_MAX: usize = 255;

/// Maximum number of properties of a node: each name is compared with those before it. The largest nodes are the
/// `__symbols__` of trees for overlays, with about 2,000.
const PROPERTIES_MAX: usize = 4096;

/// The tree in `dtb`, if the header, the reservations, every token and every name are valid.
///
/// # Errors
/// [`BootError::Dtb`] with the offset of the first fault; [`BootError::DtbSize`] when it is too large.
pub(crate) fn check(dtb: &[u8]) -> Result<Fdt<'_>, BootError<'_>> {
    if dtb.len() > DTB_MAX {
        return Err(BootError::DtbSize { size: u32::try_from(dtb.len()).unwrap_or(u32::MAX) });
    }
    Checker::new(dtb)
        .and_then(|checker| checker.whole())
        .map_err(|(problem, offset)| BootError::Dtb { problem, offset })?;
    Ok(Fdt::new_unchecked(dtb))
}

/// The error and its offset.
type Fault = (&'static str, usize);

struct Checker<'a> {
    dtb: &'a [u8],
    reservations: usize,
    structure: usize,
    strings: &'a [u8],
    strings_at: usize,
}

impl<'a> Checker<'a> {
    fn new(dtb: &'a [u8]) -> Result<Self, Fault> {
        let field = |at: usize| word(dtb, at).ok_or(("it is shorter than a header", dtb.len()));
        let place = |at: usize| {
            field(at).and_then(|value| usize::try_from(value).map_err(|_| ("an offset is out of range", at)))
        };
        if dtb.len() < HEADER_SIZE || place(4)? != dtb.len() {
            return Err(("the length differs from the length in the header", 4));
        }
        if field(0)? != super::DTB_MAGIC {
            return Err(("it has no magic number of a device tree", 0));
        }
        if !(field(24)?..=field(20)?).contains(&VERSION) {
            return Err(("its version is not supported", 20));
        }
        let (structure, strings_at, reservations) = (place(8)?, place(12)?, place(16)?);
        if reservations < HEADER_SIZE || reservations > structure || !reservations.is_multiple_of(8) {
            return Err(("the reservations are not between header and structure", 16));
        }
        let end = structure.checked_add(place(36)?).filter(|end| *end <= strings_at && structure.is_multiple_of(4));
        if end.is_none() {
            return Err(("the structure is not between reservations and names", 8));
        }
        let strings = strings_at.checked_add(place(32)?).and_then(|end| dtb.get(strings_at..end));
        let strings = strings.ok_or(("the names are not in the tree", 12))?;
        Ok(Self { dtb, reservations, structure, strings, strings_at })
    }

    fn whole(&self) -> Result<(), Fault> {
        self.reservations()?;
        let (mut at, mut depth) = (self.structure, 0usize);
        // The offset after the node's name and the number of its properties so far, which come before children.
        let mut properties: Option<(usize, usize)> = None;
        loop {
            let token = word(self.dtb, at).filter(|_| at < self.strings_at).ok_or(("it is cut short", at))?;
            let body = at.checked_add(4).ok_or(("it is cut short", at))?;
            at = match token {
                BEGIN_NODE => {
                    depth = depth.saturating_add(1);
                    let next = self.begin(body, depth)?;
                    properties = Some((next, 0));
                    next
                }
                END_NODE => {
                    properties = None;
                    depth = depth.checked_sub(1).ok_or(("a node's end has no beginning", at))?;
                    if depth == 0 {
                        return match word(self.dtb, body) {
                            Some(END) => Ok(()),
                            _ => Err(("it does not end after the root", body)),
                        };
                    }
                    body
                }
                PROPERTY => {
                    let (first, count) =
                        properties.as_mut().ok_or(("a property is after a child node or outside a node", at))?;
                    *count = count.saturating_add(1);
                    if *count > PROPERTIES_MAX {
                        return Err(("a node has more than 4096 properties", at));
                    }
                    let (name, next) = self.property(body)?;
                    // Readers would differ in which of the two they use.
                    if self.is_repeated(name, *first, at) {
                        return Err(("a node has two properties with the same name", body));
                    }
                    next
                }
                NOP if depth > 0 => body,
                _ => return Err(("a token is unknown, or not allowed at this offset", at)),
            };
        }
    }

    fn reservations(&self) -> Result<(), Fault> {
        let all = self.dtb.get(self.reservations..self.structure).unwrap_or_default();
        let ended = all.chunks_exact(16).any(|entry| entry.iter().all(|byte| *byte == 0));
        if ended { Ok(()) } else { Err(("the reservation block has no end", self.reservations)) }
    }

    /// Checks the name of the node whose token ends at `at`; returns the offset of the next token.
    fn begin(&self, at: usize, depth: usize) -> Result<usize, Fault> {
        let name = text(self.dtb.get(at..).unwrap_or_default()).ok_or(("a node's name does not end", at))?;
        if depth == 1 {
            if !name.is_empty() {
                return Err(("the root has a name", at));
            }
        } else {
            let mut parts = name.split(|byte| *byte == b'@');
            let base = parts.next().unwrap_or_default();
            let unit = parts.next().unwrap_or(b"0");
            let valid = |part: &[u8]| !part.is_empty() && part.iter().all(is_node_char);
            if !valid(base) || !valid(unit) || parts.next().is_some() {
                return Err(("a node's name is empty, or has an invalid character", at));
            }
        }
        check_length(name, at)?;
        after(at, name.len().saturating_add(1)).ok_or(("it is cut short", at))
    }

    /// Whether a property with this name is between `from`, where a node's properties begin, and the token at `end`.
    /// The properties there were checked.
    fn is_repeated(&self, name: &[u8], mut from: usize, end: usize) -> bool {
        while from < end {
            let body = from.saturating_add(4);
            from = match word(self.dtb, from) {
                Some(PROPERTY) => match self.parts(body) {
                    Some((other, _)) if other == name => return true,
                    Some((_, next)) => next,
                    None => return false,
                },
                _ => body,
            };
        }
        false
    }

    /// Checks the property whose token ends at `at`; returns its name and the offset of the next token.
    fn property(&self, at: usize) -> Result<(&'a [u8], usize), Fault> {
        let (name, next) = self.parts(at).ok_or(("a property or its name is cut short", at))?;
        if name.is_empty() || !name.iter().all(is_property_char) {
            return Err(("a property's name is empty, or has an invalid character", at));
        }
        check_length(name, at)?;
        Ok((name, next))
    }

    /// The name of the property whose token ends at `at`, and the offset of the next token.
    fn parts(&self, at: usize) -> Option<(&'a [u8], usize)> {
        let field = |at: usize| usize::try_from(word(self.dtb, at)?).ok();
        let length = field(at)?;
        let name = text(self.strings.get(field(at.checked_add(4)?)?..)?)?;
        let value = at.checked_add(8)?;
        value.checked_add(length).filter(|end| *end <= self.strings_at)?;
        Some((name, after(value, length)?))
    }
}

fn check_length(name: &[u8], at: usize) -> Result<(), Fault> {
    if name.len() <= NAME_MAX { Ok(()) } else { Err(("a name has more than 255 characters", at)) }
}

/// The bytes before the first NUL.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..bytes.iter().position(|byte| *byte == 0)?)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The first offset for a token after `length` bytes at `at`.
fn after(at: usize, length: usize) -> Option<usize> {
    at.checked_add(length)?.checked_next_multiple_of(4)
}

/// Devicetree Specification 0.4, 2.2.1.1.
fn is_node_char(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b",._+-".contains(byte)
}

/// Devicetree Specification 0.4, 2.2.4.1.
fn is_property_char(byte: &u8) -> bool {
    is_node_char(byte) || b"?#".contains(byte)
}
