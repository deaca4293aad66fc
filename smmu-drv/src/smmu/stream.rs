//! StreamIDs: the blocks and groups in which they are handled, and the progress through them.

use crate::features::Features;

/// log2 of the number of StreamIDs of a level-2 table, and of a block.
pub(super) const SPLIT: u32 = 8;
/// StreamIDs of a block.
pub(super) const BLOCK: u32 = 1 << SPLIT;
/// Number of entries handled together: half a page of the host's table, so that a group is never in two pages.
pub(super) const GROUP: usize = 32;
/// [`GROUP`], for StreamIDs.
pub(super) const GROUP_U32: u32 = 32;
/// Log2 of [`GROUP`].
pub(super) const LOG2_GROUP: u32 = 5;
/// Maximum number of StreamID bits with two levels: 2^17 descriptors, 1 MiB.
const MAX_TWO_LEVEL_BITS: u32 = 17 + SPLIT;
/// Maximum number of StreamID bits of a linear table: 4 MiB.
const MAX_LINEAR_BITS: u32 = 16;

const _: () = assert!(GROUP == 1 << LOG2_GROUP && GROUP <= 1 << SPLIT);

/// StreamID bits that the shadow table covers, which are also those in the host's IDR1. Hardware aborts other streams.
pub(super) fn covered_sid_bits(features: &Features) -> u32 {
    features.sid_bits.min(if features.two_level() { MAX_TWO_LEVEL_BITS } else { MAX_LINEAR_BITS })
}

/// The first StreamID after a block.
pub(super) fn next_block(block: u32) -> u64 {
    (u64::from(block) + 1) << SPLIT
}

/// Whether the host has readable entries for some of these streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostEntries {
    /// For none of them.
    None,
    /// For at least one of them.
    Some,
}

/// Progress of a walk over many streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    next: u64,
    entries: HostEntries,
}

impl Cursor {
    /// A walk that continues at `next`, the first StreamID of a block.
    pub(super) fn at(next: u64) -> Self {
        Self { next, entries: HostEntries::None }
    }

    /// The next StreamID.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether the host has entries in the block of [`Cursor::next`], before it.
    pub(super) fn entries(&self) -> HostEntries {
        self.entries
    }

    /// Advances past a group with these entries.
    pub(super) fn after_group(self, entries: HostEntries) -> Self {
        let entries = if entries == HostEntries::Some { entries } else { self.entries };
        Self { next: self.next.saturating_add(u64::from(GROUP_U32)), entries }
    }
}
