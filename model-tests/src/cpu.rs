//! The host's CPU stage 2, as a set of pages: the attacks here come from devices.

use std::collections::BTreeSet;

use hyp::mem_protect::{HostStage2, Leaf, LeafKind, PAGE_BYTES, PageRange, Stage2Error};
use io_pgtable::{Ipa, Pa};

/// Pages that the host's CPUs can reach.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    pages: BTreeSet<u64>,
}

impl Cpu {
    /// Everything in `range` is mapped.
    pub fn add(&mut self, range: PageRange) {
        self.pages.extend(range.pfns());
    }
}

impl HostStage2 for Cpu {
    fn unmap(&mut self, range: PageRange) -> Result<(), Stage2Error> {
        if range.pfns().any(|pfn| !self.pages.contains(&pfn)) {
            return Err(Stage2Error::Conflict);
        }
        for pfn in range.pfns() {
            self.pages.remove(&pfn);
        }
        Ok(())
    }

    fn map(&mut self, range: PageRange) -> Result<(), Stage2Error> {
        if range.pfns().any(|pfn| self.pages.contains(&pfn)) {
            return Err(Stage2Error::Conflict);
        }
        self.pages.extend(range.pfns());
        Ok(())
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        let pfn = *self.pages.range(from.0 / PAGE_BYTES..).next()?;
        let start = (pfn * PAGE_BYTES).max(from.0);
        let bytes = (pfn + 1) * PAGE_BYTES - start;
        Some(Leaf { ipa: Ipa(start), pa: Pa(start), bytes, kind: LeafKind::Normal })
    }
}
