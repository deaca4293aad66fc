//! Revoke and grant: the order of steps used by all transitions.
//!
//! Revoke: CPU stage 2 and TLBs, then IOMMU stage 2 and every SMMU, for which [`DmaStage2::revoke`] waits. Grant: also
//! the CPU first, since rolling back the CPU side cannot fail, while rolling back the IOMMU side needs an SMMU
//! invalidation.

use crate::error::Error;
use crate::ownership::Ownership;
use crate::page::{HypUse, Owner, PageInfo, PageState};
use crate::range::{PageRange, UncheckedRange};
use crate::traits::{DmaStage2, HostStage2, PageOps, TableError};

/// How to handle a stage-2 fault of the host on RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer {
    /// The host owns the page and it is mapped: retry the access.
    Retry,
    /// The page is not the host's, not RAM, or cannot be mapped for lack of memory: inject an external abort.
    Deny,
}

/// The new owner of pages of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// EL2's pool.
    Pool,
    /// The guest with this handle, which is the caller's number.
    Guest(u64),
}

/// Why a grant failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantFailure {
    /// Rolled back: neither CPUs nor devices of the host reach any page of the range.
    RolledBack(Error),
    /// The CPU mapping could not be rolled back, so the host still owns the pages.
    HostKeeps,
}

impl From<TableError> for Error {
    fn from(error: TableError) -> Self {
        match error {
            TableError::NoMemory => Self::NoMemory,
            TableError::NotCompleted => Self::NotCompleted,
            // The table and the ownership map disagree.
            TableError::NotMapped(_) | TableError::Overlap(_) | TableError::Unmappable => Self::Inconsistent,
        }
    }
}

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    /// Donates pages of the host to EL2's pool, or to a guest with their contents. When it returns `Ok`, no CPU and no
    /// stream of the host reaches them, and no earlier access is still in progress.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::NoSuchGuest`], [`Error::GuestDying`], [`Error::WrongState`],
    /// [`Error::Claimed`], [`Error::NoMemory`], [`Error::NotCompleted`], [`Error::Inconsistent`]; the pages stay the
    /// host's. After a rollback that fails they may be unmapped for its CPUs: see
    /// [`Stats::unmapped`](crate::Stats::unmapped).
    pub(crate) fn host_donate(&mut self, range: UncheckedRange, to: Recipient) -> Result<(), Error> {
        let range = range.check(self.max_pages)?;
        let guest = match to {
            Recipient::Pool => None,
            Recipient::Guest(handle) => Some(self.guests.alive(handle)?),
        };
        self.check_state(range, Owner::Host, PageState::Owned)?;
        self.check_unclaimed(range)?;
        // This step can fail, but its rollback cannot. It comes first, so that no step after the revocation can fail.
        self.memory.pages.map(range).map_err(|_| Error::NoMemory)?;
        let revoked = self.cpu.unmap(range).map_err(Error::from).and_then(|()| {
            self.dma.revoke(range).map_err(|error| {
                if self.cpu.map(range).is_err() {
                    self.stats.unmapped = self.stats.unmapped.saturating_add(range.count());
                }
                // Coalesces: otherwise the tables of the split would remain, possibly in donated pages whose return
                // the host may request.
                self.cpu.coalesce(range);
                Error::from(error)
            })
        });
        if let Err(error) = revoked {
            self.stats.rolled_back = self.stats.rolled_back.saturating_add(1);
            self.memory.pages.unmap(range);
            return Err(error);
        }
        self.stats.revoked = self.stats.revoked.saturating_add(range.count());
        // The host may have written with non-cacheable stores, or left dirty lines, which would overwrite EL2's data
        // later. A guest starts with its MMU off and would not read dirty lines.
        self.memory.pages.clean_invalidate(range);
        // The guest's devices get access after the host has lost it.
        if let Some(id) = guest
            && let Err(error) = self.dma.grant_guest(id, range)
        {
            return Err(self.host_keeps(range, error));
        }
        match guest {
            None => {
                self.memory.set(range, |_| PageInfo::hyp(HypUse::Donated));
                self.memory.pages.add_to_pool(range);
            }
            Some(id) => {
                self.memory.set(range, |_| PageInfo::owned_by(Owner::Guest(id)));
                self.count(id, |guest| guest.owned = guest.owned.saturating_add(range.count()));
                self.memory.pages.unmap(range);
            }
        }
        Ok(())
    }

    /// There is no memory to map the revoked pages for a guest's devices: the host keeps the pages.
    fn host_keeps(&mut self, range: PageRange, error: TableError) -> Error {
        self.memory.pages.unmap(range);
        self.stats.rolled_back = self.stats.rolled_back.saturating_add(1);
        let granted = self.dma.grant(range);
        if self.cpu.map(range).is_err() {
            self.stats.unmapped = self.stats.unmapped.saturating_add(range.count());
        }
        self.coalesce(range);
        match granted {
            Ok(()) => error.into(),
            Err(_) => Error::Inconsistent,
        }
    }

    /// Maps `range`, which contains no data of its old owner, for the host's CPUs and streams.
    pub(crate) fn grant_host(&mut self, range: PageRange) -> Result<(), GrantFailure> {
        let failure = match self.cpu.map(range) {
            Err(error) => GrantFailure::RolledBack(error.into()),
            Ok(()) => match self.dma.grant(range) {
                Ok(()) => {
                    self.stats.granted = self.stats.granted.saturating_add(range.count());
                    return Ok(());
                }
                Err(_) if self.cpu.unmap(range).is_err() => GrantFailure::HostKeeps,
                Err(error) => GrantFailure::RolledBack(error.into()),
            },
        };
        self.stats.rolled_back = self.stats.rolled_back.saturating_add(1);
        Err(failure)
    }

    /// Coalesces the blocks around `range`, after the grant.
    pub(crate) fn coalesce(&mut self, range: PageRange) {
        self.cpu.coalesce(range);
        self.dma.coalesce(range);
    }

    /// Handles a stage-2 fault of the host on page `pfn`: maps the page if a rollback left it unmapped.
    ///
    /// A fault on a mapped page is not an error: another CPU was replacing the block that contains it.
    pub fn host_fault(&mut self, pfn: u64) -> FaultAnswer {
        if self.memory.map.owner(pfn) != Owner::Host {
            return FaultAnswer::Deny;
        }
        let Some(page) = PageRange::page(pfn) else { return FaultAnswer::Deny };
        let mapped = self.cpu.next_leaf(page.ipa()).is_some_and(|leaf| leaf.ipa == page.ipa());
        if mapped || self.cpu.map(page).is_ok() { FaultAnswer::Retry } else { FaultAnswer::Deny }
    }
}
