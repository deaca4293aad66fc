//! Caches audit results while their input is unchanged.
//!
//! The ownership audit reads the map and both stage 2 tables. It is repeated if the map's number of transitions, or
//! one of the tables, differs from the last audit. A driver's audit reads its stream table; it is repeated if the
//! stamp of a page that it read has changed. Complete audits at the end of every run find changes that these
//! comparisons miss.

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
    ownership: Option<Rc<OwnershipInput>>,
    /// For each SMMU, the pages of its stream table with their stamps; empty before its first audit.
    tables: Vec<Vec<(u64, u64)>>,
}

/// Input of the ownership audit.
struct OwnershipInput {
    /// Number of transitions.
    transitions: Stats,
    cpu: Cpu,
    /// Stamp of the IOMMU stage 2.
    dma: u64,
}

impl Audited {
    /// Drops the cache: the next audits are complete.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Streams changed their owner: the next audits of stream tables are complete.
    pub(super) fn clear_tables(&mut self) {
        self.tables.clear();
    }

    /// Runs the audits that are not cached.
    pub(super) fn audit(&mut self, m: &mut Machine) -> Result<(), Finding> {
        if !self.ownership_is_unchanged(m) {
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

    fn ownership_is_unchanged(&mut self, m: &mut Machine) -> bool {
        let Some(known) = self.ownership.take() else { return false };
        let owner = m.owner();
        let same =
            owner.dma().content() == Some(known.dma) && *owner.cpu() == known.cpu && owner.stats() == known.transitions;
        self.ownership = Some(known).filter(|_| same);
        same
    }

    fn audit_ownership(&mut self, m: &mut Machine) -> Result<(), Finding> {
        let translater: Vec<PageRange> = PageRange::covering(Ipa(TRANSLATER), TRANSLATER_BYTES).into_iter().collect();
        let owner = m.owner();
        let devices = Devices { cpu: &[], dma: &translater };
        owner.audit(devices).map_err(|finding| Finding::Audit(format!("{finding:x?}")))?;
        let transitions = owner.stats();
        self.ownership =
            owner.dma().content().map(|dma| Rc::new(OwnershipInput { transitions, cpu: owner.cpu().clone(), dma }));
        Ok(())
    }
}
