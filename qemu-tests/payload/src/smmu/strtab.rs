//! Stream tables [IHI 0070 3.3]: linear, or two levels split at 8 bits.

use super::Format;
use super::spec::{BASE_ALLOCATE, Ste};
use crate::mem::alloc;
use crate::mmio;
use crate::num::u64_of;

const STE_BYTES: u64 = 64;
/// StreamID bits that a level-2 table resolves.
const SPLIT: u32 = 8;
/// Streams of a linear table, log2: enough for bus 0.
const LINEAR_LOG2: u32 = 8;

/// A stream table whose entries all abort at first.
#[derive(Debug)]
pub struct StreamTable {
    /// Address of the table, or of its first level.
    pub base: u64,
    /// Its format.
    pub format: Format,
    log2: u32,
    level2: u64,
}

impl StreamTable {
    /// Allocates a table for `sid_bits` bits of StreamID; a linear one covers PCI bus 0 only.
    pub fn new(format: Format, sid_bits: u32) -> Self {
        let leaf_bytes = STE_BYTES << SPLIT;
        let table = match format {
            Format::Linear => {
                let base = alloc(leaf_bytes, leaf_bytes);
                Self { base, format, log2: LINEAR_LOG2.min(sid_bits), level2: base }
            }
            Format::TwoLevel => {
                let log2 = sid_bits.max(SPLIT);
                let bytes = 8_u64 << (log2 - SPLIT);
                let base = alloc(bytes, bytes.max(4096));
                let level2 = alloc(leaf_bytes, leaf_bytes);
                // SPAN: 2^(SPAN-1) entries.
                mmio::write64(base, level2 | u64::from(SPLIT + 1));
                Self { base, format, log2, level2 }
            }
        };
        for sid in 0..1 << SPLIT {
            for (index, word) in Ste::abort().0.iter().enumerate() {
                table.write_word(sid, u64_of(index), *word);
            }
        }
        table
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

    /// Address of the stream's entry; only bus 0 has entries.
    pub fn entry(&self, sid: u32) -> u64 {
        assert!(sid < 1 << SPLIT, "StreamID {sid:#x} has no entry");
        self.level2 + u64::from(sid) * STE_BYTES
    }

    /// Writes one 64-bit word of the stream's entry.
    pub fn write_word(&self, sid: u32, index: u64, word: u64) {
        mmio::write64(self.entry(sid) + index * 8, word);
    }
}
