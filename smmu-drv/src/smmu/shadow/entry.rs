//! The entries of private blocks, word by word. The callers do the invalidations between stores.

use super::change::SteStore;
use super::{ShadowTable, Shape, Slot, clean, index};
use crate::platform::DmaBuffer;
use crate::smmu::ste::Ste;
use crate::smmu::stream::{BLOCK, SPLIT};
use crate::spec::ste::STE_SIZE;
use crate::stage2::Stage2Words;

impl<B: DmaBuffer> ShadowTable<B> {
    /// Dwords 0 and 1 of an entry of a private block.
    pub(super) fn read(&self, sid: u32) -> Option<Ste> {
        let (table, entry) = match &self.shape {
            Shape::None => return None,
            Shape::Linear { table } => (table, index(sid)),
            Shape::TwoLevel(two) => {
                let slot = Self::slot_of(two, sid >> SPLIT)?;
                match self.slots.get(slot)? {
                    Slot::Live(table) => (table, index(sid & (BLOCK - 1))),
                    Slot::Empty | Slot::Detached { .. } | Slot::InvalidationQueued(_) => return None,
                }
            }
        };
        let offset = entry.checked_mul(STE_SIZE)?;
        Some(Ste { dw0: table.read64(offset), dw1: table.read64(offset.checked_add(8)?) })
    }

    /// One store into an entry of a private block; ignored for other blocks.
    pub(super) fn store(&mut self, sid: u32, store: SteStore) {
        self.with_entry(sid, |table, offset| match store {
            SteStore::Dw0(word) => table.write64(offset, word),
            SteStore::Dw1(word) => table.write64(offset.saturating_add(8), word),
        });
    }

    /// Dwords 2 and 3 of an entry of a private block, which must abort; ignored for other blocks.
    pub(super) fn store_words(&mut self, sid: u32, words: Stage2Words) {
        self.with_entry(sid, |table, offset| {
            table.write64(offset.saturating_add(16), words.dw2);
            table.write64(offset.saturating_add(24), words.dw3);
        });
    }

    /// Calls `store` with the table and the offset of an entry of a private block, and cleans the entry; ignored for
    /// other blocks.
    #[inline]
    fn with_entry(&mut self, sid: u32, store: impl FnOnce(&mut B, usize)) {
        let coherent = self.coherent;
        let (table, entry) = match &mut self.shape {
            Shape::None => return,
            Shape::Linear { table } => (table, index(sid)),
            Shape::TwoLevel(two) => {
                let Some(slot) = Self::slot_of(two, sid >> SPLIT) else {
                    return;
                };
                match self.slots.get_mut(slot) {
                    Some(Slot::Live(table)) => (table, index(sid & (BLOCK - 1))),
                    Some(Slot::Empty | Slot::Detached { .. } | Slot::InvalidationQueued(_)) | None => return,
                }
            }
        };
        let offset = entry.saturating_mul(STE_SIZE);
        store(table, offset);
        clean(table, offset, STE_SIZE, coherent);
    }
}
