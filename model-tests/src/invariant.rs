//! The invariant, checked with the oracle: no stream reaches a byte that is not its owner's, by any legal choice.

use std::sync::Arc;

use hyp::mem_protect::{Owner as PageOwner, PageInfo, PageRange};
use io_pgtable::Ipa;
use smmu_model::{Mapped, Model, Reachable};

use crate::layout::{self, RAM, RAM_BYTES};
use crate::machine::{Machine, range};

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

/// Whether pages have the same owners, page by page; claims on them may differ.
pub(crate) fn same_owners(a: &[PageInfo], b: &[PageInfo]) -> bool {
    // Most are the same in all.
    let alike = |a: &[PageInfo], b: &[PageInfo]| a == b || a.iter().zip(b).all(|(a, b)| a.owner() == b.owner());
    a.len() == b.len() && a.chunks(512).zip(b.chunks(512)).all(|(a, b)| alike(a, b))
}

/// Tables whose mappings are all the host's, as long as pages have these owners.
#[derive(Default)]
pub(crate) struct Judged {
    pages: Vec<PageInfo>,
    fine: Vec<Arc<Mapped>>,
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
        for (sid, reach) in sids.iter().zip(model.reach_each(sids)) {
            for mapped in reach.now {
                if !self.is_judged(&mapped) {
                    mapped.ranges().try_for_each(|range| self.check_range(smmu, *sid, range))?;
                    self.judged.borrow_mut().fine.push(mapped);
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

    /// Whether all that `mapped` maps was found to be the host's, while every page had the owner that it has now.
    fn is_judged(&self, mapped: &Arc<Mapped>) -> bool {
        let mut judged = self.judged.borrow_mut();
        let pages = self.el2.as_ref().and_then(|el2| el2.owner.map().pages(range(RAM, RAM_BYTES)).ok());
        let Some(pages) = pages else { return false };
        if !same_owners(&judged.pages, pages) {
            judged.pages.clear();
            judged.pages.extend_from_slice(pages);
            judged.fine.clear();
        }
        judged.fine.iter().any(|known| Arc::ptr_eq(known, mapped))
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
