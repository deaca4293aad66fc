//! The invariant, checked with the oracle: no stream can reach a byte of another owner in any behaviour that the
//! architecture allows.

use std::sync::Arc;

use io_pgtable::Ipa;
use mem_protect::{Owner as PageOwner, PageInfo, PageRange, Stats};
use smmu_model::{Basis, Mapped, Model, Reachable};

use super::Machine;
use super::domains::StreamUser;
use crate::layout;

/// A byte that a stream can reach, or that an SMMU may write by itself, in violation of the invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// SMMU.
    pub smmu: usize,
    /// Stream; `None` for the SMMU's own writes.
    pub sid: Option<u32>,
    /// First byte.
    pub pa: u64,
    /// How the byte is reached.
    pub how: String,
}

/// Results of earlier checks, valid while pages and streams have these owners.
#[derive(Default)]
pub(crate) struct Checked {
    /// Number of changes of owner of pages, and of streams and domains.
    owners: (Stats, u64),
    /// Tables that map only pages of this user of a stream.
    clean: Vec<(StreamUser, Arc<Mapped>)>,
    /// For each SMMU, the state that the oracle's last result depended on.
    basis: Vec<Option<Basis>>,
}

impl Checked {
    /// For a restored machine: every page has its first owner again.
    pub(crate) fn reset(&mut self) {
        if self.owners != Default::default() {
            *self = Self::default();
        }
        self.basis.clear();
    }
}

impl Machine {
    /// Checks the invariant for these streams of every SMMU.
    ///
    /// # Errors
    /// The first breach.
    pub fn isolated(&self, sids: &[u32]) -> Result<(), Breach> {
        self.drop_outdated();
        for (smmu, model) in self.models.iter().enumerate() {
            let model = model.borrow();
            let known = self.checked.borrow_mut().basis.get_mut(smmu).and_then(Option::take);
            let known = known.filter(|known| model.reach_no_more(sids, known));
            let basis = known.map_or_else(|| self.check(smmu, &model, sids).map(Some), |known| Ok(Some(known)))?;
            Self::check_own_writes(smmu, &model)?;
            if let Some(known) = self.checked.borrow_mut().basis.get_mut(smmu) {
                *known = basis;
            }
        }
        Ok(())
    }

    /// Drops all cached results: the next check is complete.
    pub(crate) fn clear_checked(&mut self) {
        *self.checked.get_mut() = Checked::default();
    }

    /// Drops cached results if pages have changed their owner since.
    fn drop_outdated(&self) {
        let Some(el2) = &self.el2 else { return };
        let owners = (el2.owner.stats(), self.domains.changes());
        let mut checked = self.checked.borrow_mut();
        if checked.owners != owners {
            *checked = Checked { owners, ..Checked::default() };
        }
        checked.basis.resize_with(self.models.len(), || None);
    }

    fn check(&self, smmu: usize, model: &Model, sids: &[u32]) -> Result<Basis, Breach> {
        let (reach, basis) = model.reach_each(sids);
        for (sid, reach) in sids.iter().zip(reach) {
            let users: Vec<_> = self.domains.users(smmu, *sid).into_iter().collect();
            for mapped in reach.now {
                let only = if let [user] = users[..] { Some(user) } else { None };
                if only.is_none_or(|user| !self.is_checked(user, &mapped)) {
                    mapped.ranges().try_for_each(|range| self.check_range(smmu, *sid, &users, range))?;
                    self.checked.borrow_mut().clean.extend(only.map(|user| (user, mapped)));
                }
            }
            reach.other.into_iter().try_for_each(|range| self.check_range(smmu, *sid, &users, range))?;
        }
        Ok(basis)
    }

    fn check_own_writes(smmu: usize, model: &Model) -> Result<(), Breach> {
        for own in model.originated_writes() {
            let inside = own.pa >= layout::POOL && own.pa + own.size <= layout::POOL + layout::POOL_BYTES;
            if !inside {
                return Err(Breach { smmu, sid: None, pa: own.pa, how: format!("{own:x?}") });
            }
        }
        Ok(())
    }

    fn check_range(&self, smmu: usize, sid: u32, users: &[StreamUser], range: Reachable) -> Result<(), Breach> {
        let breach = |pa| Breach { smmu, sid: Some(sid), pa, how: format!("{range:x?}") };
        let mut first = Some(range.pa);
        for user in users {
            first = self.first_not_of(*user, range.pa, range.size);
            if first.is_none() {
                break;
            }
        }
        first.map_or(Ok(()), |pa| Err(breach(pa)))
    }

    /// The first byte of the range that does not belong to `user`.
    pub(super) fn first_not_of(&self, user: StreamUser, pa: u64, size: u64) -> Option<u64> {
        match user {
            StreamUser::Host if self.is_hosts(pa, size) => None,
            StreamUser::Host => self.first_foreign(pa, size),
            StreamUser::Domain(id) => {
                let Some(el2) = &self.el2 else { return Some(pa) };
                let mut pages = pa >> 12..=pa.saturating_add(size.saturating_sub(1)) >> 12;
                let is_guests = |pfn: &u64| {
                    let guest = self.domains.guest_with_page(id, *pfn);
                    guest.is_some_and(|guest| el2.owner.map().owner(*pfn) == PageOwner::Guest(guest))
                };
                pages.find(|pfn| !is_guests(pfn)).map(|pfn| (pfn << 12).max(pa))
            }
        }
    }

    /// Whether the whole range is RAM of the host.
    fn is_hosts(&self, pa: u64, size: u64) -> bool {
        let Some(el2) = &self.el2 else { return false };
        let pages = PageRange::covering(Ipa(pa), size).and_then(|range| el2.owner.map().pages(range).ok());
        let hosts =
            |part: &[PageInfo]| PageInfo::are_plain(part) || part.iter().all(|page| page.owner() == PageOwner::Host);
        pages.is_some_and(|pages| pages.chunks(64).all(hosts))
    }

    /// Whether `mapped` was already checked for this user with the current owners.
    fn is_checked(&self, user: StreamUser, mapped: &Arc<Mapped>) -> bool {
        self.checked.borrow().clean.iter().any(|(of, known)| *of == user && Arc::ptr_eq(known, mapped))
    }

    /// The first byte of the range that is not the host's; the translater page is allowed.
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
