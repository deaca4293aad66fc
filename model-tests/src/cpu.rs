//! A mock of the CPU stage 2, as a set of pages: only devices attack in these tests.

use std::collections::BTreeMap;

use io_pgtable::{Ipa, Pa};
use mem_protect::{HostStage2, Leaf, LeafKind, PAGE_BYTES, PageRange, TableError};

/// Pages that the host's CPUs can reach, as runs of page numbers: the first, and one past the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    runs: BTreeMap<u64, u64>,
}

impl Cpu {
    /// Maps all of `range`.
    pub fn add(&mut self, range: PageRange) {
        self.runs.insert(range.first(), range.end());
    }

    /// The run with page `pfn`.
    fn run(&self, pfn: u64) -> Option<(u64, u64)> {
        self.runs.range(..=pfn).next_back().map(|(first, end)| (*first, *end)).filter(|(_, end)| pfn < *end)
    }
}

impl HostStage2 for Cpu {
    fn unmap(&mut self, range: PageRange) -> Result<(), TableError> {
        let mut first = range.first();
        while first < range.end() {
            (_, first) = self.run(first).ok_or(TableError::Unmappable)?;
        }
        while let Some((first, end)) = self
            .runs
            .range(..range.end())
            .next_back()
            .map(|(first, end)| (*first, *end))
            .filter(|run| run.1 > range.first())
        {
            self.runs.remove(&first);
            if end > range.end() {
                self.runs.insert(range.end(), end);
            }
            if first < range.first() {
                self.runs.insert(first, range.first());
            }
        }
        Ok(())
    }

    fn map(&mut self, range: PageRange) -> Result<(), TableError> {
        let before = self.runs.range(..range.end()).next_back();
        if before.is_some_and(|(_, end)| *end > range.first()) {
            return Err(TableError::Unmappable);
        }
        self.add(range);
        Ok(())
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        let pfn = from.0 / PAGE_BYTES;
        let (first, end) =
            self.run(pfn).or_else(|| self.runs.range(pfn..).next().map(|(first, end)| (*first, *end)))?;
        let start = (first * PAGE_BYTES).max(from.0);
        Some(Leaf { ipa: Ipa(start), pa: Pa(start), bytes: end * PAGE_BYTES - start, kind: LeafKind::Normal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, count: u64) -> PageRange {
        PageRange::new(first, count).unwrap_or_else(|| panic!("a range"))
    }

    #[test]
    fn a_range_is_unmapped_and_mapped_again() {
        let mut cpu = Cpu::default();
        cpu.add(range(10, 10));
        assert_eq!(cpu.unmap(range(12, 3)), Ok(()));
        assert_eq!(cpu.unmap(range(14, 2)), Err(TableError::Unmappable));
        let leaf = |pfn: u64| cpu.next_leaf(Ipa(pfn * PAGE_BYTES)).map(|leaf| (leaf.ipa.0 >> 12, leaf.bytes >> 12));
        assert_eq!(
            (leaf(0), leaf(11), leaf(12), leaf(19), leaf(20)),
            (Some((10, 2)), Some((11, 1)), Some((15, 5)), Some((19, 1)), None)
        );
        assert_eq!(cpu.map(range(11, 2)), Err(TableError::Unmappable));
        assert_eq!(cpu.map(range(12, 3)), Ok(()));
        assert_eq!(cpu.unmap(range(10, 10)), Ok(()));
        assert!(cpu.next_leaf(Ipa(0)).is_none());
    }
}
