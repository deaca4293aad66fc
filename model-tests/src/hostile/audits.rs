//! Audits that are not repeated while nothing changed that they look at.
//!
//! The ownership audit looks at the map and at both stage 2 tables: all three are compared with what they were at the last
//! one. That of a driver looks at the words of its stream table: the pages that it read have stamps. What a driver remembers
//! beside them goes with stores to them, and every run ends with whole audits.

use hyp::mem_protect::{Devices, PageInfo, PageRange};
use io_pgtable::Ipa;

use super::Play;
use super::finding::Finding;
use crate::cpu::Cpu;
use crate::layout::{RAM, RAM_BYTES, TRANSLATER, TRANSLATER_BYTES};
use crate::machine::range;

/// What audits that found nothing looked at.
#[derive(Default)]
pub(super) struct Audited {
    ownership: Option<Owned>,
    /// For each SMMU, the pages of its stream table with their stamps; none before its first audit.
    tables: Vec<Vec<(u64, u64)>>,
}

/// What the ownership audit looks at.
#[derive(PartialEq, Eq)]
struct Owned {
    pages: Vec<PageInfo>,
    cpu: Cpu,
    /// Which content the IOMMU's table has.
    dma: u64,
}

impl Play {
    /// Compares the records of EL2 with each other.
    pub(super) fn audit(&mut self) -> Result<(), Finding> {
        if !self.ownership_is_as_audited() {
            self.audit_ownership()?;
        }
        self.audited.tables.resize(self.drivers.len(), Vec::new());
        for n in 0..self.drivers.len() {
            let known = &self.audited.tables[n];
            if !known.is_empty() && self.on.m.mem.unchanged_for_cpu(known) {
                continue;
            }
            let (found, read) = self.on.m.driver(n, |smmu, owner| smmu.platform().reads(|| smmu.audit(owner)));
            found.map_err(|finding| Finding::Audit(format!("SMMU {n}: {finding}")))?;
            self.audited.tables[n] = read;
        }
        Ok(())
    }

    fn ownership_is_as_audited(&mut self) -> bool {
        let Some(known) = self.audited.ownership.take() else { return false };
        let owner = self.on.m.owner();
        let same = owner.dma().content() == Some(known.dma)
            && *owner.cpu() == known.cpu
            && owner.map().pages(range(RAM, RAM_BYTES)) == Ok(&known.pages);
        self.audited.ownership = Some(known).filter(|_| same);
        same
    }

    fn audit_ownership(&mut self) -> Result<(), Finding> {
        let translater: Vec<PageRange> = PageRange::covering(Ipa(TRANSLATER), TRANSLATER_BYTES).into_iter().collect();
        let owner = self.on.m.owner();
        let devices = Devices { cpu: &[], dma: &translater };
        owner.audit(devices).map_err(|finding| Finding::Audit(format!("{finding:x?}")))?;
        let pages = owner.map().pages(range(RAM, RAM_BYTES)).map(<[PageInfo]>::to_vec).unwrap_or_default();
        self.audited.ownership = owner.dma().content().map(|dma| Owned { pages, cpu: owner.cpu().clone(), dma });
        Ok(())
    }
}
