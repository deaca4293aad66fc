//! Level-1 descriptors, and the barrier without which none is made.
//!
//! A level-2 table is fetched as soon as a valid pointer to it can be seen, as a whole and in any order, and what is fetched
//! may be cached [S 3.21.3]. So not one word of it may still be under way when the descriptor is stored: [`publish`] is the
//! only way to a [`Link`], and only a [`Link`] is ever stored.

use super::policy::{Stage2Words, Ste};
use super::{L2_SIZE, NoMemory, SPLIT, clean, filled};
use crate::features::Coherency;
use crate::hw::Hw;
use crate::platform::{DmaBuffer, Platform};
use crate::spec::ste::l1std;
use crate::spec::{mask64, put64, union64};

/// A level-1 descriptor whose table is complete for everybody who can see the descriptor.
#[derive(Clone, Copy)]
pub(super) struct Link(u64);

impl Link {
    /// It leads nowhere.
    pub(super) const NONE: Self = Self(0);

    /// The word to store.
    pub(super) fn descriptor(self) -> u64 {
        self.0
    }
}

/// Makes everything in `table` visible to hardware, and returns the descriptor that leads there.
pub(super) fn publish<P: Platform>(hw: &Hw<P>, table: &P::Buffer, coherent: Coherency) -> Link {
    clean(table, 0, L2_SIZE, coherent);
    // Orders the stores to the entries before the store of the descriptor: snooping alone orders nothing.
    hw.dsb();
    Link(descriptor_of(table))
}

/// The descriptor of `table`, to compare with.
pub(super) fn descriptor_of<B: DmaBuffer>(table: &B) -> u64 {
    union64([table.pa().0 & mask64(l1std::L2PTR), put64(l1std::SPAN, u64::from(SPLIT) + 1)])
}

/// A level-2 table that does not change any more.
#[derive(Clone)]
pub(super) struct Complete<B> {
    pub(super) table: B,
    pub(super) link: Link,
}

impl<B: DmaBuffer> Complete<B> {
    /// A table in which every entry is `ste`.
    pub(super) fn new<P: Platform<Buffer = B>>(
        hw: &Hw<P>,
        words: &Stage2Words,
        ste: Ste,
        coherent: Coherency,
    ) -> Result<Self, NoMemory> {
        let table = filled(hw, words, ste)?;
        Ok(Self { link: publish(hw, &table, coherent), table })
    }
}
