//! The private level-2 tables: a block gets one, and it is freed when no hardware can use it any more.
//!
//! A prepared table becomes live with [`ShadowTable::attach`]. It is detached when its block gets a shared table, then
//! its invalidation is queued, and it is freed after the next CMD_SYNC.

use super::link::{Link, publish};
use super::{ShadowTable, Shape, Shared, TwoLevel, filled, index, write_l1, write_ste};
use crate::platform::{DmaBuffer, Platform};
use crate::smmu::ste::Ste;
use crate::spec::ste::L1STD_SIZE;

/// Maximum private level-2 tables of blocks that the host uses; its streams beyond them abort.
const MAX_HOST_L2: usize = 256;
/// Maximum private level-2 tables: no host can use up the rest, which is for blocks with streams of other owners.
pub const MAX_L2: usize = MAX_HOST_L2 + 32;

/// Whether a new table may be taken from the tables that the host's blocks cannot use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserve {
    /// No.
    Kept,
    /// Yes.
    Used,
}

/// A place for a private level-2 table.
#[derive(Clone)]
pub(super) enum Slot<B> {
    Empty,
    Live(B),
    /// Detached from this block; hardware may have it cached.
    Detached {
        table: B,
        block: u32,
    },
    /// An invalidation that covers it is queued; freed when that is synchronised.
    InvalidationQueued(B),
}

/// A level-2 table under construction.
pub(super) struct Prepared<B> {
    table: B,
}

impl<B: DmaBuffer> ShadowTable<B> {
    pub(super) fn slot_of(two: &TwoLevel<B>, block: u32) -> Option<usize> {
        let offset = index(block).checked_mul(8)?;
        usize::try_from(two.map.read64(offset)).ok()?.checked_sub(1)
    }

    /// Whether the block has its own entries (private table, or linear format).
    pub(super) fn is_private(&self, block: u32) -> bool {
        match &self.shape {
            Shape::None | Shape::Linear { .. } => true,
            Shape::TwoLevel(two) => Self::slot_of(two, block).is_some(),
        }
    }

    /// Level-2 tables that can be attached now.
    pub(super) fn free_slots(&self) -> usize {
        match &self.shape {
            Shape::None | Shape::Linear { .. } => 0,
            Shape::TwoLevel(_) => self.slots.iter().fold(0, |free, slot| match slot {
                Slot::Empty => free.saturating_add(1),
                Slot::Live(_) | Slot::Detached { .. } | Slot::InvalidationQueued(_) => free,
            }),
        }
    }

    /// A new level-2 table of invalid entries, not yet referenced. `None` when the pool or the slots are used up.
    pub(super) fn prepare<P: Platform<Buffer = B>>(&self, platform: &P, reserve: Reserve) -> Option<Prepared<B>> {
        let kept = match reserve {
            Reserve::Kept => MAX_L2 - MAX_HOST_L2,
            Reserve::Used => 0,
        };
        if self.free_slots() <= kept {
            return None;
        }
        let table = filled(platform, &self.words, self.fixed.invalid()).ok()?;
        Some(Prepared { table })
    }

    /// Fills one entry of a prepared table.
    pub(super) fn prepare_entry(&self, prepared: &mut Prepared<B>, entry: u32, ste: Ste) {
        write_ste(&mut prepared.table, index(entry), ste, &self.words);
    }

    /// Publishes a prepared table as the block's private one. The caller then invalidates the block's configuration.
    pub(super) fn attach<P: Platform<Buffer = B>>(&mut self, platform: &P, block: u32, prepared: Prepared<B>) {
        let coherent = self.coherent;
        let Shape::TwoLevel(two) = &mut self.shape else {
            return;
        };
        let Some(at) = self.slots.iter().position(|slot| matches!(slot, Slot::Empty)) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let link = publish(platform, &prepared.table, coherent);
        *slot = Slot::Live(prepared.table);
        let number = u64::try_from(at).unwrap_or(0).saturating_add(1);
        two.map.write64(index(block).saturating_mul(8), number);
        write_l1(&mut two.l1, block, link, coherent);
    }

    /// Points the block to a shared table and detaches its private one. The caller invalidates the block's
    /// configuration.
    ///
    /// Returns whether the descriptor changed.
    pub(super) fn set_shared(&mut self, block: u32, shared: Shared) -> bool {
        let coherent = self.coherent;
        let Shape::TwoLevel(two) = &mut self.shape else {
            return false;
        };
        let link = match shared {
            Shared::None => Link::NONE,
            Shared::Stage2 => two.stage2.link,
            Shared::Abort => two.abort.link,
        };
        let changed = two.l1.read64(index(block).saturating_mul(L1STD_SIZE)) != link.descriptor();
        if changed {
            write_l1(&mut two.l1, block, link, coherent);
        }
        if let Some(slot) = Self::slot_of(two, block).and_then(|slot| self.slots.get_mut(slot)) {
            if let Slot::Live(table) = core::mem::replace(slot, Slot::Empty) {
                *slot = Slot::Detached { table, block };
                two.detached = two.detached.saturating_add(1);
            }
            two.map.write64(index(block).saturating_mul(8), 0);
        }
        changed
    }

    /// An invalidation of the configuration of block `of`, or of everything, was just queued.
    pub(super) fn invalidation_queued(&mut self, of: Option<u32>) {
        let Shape::TwoLevel(two) = &mut self.shape else { return };
        if two.detached == 0 {
            return;
        }
        for slot in &mut self.slots {
            let Slot::Detached { block, .. } = slot else { continue };
            if of.is_none_or(|of| of == *block)
                && let Slot::Detached { table, .. } = core::mem::replace(slot, Slot::Empty)
            {
                *slot = Slot::InvalidationQueued(table);
            }
        }
    }

    /// Frees tables whose invalidation was queued; only after a CMD_SYNC that followed it.
    #[inline]
    pub(super) fn free_detached(&mut self) {
        if let Shape::TwoLevel(two) = &mut self.shape
            && two.detached != 0
        {
            for slot in &mut self.slots {
                if matches!(slot, Slot::InvalidationQueued(_)) {
                    *slot = Slot::Empty;
                    two.detached = two.detached.saturating_sub(1);
                }
            }
        }
    }
}
