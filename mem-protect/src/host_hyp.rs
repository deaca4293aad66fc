//! Transitions between the host and EL2: share, unshare, return. [`Ownership::host_donate`] donates pages to EL2.

use crate::error::Error;
use crate::host::GrantFailure;
use crate::ownership::Ownership;
use crate::page::{HypUse, Owner, PageInfo, PageState};
use crate::range::{PageRange, UncheckedRange};
use crate::traits::{DmaStage2, HostStage2, PageOps};

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    /// Shares pages of the host with EL2: host OWNED becomes SHARED_OWNED. The host and its devices keep their
    /// access.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::WrongState`], [`Error::Claimed`]; nothing changed.
    pub(crate) fn host_share_hyp(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let range = range.check(self.max_pages)?;
        self.check_state(range, Owner::Host, PageState::Owned)?;
        self.check_unclaimed(range)?;
        self.memory.set(range, |page| page.shared_with(Owner::Hyp));
        Ok(())
    }

    /// Unshares pages shared with EL2: host SHARED_OWNED becomes OWNED.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::WrongState`], [`Error::Claimed`]; nothing changed.
    pub(crate) fn host_unshare_hyp(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let range = range.check(self.max_pages)?;
        self.check_state(range, Owner::Host, PageState::SharedOwned)?;
        self.check_state(range, Owner::Hyp, PageState::SharedBorrowed)?;
        self.check_unclaimed(range)?;
        self.memory.set(range, PageInfo::unshared);
        Ok(())
    }

    /// Returns donated pages that the pool does not use to the host, zeroed.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::WrongState`] (never donated), [`Error::InUse`],
    /// [`Error::NoMemory`], [`Error::NotCompleted`]: the pages are in EL2's pool as before, but may be zeroed.
    /// [`Error::Inconsistent`]: the same, or the host owns the pages.
    pub(crate) fn hyp_donate_host(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let range = range.check(self.max_pages)?;
        self.check_state(range, Owner::Hyp, PageState::Owned)?;
        self.check_donated(range)?;
        self.memory.pages.remove_from_pool(range).map_err(|_| Error::InUse)?;
        self.memory.pages.zero(range);
        let answer = match self.grant_host(range) {
            Ok(()) => Ok(()),
            Err(GrantFailure::RolledBack(error)) => {
                self.memory.pages.add_to_pool(range);
                return Err(error);
            }
            Err(GrantFailure::HostKeeps) => Err(Error::Inconsistent),
        };
        self.memory.set(range, |_| PageInfo::owned_by(Owner::Host));
        self.memory.pages.unmap(range);
        self.coalesce(range);
        answer
    }

    /// Checks that the host once donated every page of `range`: EL2's boot memory is never returned.
    fn check_donated(&self, range: PageRange) -> Result<(), Error> {
        let donated = |page: &PageInfo| page.hyp_use() == Some(HypUse::Donated);
        if self.memory.map.pages(range)?.iter().all(donated) { Ok(()) } else { Err(Error::WrongState) }
    }
}
