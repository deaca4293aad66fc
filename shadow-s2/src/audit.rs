//! Comparison of the table with the expected mappings.

use core::fmt;

use io_pgtable::{Ipa, MemType, TableMemory};

use crate::range::PageRange;
use crate::table::ShadowS2;

/// Kind of mismatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A page of the owner is not mapped: nobody has access to it.
    Missing,
    /// A page is mapped that does not belong to the owner.
    Foreign,
    /// A leaf maps to another address (not the identity).
    NotIdentity,
    /// Memory mapped as registers, or registers mapped as memory.
    WrongKind,
}

/// The first mismatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The page.
    pub ipa: Ipa,
    /// The kind of mismatch.
    pub finding: Finding,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IOMMU stage 2 at {}: {:?}", self.ipa, self.finding)
    }
}

impl<M: TableMemory> ShadowS2<M> {
    /// Compares the table with the owner's `memory`, in ascending order and without overlaps, and with the `registers`
    /// that the owner's devices may write.
    ///
    /// # Errors
    /// The first [`Disagreement`], lowest address first.
    pub fn audit(
        &self,
        memory: impl IntoIterator<Item = PageRange>,
        registers: &[PageRange],
    ) -> Result<(), Disagreement> {
        let limit = self.limit().0;
        let mut memory = memory.into_iter().filter_map(|range| range.below(limit));
        let mut expected = memory.next();
        for leaf in self.table.leaves(Ipa(0).into(), limit) {
            let mut at = leaf.iova.0;
            let end = at.saturating_add(leaf.size);
            if leaf.pa.0 != leaf.iova.0 {
                return disagree(at, Finding::NotIdentity);
            }
            if leaf.attrs.mem == MemType::Device {
                check_registers(at, end, registers)?;
                continue;
            }
            while at < end {
                let Some(range) = expected.filter(|range| range.ipa().0 <= at) else {
                    return disagree(at, unexpected(at, registers));
                };
                if range.ipa().0 < at {
                    return disagree(range.ipa().0, Finding::Missing);
                }
                at = end.min(range.ipa_end().0);
                expected = PageRange::between(Ipa(at), range.ipa_end()).or_else(|| memory.next());
            }
        }
        expected.map_or(Ok(()), |range| disagree(range.ipa().0, Finding::Missing))
    }
}

/// Checks that devices may write the registers from `at` to `end`.
fn check_registers(mut at: u64, end: u64, registers: &[PageRange]) -> Result<(), Disagreement> {
    while at < end {
        let Some(given) = registers.iter().find(|range| range.contains_ipa(Ipa(at))) else {
            return disagree(at, Finding::Foreign);
        };
        at = given.ipa_end().0;
    }
    Ok(())
}

/// The finding for memory mapped at `at` that does not belong to the owner.
fn unexpected(at: u64, registers: &[PageRange]) -> Finding {
    if registers.iter().any(|range| range.contains_ipa(Ipa(at))) { Finding::WrongKind } else { Finding::Foreign }
}

fn disagree(ipa: u64, finding: Finding) -> Result<(), Disagreement> {
    Err(Disagreement { ipa: Ipa(ipa), finding })
}
