//! Writes a flattened device tree. The structure block's length must be known before the strings block can
//! be placed, so a writer runs twice: first to measure, then to write.

/// There is no room left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;

/// Appends bytes to a slice, or only counts them.
struct Block<'b> {
    out: Option<&'b mut [u8]>,
    len: usize,
}

impl Block<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let end = self.len.checked_add(bytes.len()).ok_or(NoRoom)?;
        if let Some(out) = &mut self.out {
            out.get_mut(self.len..end).ok_or(NoRoom)?.copy_from_slice(bytes);
        }
        self.len = end;
        Ok(())
    }

    fn put_u32(&mut self, value: u32) -> Result<(), NoRoom> {
        self.put(&value.to_be_bytes())
    }

    /// Pads with zeroes to a whole number of cells.
    fn pad(&mut self) -> Result<(), NoRoom> {
        while !self.len.is_multiple_of(size_of::<u32>()) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

/// A structure block and its strings block.
pub(super) struct Writer<'b> {
    structure: Block<'b>,
    strings: Block<'b>,
}

impl<'b> Writer<'b> {
    /// Counts only.
    pub(super) fn measuring() -> Self {
        Self { structure: Block { out: None, len: 0 }, strings: Block { out: None, len: 0 } }
    }

    /// Writes into the two slices.
    pub(super) fn writing(structure: &'b mut [u8], strings: &'b mut [u8]) -> Self {
        Self { structure: Block { out: Some(structure), len: 0 }, strings: Block { out: Some(strings), len: 0 } }
    }

    pub(super) fn begin_node(&mut self, name: &str) -> Result<(), NoRoom> {
        self.structure.put_u32(BEGIN_NODE)?;
        self.structure.put(name.as_bytes())?;
        self.structure.put(&[0])?;
        self.structure.pad()
    }

    pub(super) fn end_node(&mut self) -> Result<(), NoRoom> {
        self.structure.put_u32(END_NODE)
    }

    /// A property whose value is the concatenation of `parts`.
    pub(super) fn property(&mut self, name: &str, parts: &[&[u8]]) -> Result<(), NoRoom> {
        let mut len = 0usize;
        for part in parts {
            len = len.checked_add(part.len()).ok_or(NoRoom)?;
        }
        let name = self.string(name)?;
        self.structure.put_u32(PROP)?;
        self.structure.put_u32(u32::try_from(len).map_err(|_| NoRoom)?)?;
        self.structure.put_u32(name)?;
        for part in parts {
            self.structure.put(part)?;
        }
        self.structure.pad()
    }

    /// Ends the structure block; returns the lengths of both blocks.
    pub(super) fn finish(mut self) -> Result<(usize, usize), NoRoom> {
        self.structure.put_u32(END)?;
        Ok((self.structure.len, self.strings.len))
    }

    /// The offset of `name` in the strings block, where each name occurs once.
    fn string(&mut self, name: &str) -> Result<u32, NoRoom> {
        let Some(out) = &self.strings.out else {
            return Ok(0);
        };
        let written = out.get(..self.strings.len).ok_or(NoRoom)?;
        let mut at = 0usize;
        for known in written.split_inclusive(|&b| b == 0) {
            if known.strip_suffix(&[0]) == Some(name.as_bytes()) {
                return u32::try_from(at).map_err(|_| NoRoom);
            }
            at = at.checked_add(known.len()).ok_or(NoRoom)?;
        }
        self.strings.put(name.as_bytes())?;
        self.strings.put(&[0])?;
        u32::try_from(at).map_err(|_| NoRoom)
    }
}
