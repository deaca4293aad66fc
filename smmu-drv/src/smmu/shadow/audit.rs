//! The audit of the shadow stream table: every entry must be confined by the stage 2 of the stream's owner.
//!
//! It checks less than the policy and does not read the host's table: every valid entry must be an abort or have that
//! stage 2, and no other fields than those that the host may set. Tests and the `ghost` build run it after every trap.

use core::fmt;

use super::link::descriptor_of;
use super::owners::{StreamOwner, StreamRange};
use super::{ShadowTable, Shape, Slot, TwoLevel, index};
use crate::platform::DmaBuffer;
use crate::smmu::stream::BLOCK;
use crate::spec::ste::{L1STD_SIZE, STE_SIZE, dw0, dw1};
use crate::spec::{get64, low32, mask64, union64};
use crate::stage2::Stage2Words;

/// An error in the shadow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrtabFinding {
    /// A level-1 descriptor does not point to the table of this block.
    Descriptor {
        /// The block, in units of a level-2 table.
        block: u32,
    },
    /// An entry is valid and neither aborts nor is confined by EL2's stage 2, or has a field that the host must not set.
    Entry {
        /// The StreamID, or the index in a table that is shared by many blocks or detached.
        index: u64,
        /// The first dword.
        dw0: u64,
    },
}

impl fmt::Display for StrtabFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptor { block } => write!(f, "level-1 descriptor {block:#x} points to a wrong table"),
            Self::Entry { index, dw0 } => write!(f, "stream table entry {index:#x} is not confined (dword 0 {dw0:#x})"),
        }
    }
}

/// Fields of dword 0 that can be set in an entry.
const DW0: u64 =
    union64([mask64(dw0::V), mask64(dw0::CONFIG), mask64(dw0::S1FMT), mask64(dw0::S1CONTEXTPTR), mask64(dw0::S1CDMAX)]);
/// Fields of dword 0 that can be set in an entry of another owner.
const SIMPLE: u64 = union64([mask64(dw0::V), mask64(dw0::CONFIG)]);
/// Fields of dword 1 in which entries can differ; the others are as in [`crate::Fixed`]: zero except INSTCFG.
const DW1: u64 = union64([
    mask64(dw1::S1DSS),
    mask64(dw1::S1CIR),
    mask64(dw1::S1COR),
    mask64(dw1::S1CSH),
    mask64(dw1::MEV),
    mask64(dw1::S1STALLD),
    mask64(dw1::SHCFG),
]);

impl<B: DmaBuffer> ShadowTable<B> {
    /// Checks every entry that hardware can reach, including those of tables that are not freed yet.
    ///
    /// # Errors
    /// The first wrong entry or descriptor.
    pub(crate) fn audit(&self) -> Result<(), StrtabFinding> {
        match &self.shape {
            Shape::None => Ok(()),
            Shape::Linear { table } => self.audit_table(table, Entries::From(0)),
            Shape::TwoLevel(two) => self.audit_two_level(two),
        }
    }

    fn audit_two_level(&self, two: &TwoLevel<B>) -> Result<(), StrtabFinding> {
        self.audit_table(&two.stage2.table, Entries::Shared)?;
        self.audit_table(&two.abort.table, Entries::Shared)?;
        // Until a CMD_SYNC completes, hardware may use the descriptor of a detached table.
        for slot in &self.slots {
            match slot {
                Slot::Detached { table, .. } | Slot::InvalidationQueued(table) => {
                    self.audit_table(table, Entries::Detached)?;
                }
                // The table of a block is checked with its descriptor.
                Slot::Live(_) | Slot::Empty => {}
            }
        }
        let [none, stage2, abort] = [0, descriptor_of(&two.stage2.table), descriptor_of(&two.abort.table)];
        for block in 0..self.blocks() {
            let descriptor = two.l1.read64(index(block).saturating_mul(L1STD_SIZE));
            let hosts = self.owner_of_block(block) == Some(StreamOwner::Host);
            if descriptor == none || descriptor == abort || (descriptor == stage2 && hosts) {
                continue;
            }
            match Self::slot_of(two, block).and_then(|slot| self.slots.get(slot)) {
                Some(Slot::Live(table)) if descriptor == descriptor_of(table) => {
                    self.audit_table(table, Entries::From(u64::from(block).saturating_mul(u64::from(BLOCK))))?;
                }
                _ => return Err(StrtabFinding::Descriptor { block }),
            }
        }
        Ok(())
    }

    /// Checks the entries of one table.
    fn audit_table(&self, table: &B, entries: Entries) -> Result<(), StrtabFinding> {
        let (first, one) = match entries {
            Entries::Shared | Entries::Detached => (0, Some(StreamOwner::Host)),
            Entries::From(first) => {
                let last = first.saturating_add(u64::try_from(table.size() / STE_SIZE).unwrap_or(0)).saturating_sub(1);
                let count = last.saturating_sub(first).saturating_add(1);
                let range = StreamRange::new(low32(first), low32(count));
                (first, range.and_then(|range| self.owners.of_all(range)))
            }
        };
        let mut owner = one.unwrap_or(StreamOwner::Host);
        let mut words = self.words_of(owner);
        for entry in 0..table.size() / STE_SIZE {
            let index = first.saturating_add(u64::try_from(entry).unwrap_or(u64::MAX));
            if one.is_none() {
                owner = self.owner(low32(index));
                words = self.words_of(owner);
            }
            let word = table.read_entry(entry.saturating_mul(STE_SIZE));
            let confined = match entries {
                Entries::Detached => self.is_anybodys(word),
                Entries::Shared | Entries::From(_) => self.is_owners(word, owner, words),
            };
            if !confined {
                return Err(StrtabFinding::Entry { index, dw0: word[0] });
            }
        }
        Ok(())
    }

    /// Whether an entry, its eight dwords, is one that a stream of `owner` may have; `words` are the owner's stage 2.
    fn is_owners(&self, entry: [u64; 8], owner: StreamOwner, words: Option<Stage2Words>) -> bool {
        let [dw0, dw1, dw2, dw3, rest @ ..] = entry;
        let fields = match owner {
            StreamOwner::Host => is_allowed(dw0, DW0) && is_allowed(dw1 ^ self.fixed.dw1, DW1),
            StreamOwner::Blocked | StreamOwner::Domain(_) => is_allowed(dw0, SIMPLE) && dw1 == self.fixed.dw1,
        };
        let stage2 = words.is_some_and(|words| (dw2, dw3) == (words.dw2, words.dw3));
        let confined = match (get64(dw0::V, dw0), get64(dw0::CONFIG, dw0)) {
            // After a failed assignment the entry of a stream without an owner may still have the domain's stage 2.
            (0, _) | (1, dw0::CONFIG_ABORT) => stage2 || owner == StreamOwner::Blocked,
            (_, dw0::CONFIG_S2) => stage2,
            (_, dw0::CONFIG_NESTED) => stage2 && owner == StreamOwner::Host,
            _ => false,
        };
        confined && (fields || dw0 & mask64(dw0::V) == 0) && rest == [0; 4]
    }

    /// Whether an entry is one that a stream of the host or of a domain may have.
    fn is_anybodys(&self, entry: [u64; 8]) -> bool {
        self.is_owners(entry, StreamOwner::Host, Some(self.words))
            || self.domains.iter().any(|(vmid, words)| self.is_owners(entry, StreamOwner::Domain(vmid), Some(words)))
    }
}

/// The owners of the entries of a table.
#[derive(Clone, Copy)]
enum Entries {
    /// A table shared by many blocks: the host's stage 2.
    Shared,
    /// A detached table: any owner, if hardware failed before it was freed.
    Detached,
    /// The table of the streams from this one on.
    From(u64),
}

/// Whether `word` has only bits of `fields`.
fn is_allowed(word: u64, fields: u64) -> bool {
    word & !fields == 0
}
