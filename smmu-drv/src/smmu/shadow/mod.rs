//! The shadow stream table: the only one that hardware reads. It receives checked entries, and uses no register of the
//! host.
//!
//! Its interface: `base` and `cfg` for hardware; `enter` one entry, `refresh` a range from `Entries`, `share` one entry by all
//! streams and `finish`, or `abort_all`; `invalidate`; `synchronised` after a CMD_SYNC that another part waited for,
//! `after_reprogram` when hardware was programmed again; `audit`. Commands go to a `Hardware`.
//!
//! If hardware has 2-level tables, level 1 covers every StreamID from the start. One shared level-2 table of stage-2-only entries
//! is used while the host's SMMUEN is 0, one of abort entries while GBPA.ABORT is also set, and private ones are
//! allocated when the host's table has entries. A private table is detached first and freed only when an invalidation
//! that covers it is complete. Otherwise the table is linear and complete.

pub mod assign;
pub mod audit;
pub mod change;
mod entry;
mod link;
pub mod owners;
mod refresh;
mod slots;

use crate::features::{Coherency, Features};
use crate::platform::{DmaBuffer, Platform};
use crate::smmu::ste::{Fixed, Ste};
use crate::smmu::stream::{BLOCK, SPLIT, covered_sid_bits};
use crate::spec::registers::{strtab_base, strtab_base_cfg};
use crate::spec::ste::{L1STD_SIZE, STE_SIZE};
use crate::spec::{mask64, put32, put64, union32, union64};
use crate::stage2::Stage2Words;
use link::{Complete, Link};
use owners::{Domains, Owners, StreamOwner};
pub(super) use refresh::{Entered, Entries, Hardware};
pub use slots::MAX_L2;
use slots::{Reserve, Slot};

/// Bytes of a level-2 table, and their alignment.
const L2_SIZE: usize = STE_SIZE << SPLIT;
/// Memory of a table.
pub(super) struct TableBlocks {
    /// Bytes of the blocks that are allocated at take-over: the linear table; or level 1, the map of its slots, and the
    /// two shared tables of level 2. 0 means that the block does not exist.
    pub(super) fixed: [usize; 4],
    /// Bytes of each level-2 table that is allocated later; 0 if there are none.
    pub(super) level2: usize,
}

/// Memory of the table of an SMMU with `features`.
pub(super) fn table_blocks(features: &Features) -> TableBlocks {
    let bits = covered_sid_bits(features);
    let bytes = |entry: usize, bits: u32| entry.checked_shl(bits).unwrap_or(usize::MAX).max(4096);
    if features.two_level() {
        let top = bytes(L1STD_SIZE, bits.saturating_sub(SPLIT));
        TableBlocks { fixed: [top, top, L2_SIZE, L2_SIZE], level2: L2_SIZE }
    } else {
        TableBlocks { fixed: [bytes(STE_SIZE, bits), 0, 0, 0], level2: 0 }
    }
}

/// The shared configuration of a block without a private table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    /// No descriptor: C_BAD_STREAMID.
    None,
    /// Stage 2 only.
    Stage2,
    /// Abort without an event.
    Abort,
}

#[derive(Clone)]
struct TwoLevel<B> {
    l1: B,
    /// For each block, the number of its slot plus one, or zero.
    map: B,
    /// Number of detached slots: usually 0, so commands need not scan the slots.
    detached: usize,
    stage2: Complete<B>,
    abort: Complete<B>,
}

#[derive(Clone)]
enum Shape<B> {
    /// No memory yet: before take-over.
    None,
    Linear {
        table: B,
    },
    TwoLevel(TwoLevel<B>),
}

/// The table, the common fields of its entries, and the owners of the streams. It is large and never moved.
#[derive(Clone)]
pub(super) struct ShadowTable<B> {
    shape: Shape<B>,
    /// Level-2 tables, if there are two levels.
    slots: [Slot<B>; MAX_L2],
    bits: u32,
    words: Stage2Words,
    fixed: Fixed,
    /// The owner of each stream.
    owners: Owners,
    /// The stage 2 of each domain.
    domains: Domains,
    coherent: Coherency,
    /// Whether every stream aborts permanently.
    quiesced: bool,
    /// Whether configuration invalidations are queued without a CMD_SYNC after them.
    cfgi_pending: bool,
    /// Number of level-2 tables that could not be allocated.
    no_memory: u64,
}

/// Allocation failed. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMemory;

impl<B> ShadowTable<B> {
    /// A value without a table. It is all zeroes, so that a static takes no space in an image.
    pub(super) const fn unused() -> Self {
        Self {
            shape: Shape::None,
            slots: [const { Slot::Empty }; MAX_L2],
            bits: 0,
            words: Stage2Words::NONE,
            fixed: Fixed { dw1: 0 },
            owners: Owners::all(StreamOwner::Host),
            domains: Domains::new(),
            coherent: Coherency::Coherent,
            quiesced: false,
            cfgi_pending: false,
            no_memory: 0,
        }
    }

    /// Frees all memory; afterwards there is no table, as before [`ShadowTable::init`].
    pub(super) fn clear(&mut self) {
        self.shape = Shape::None;
        for slot in &mut self.slots {
            *slot = Slot::Empty;
        }
    }
}

impl<B: DmaBuffer> ShadowTable<B> {
    /// Creates a table in which `unassigned` owns every stream. Streams of the host have the configuration `initial`,
    /// others abort.
    ///
    /// # Errors
    /// [`NoMemory`]; there is no table then.
    pub(super) fn init<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        features: &Features,
        words: Stage2Words,
        fixed: Fixed,
        initial: Shared,
        unassigned: StreamOwner,
    ) -> Result<(), NoMemory> {
        self.clear();
        let bits = covered_sid_bits(features);
        let coherent = features.coherent;
        let [top, map, ..] = table_blocks(features).fixed;
        self.shape = if features.two_level() {
            Shape::TwoLevel(TwoLevel {
                l1: platform.alloc(top).ok_or(NoMemory)?,
                map: platform.alloc(map).ok_or(NoMemory)?,
                detached: 0,
                stage2: Complete::new(platform, &words, fixed.stage2(), coherent)?,
                abort: Complete::new(platform, &words, fixed.abort(), coherent)?,
            })
        } else {
            Shape::Linear { table: platform.alloc(top).ok_or(NoMemory)? }
        };
        self.bits = bits;
        self.words = words;
        self.fixed = fixed;
        self.owners.reset(unassigned);
        self.domains.clear();
        self.coherent = coherent;
        self.quiesced = false;
        self.cfgi_pending = false;
        self.no_memory = 0;
        self.fill(if unassigned == StreamOwner::Host { initial } else { Shared::Abort });
        Ok(())
    }

    /// Sets every stream to `initial`; only while hardware does not use the table.
    fn fill(&mut self, initial: Shared) {
        let ste = self.shared_ste(initial);
        let words = self.words;
        match &mut self.shape {
            Shape::None => {}
            Shape::Linear { table } => {
                let entries = table.size() / STE_SIZE;
                for index in 0..entries {
                    write_ste(table, index, ste, &words);
                }
                clean(table, 0, table.size(), self.coherent);
            }
            Shape::TwoLevel(_) => {
                for block in 0..self.blocks() {
                    self.set_shared(block, initial);
                }
            }
        }
    }

    fn shared_ste(&self, shared: Shared) -> Ste {
        match shared {
            Shared::None => self.fixed.invalid(),
            Shared::Stage2 => self.fixed.stage2(),
            Shared::Abort => self.fixed.abort(),
        }
    }

    /// SMMU_STRTAB_BASE for this table.
    pub(super) fn base(&self) -> u64 {
        let top = match &self.shape {
            Shape::None => return 0,
            Shape::Linear { table } => table,
            Shape::TwoLevel(two) => &two.l1,
        };
        union64([top.pa().0 & mask64(strtab_base::ADDR), put64(strtab_base::RA, 1)])
    }

    /// SMMU_STRTAB_BASE_CFG for this table.
    pub(super) fn cfg(&self) -> u32 {
        let log2size = put32(strtab_base_cfg::LOG2SIZE, self.bits);
        match &self.shape {
            Shape::None | Shape::Linear { .. } => {
                union32([log2size, put32(strtab_base_cfg::FMT, strtab_base_cfg::LINEAR)])
            }
            Shape::TwoLevel(_) => union32([
                log2size,
                put32(strtab_base_cfg::FMT, strtab_base_cfg::TWO_LEVEL),
                put32(strtab_base_cfg::SPLIT, SPLIT),
            ]),
        }
    }

    /// Number of level-2 tables that could not be allocated since take-over.
    pub(super) fn no_memory(&self) -> u64 {
        self.no_memory
    }

    /// Number of StreamIDs covered.
    fn streams(&self) -> u64 {
        1_u64.checked_shl(self.bits).unwrap_or(0)
    }

    /// Number of blocks of [`BLOCK`] StreamIDs; at least 1.
    fn blocks(&self) -> u32 {
        1_u32.checked_shl(self.bits.saturating_sub(SPLIT)).unwrap_or(1)
    }

    /// With two levels a block can have one entry for all its streams.
    fn is_two_level(&self) -> bool {
        matches!(self.shape, Shape::TwoLevel(_))
    }
}

/// A level-2 table in which every entry is `ste`; not published yet.
fn filled<P: Platform>(platform: &P, words: &Stage2Words, ste: Ste) -> Result<P::Buffer, NoMemory> {
    let mut table = platform.alloc(L2_SIZE).ok_or(NoMemory)?;
    for entry in 0..index(BLOCK) {
        write_ste(&mut table, entry, ste, words);
    }
    Ok(table)
}

/// Writes a whole entry of a table that is not published yet; dwords 4 to 7 are zero after the allocation.
fn write_ste<B: DmaBuffer>(table: &mut B, entry: usize, ste: Ste, words: &Stage2Words) {
    let offset = entry.saturating_mul(STE_SIZE);
    let values = [ste.dw0, ste.dw1, words.dw2, words.dw3];
    for (word, value) in values.into_iter().enumerate() {
        table.write64(offset.saturating_add(word.saturating_mul(8)), value);
    }
}

fn write_l1<B: DmaBuffer>(l1: &mut B, block: u32, link: Link, coherent: Coherency) {
    let offset = index(block).saturating_mul(L1STD_SIZE);
    l1.write64(offset, link.descriptor());
    clean(l1, offset, L1STD_SIZE, coherent);
}

fn clean<B: DmaBuffer>(buffer: &B, offset: usize, len: usize, coherent: Coherency) {
    if coherent == Coherency::NonCoherent {
        buffer.clean(offset, len);
    }
}

fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
