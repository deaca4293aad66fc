//! Level-1 descriptors, and the barrier before the store of each.
//!
//! Hardware may fetch all of a level-2 table, in any order, as soon as a valid pointer to it is visible, and may cache it
//! [S 3.21.3]. So all stores to the table must be visible before the descriptor is stored: only [`publish`] makes
//! a [`Link`] to a table, and only a [`Link`] is ever stored.

use super::{L2_SIZE, NoMemory, clean, filled};
use crate::features::Coherency;
use crate::platform::{DmaBuffer, Platform};
use crate::smmu::ste::Ste;
use crate::smmu::stream::SPLIT;
use crate::spec::ste::l1std;
use crate::spec::{mask64, put64, union64};
use crate::stage2::Stage2Words;

/// A level-1 descriptor whose table is already visible to hardware.
#[derive(Clone, Copy)]
pub(super) struct Link(u64);

impl Link {
    /// The invalid descriptor.
    pub(super) const NONE: Self = Self(0);

    /// The word to store.
    pub(super) fn descriptor(self) -> u64 {
        self.0
    }
}

/// Makes all entries of `table` visible to hardware, and returns its descriptor.
pub(super) fn publish<P: Platform>(platform: &P, table: &P::Buffer, coherent: Coherency) -> Link {
    clean(table, 0, L2_SIZE, coherent);
    // Orders the stores to the entries before the store of the descriptor: snooping does not order stores.
    platform.dsb();
    Link(descriptor_of(table))
}

/// The descriptor of `table`, for comparison.
pub(super) fn descriptor_of<B: DmaBuffer>(table: &B) -> u64 {
    union64([table.pa().0 & mask64(l1std::L2PTR), put64(l1std::SPAN, u64::from(SPLIT) + 1)])
}

/// A published level-2 table.
#[derive(Clone)]
pub(super) struct Complete<B> {
    pub(super) table: B,
    pub(super) link: Link,
}

impl<B: DmaBuffer> Complete<B> {
    /// A table in which every entry is `ste`.
    pub(super) fn new<P: Platform<Buffer = B>>(
        platform: &P,
        words: &Stage2Words,
        ste: Ste,
        coherent: Coherency,
    ) -> Result<Self, NoMemory> {
        let table = filled(platform, words, ste)?;
        Ok(Self { link: publish(platform, &table, coherent), table })
    }
}
