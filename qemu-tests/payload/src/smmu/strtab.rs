//! Stream tables [IHI 0070 3.3]: linear, or two levels split at 8 bits.

use super::Format;
use super::spec::{BASE_ALLOCATE, Ste};
use crate::mem::alloc;
use crate::mmio;
use crate::num::u64_of;

const STE_BYTES: u64 = 64;
/// StreamID bits that a level-2 table resolves.
const SPLIT: u32 = 8;
/// Maximum number of level-2 tables.
const LEAVES: usize = 4;
/// log2 of the number of streams of a linear table: enough for bus 0.
const LINEAR_LOG2: u32 = 8;

/// A stream table; initially all entries abort.
#[derive(Debug)]
pub struct StreamTable {
    /// Address of the table, or of its first level.
    pub base: u64,
    /// Its format.
    pub format: Format,
    log2: u32,
    /// Level-2 tables, by the upper bits of the StreamID; a linear table counts as the one for 0.
    level2: [Option<(u32, u64)>; LEAVES],
}

impl StreamTable {
    /// Allocates a table for `sid_bits` bits of StreamID; a linear one covers PCI bus 0 only.
    pub fn new(format: Format, sid_bits: u32) -> Self {
        match format {
            Format::Linear => {
                let leaf = aborting_leaf();
                let log2 = LINEAR_LOG2.min(sid_bits);
                Self { base: leaf, format, log2, level2: [Some((0, leaf)), None, None, None] }
            }
            Format::TwoLevel => {
                let log2 = sid_bits.max(SPLIT);
                let bytes = 8_u64 << (log2 - SPLIT);
                let base = alloc(bytes, bytes.max(4096));
                let mut table = Self { base, format, log2, level2: [None; LEAVES] };
                table.add_leaf(0);
                table
            }
        }
    }

    /// Adds a level-2 table of abort entries for the StreamIDs with upper bits `upper`; the caller invalidates.
    pub fn add_leaf(&mut self, upper: u32) {
        let leaf = aborting_leaf();
        let slot = self.level2.iter_mut().find(|slot| slot.is_none()).expect("no room for another level-2 table");
        *slot = Some((upper, leaf));
        // SPAN: 2^(SPAN-1) entries.
        mmio::write64(self.base + u64::from(upper) * 8, leaf | u64::from(SPLIT + 1));
    }

    /// STRTAB_BASE.
    pub fn base_register(&self) -> u64 {
        self.base | BASE_ALLOCATE
    }

    /// STRTAB_BASE_CFG.
    pub fn config_register(&self) -> u32 {
        match self.format {
            Format::Linear => self.log2,
            Format::TwoLevel => self.log2 | SPLIT << 6 | 1 << 16,
        }
    }

    /// Address of the stream's entry, which must exist: bus 0 has entries from the start.
    pub fn entry(&self, sid: u32) -> u64 {
        let leaf = self.level2.iter().flatten().find(|(upper, _)| *upper == sid >> SPLIT);
        let (_, leaf) = leaf.expect("the StreamID has no entry");
        leaf + u64::from(sid & ((1 << SPLIT) - 1)) * STE_BYTES
    }

    /// Writes one 64-bit word of the stream's entry.
    pub fn write_word(&self, sid: u32, index: u64, word: u64) {
        mmio::write64(self.entry(sid) + index * 8, word);
    }
}

/// A table of 2^SPLIT abort entries.
fn aborting_leaf() -> u64 {
    let bytes = STE_BYTES << SPLIT;
    let leaf = alloc(bytes, bytes);
    for entry in (leaf..leaf + bytes).step_by(64) {
        for (index, word) in Ste::abort().0.iter().enumerate() {
            mmio::write64(entry + u64_of(index) * 8, *word);
        }
    }
    leaf
}
