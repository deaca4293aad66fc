//! The invariant, checked with the oracle: no stream reaches a byte that is not its owner's, by any legal choice.

use std::sync::Arc;

use hyp::mem_protect::{Owner as PageOwner, PageRange};
use io_pgtable::Ipa;
use smmu_model::{Mapped, Model, Reachable};

use crate::layout;
use crate::machine::Machine;

/// A byte that a stream can reach and must not, or memory that an SMMU may write by itself and must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which SMMU.
    pub smmu: usize,
    /// Which stream; `None` for the SMMU's own writes.
    pub sid: Option<u32>,
    /// First byte.
    pub pa: u64,
    /// How.
    pub how: String,
}

impl Machine {
    /// Checks the invariant for these streams of every SMMU.
    ///
    /// # Errors
    /// The first breach.
    pub fn isolated(&self, sids: &[u32]) -> Result<(), Breach> {
        for (smmu, model) in self.models.iter().enumerate() {
            self.check(smmu, &model.borrow(), sids)?;
        }
        Ok(())
    }

    fn check(&self, smmu: usize, model: &Model, sids: &[u32]) -> Result<(), Breach> {
        let mut judged: Vec<Arc<Mapped>> = Vec::new();
        for (sid, reach) in sids.iter().zip(model.reach_each(sids)) {
            for mapped in reach.now {
                if judged.iter().all(|known| !Arc::ptr_eq(known, &mapped)) {
                    mapped.ranges().try_for_each(|range| self.check_range(smmu, *sid, range))?;
                    judged.push(mapped);
                }
            }
            reach.other.into_iter().try_for_each(|range| self.check_range(smmu, *sid, range))?;
        }
        for own in model.originated_writes() {
            let inside = own.pa >= layout::POOL && own.pa + own.size <= layout::POOL + layout::POOL_BYTES;
            if !inside {
                return Err(Breach { smmu, sid: None, pa: own.pa, how: format!("{own:x?}") });
            }
        }
        Ok(())
    }

    fn check_range(&self, smmu: usize, sid: u32, range: Reachable) -> Result<(), Breach> {
        if self.is_hosts(range.pa, range.size) {
            return Ok(());
        }
        let bad = self.first_foreign(range.pa, range.size);
        bad.map_or(Ok(()), |pa| Err(Breach { smmu, sid: Some(sid), pa, how: format!("{range:x?}") }))
    }

    /// Whether all of the range is RAM of the host.
    fn is_hosts(&self, pa: u64, size: u64) -> bool {
        let Some(el2) = &self.el2 else { return false };
        let pages = PageRange::covering(Ipa(pa), size).and_then(|range| el2.owner.map().pages(range).ok());
        pages.is_some_and(|pages| pages.iter().all(|page| page.owner() == PageOwner::Host))
    }

    /// The first byte of the range that is not the host's, the translater page apart.
    fn first_foreign(&self, pa: u64, size: u64) -> Option<u64> {
        let translater = layout::TRANSLATER..layout::TRANSLATER + layout::TRANSLATER_BYTES;
        if size > layout::RAM_BYTES {
            return Some(layout::SECRET);
        }
        (pa..pa + size).step_by(4096).find(|page| match &self.el2 {
            Some(el2) => !translater.contains(page) && el2.owner.map().owner(page / 4096) != PageOwner::Host,
            None => self.foreign.contains(&(page & !0xfff)),
        })
    }
}
