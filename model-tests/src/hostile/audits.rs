//! Caches audit results while their input is unchanged.
//!
//! The ownership audit looks at the map and at both stage 2 tables: the tables are compared with what they were at the last
//! one, of the map its own count of changes. That of a driver looks at the words of its stream table: the pages that it read
//! have stamps. What neither shows is found by whole audits at the end of every run.

use std::rc::Rc;

use io_pgtable::Ipa;
use mem_protect::{Devices, PageRange, Stats};

use super::finding::Finding;
use crate::cpu::Cpu;
use crate::layout::{TRANSLATER, TRANSLATER_BYTES};
use crate::machine::Machine;

/// Input of the last audits without a finding.
#[derive(Clone, Default)]
pub(super) struct Audited {
    ownership: Option<Rc<Owned>>,
    /// For each SMMU, the pages of its stream table with their stamps; none before its first audit.
    tables: Vec<Vec<(u64, u64)>>,
}

/// What the ownership audit looks at.
struct Owned {
    /// How often pages changed their owner.
    owners: Stats,
    cpu: Cpu,
    /// Which content the IOMMU's table has.
    dma: u64,
}

impl Audited {
    /// Everything is audited anew.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Runs the audits that are not cached.
    pub(super) fn audit(&mut self, m: &mut Machine) -> Result<(), Finding> {
        if !self.ownership_is_as_audited(m) {
            self.audit_ownership(m)?;
        }
        self.tables.resize(m.models.len(), Vec::new());
        for (n, known) in self.tables.iter_mut().enumerate() {
            if !known.is_empty() && m.mem.unchanged_for_cpu(known) {
                continue;
            }
            let (found, read) = m.driver(n, |smmu, owner| smmu.platform().reads(|| smmu.audit(owner)));
            found.map_err(|finding| Finding::Audit(format!("SMMU {n}: {finding}")))?;
            *known = read;
        }
        Ok(())
    }

    fn ownership_is_as_audited(&mut self, m: &mut Machine) -> bool {
        let Some(known) = self.ownership.take() else { return false };
        let owner = m.owner();
        let same =
            owner.dma().content() == Some(known.dma) && *owner.cpu() == known.cpu && owner.stats() == known.owners;
        self.ownership = Some(known).filter(|_| same);
        same
    }

    fn audit_ownership(&mut self, m: &mut Machine) -> Result<(), Finding> {
        let translater: Vec<PageRange> = PageRange::covering(Ipa(TRANSLATER), TRANSLATER_BYTES).into_iter().collect();
        let owner = m.owner();
        let devices = Devices { cpu: &[], dma: &translater };
        owner.audit(devices).map_err(|finding| Finding::Audit(format!("{finding:x?}")))?;
        let owners = owner.stats();
        self.ownership = owner.dma().content().map(|dma| Rc::new(Owned { owners, cpu: owner.cpu().clone(), dma }));
        Ok(())
    }
}
