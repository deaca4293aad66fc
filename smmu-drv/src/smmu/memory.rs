//! The memory that a take-over needs, computed in advance.

use arrayvec::ArrayVec;

use super::device::QUEUES;
use super::shadow::table_blocks;
use crate::features::Features;

/// Maximum number of blocks: those of a stream table, and the two queues.
const MAX_BLOCKS: usize = 6;

/// Memory that is allocated with [`Platform::alloc`](crate::Platform::alloc).
///
/// ```
/// use smmu_drv::{Coherency, Features, IdRegisters, memory_needed};
///
/// // A linear stream table for 8 bits of StreamIDs, and a page for each queue.
/// let features = Features::decode(IdRegisters { idr1: 8, ..IdRegisters::default() }, Coherency::Coherent);
/// assert_eq!(memory_needed(&features).blocks(), [16384, 4096, 4096]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryNeeded {
    blocks: ArrayVec<usize, MAX_BLOCKS>,
    level2: usize,
}

impl MemoryNeeded {
    /// Bytes of each block that the take-over allocates, in this order. Each is a power of two, and the block is
    /// aligned to it.
    #[must_use]
    pub fn blocks(&self) -> &[usize] {
        &self.blocks
    }

    /// Bytes of all blocks.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Bytes of a level-2 stream table, and its alignment; 0 if the table is linear. One is allocated for a block of
    /// 256 streams when the entries of the block first differ; at most [`MAX_LEVEL2`](crate::MAX_LEVEL2) in all.
    #[must_use]
    pub fn level2(&self) -> usize {
        self.level2
    }
}

/// The memory that a take-over of an SMMU with `features` allocates, with or without a host.
#[must_use]
pub fn memory_needed(features: &Features) -> MemoryNeeded {
    let table = table_blocks(features);
    let mut blocks = ArrayVec::new();
    for bytes in table.fixed.into_iter().chain(QUEUES).filter(|bytes| *bytes != 0) {
        // Cannot fail: at most four blocks of the table, and two queues.
        let _ = blocks.try_push(bytes);
    }
    MemoryNeeded { blocks, level2: table.level2 }
}
