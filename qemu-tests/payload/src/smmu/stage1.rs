//! The payload's stage 1 for a device: one context descriptor and three-level tables, 39-bit input, 4K granule.

use super::spec::{Ste, context_descriptor};
use crate::mem::{BLOCK, PAGE, alloc};
use crate::mmio;
use crate::num::u64_of;

const TABLE: u64 = 0b11;
const PAGE_LEAF: u64 = 0b11;
const BLOCK_LEAF: u64 = 0b01;
/// AF, inner shareable, `AP[1]` (unprivileged access), attribute 0.
const ATTRIBUTES: u64 = 1 << 10 | 3 << 8 | 1 << 6;
/// ASID of all contexts.
pub const ASID: u16 = 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// A device address space.
#[derive(Debug)]
pub struct Stage1 {
    /// Address of the context descriptor.
    pub cd: u64,
    /// Address of the level-1 table.
    pub root: u64,
}

impl Stage1 {
    /// An empty address space.
    pub fn new() -> Self {
        let (cd, root) = (alloc(PAGE, PAGE), alloc(PAGE, PAGE));
        let stage1 = Self { cd, root };
        stage1.write_cd(context_descriptor(root, ASID));
        stage1
    }

    /// Replaces the context descriptor.
    pub fn write_cd(&self, words: [u64; 8]) {
        for (index, word) in words.iter().enumerate() {
            mmio::write64(self.cd + u64_of(index) * 8, *word);
        }
    }

    /// The stream table entry with this stage 1.
    pub fn ste(&self) -> Ste {
        Ste::stage1(self.cd)
    }

    /// Maps one page read-write.
    pub fn map_page(&self, iova: u64, pa: u64) {
        let level3 = next(next(self.root, iova >> 30), iova >> 21);
        mmio::write64(slot(level3, iova >> 12), pa & ADDRESS | ATTRIBUTES | PAGE_LEAF);
    }

    /// Maps one 2 MiB block read-write.
    pub fn map_block(&self, iova: u64, pa: u64) {
        assert!(iova.is_multiple_of(BLOCK) && pa.is_multiple_of(BLOCK), "block {iova:#x} to {pa:#x}");
        mmio::write64(slot(next(self.root, iova >> 30), iova >> 21), pa & ADDRESS | ATTRIBUTES | BLOCK_LEAF);
    }

    /// Unmaps a page; the caller invalidates.
    pub fn unmap_page(&self, iova: u64) {
        let level3 = next(next(self.root, iova >> 30), iova >> 21);
        mmio::write64(slot(level3, iova >> 12), 0);
    }

    /// Makes the level-2 descriptor for `iova` point to a foreign address: a walk to it must fault.
    pub fn set_level3_table(&self, iova: u64, table: u64) {
        mmio::write64(slot(next(self.root, iova >> 30), iova >> 21), table & ADDRESS | TABLE);
    }
}

impl Default for Stage1 {
    fn default() -> Self {
        Self::new()
    }
}

fn slot(table: u64, index: u64) -> u64 {
    table + (index & 511) * 8
}

/// The next-level table, created if there is none.
fn next(table: u64, index: u64) -> u64 {
    let slot = slot(table, index);
    let entry = mmio::read64(slot);
    if entry & TABLE == TABLE {
        return entry & ADDRESS;
    }
    let new = alloc(PAGE, PAGE);
    mmio::write64(slot, new | TABLE);
    new
}
