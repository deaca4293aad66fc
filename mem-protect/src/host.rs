//! Taking pages from the host and giving them back: the one order of steps that all transitions use.
//!
//! Taking: CPU stage 2 and TLBs, then IOMMU stage 2 and every SMMU. Giving: the reverse of neither, but CPU first
//! again, since undoing the CPU side cannot fail while undoing the IOMMU side needs the SMMUs to answer.

use crate::error::Error;
use crate::ownership::Ownership;
use crate::page::Owner;
use crate::range::PageRange;
use crate::traits::{DmaError, DmaStage2, HostStage2, PageOps, Stage2Error};

/// What to do about a stage-2 fault of the host on RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer {
    /// The page is the host's and is mapped: let it execute the access again.
    Retry,
    /// The page is not the host's, or is not RAM, or there is no memory to map it: an external abort is the answer.
    Deny,
}

/// How giving pages to the host failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantFailure {
    /// The host reaches nothing of it, neither by CPU nor by DMA.
    Undone(Error),
    /// The CPU mapping could not be undone, so the host has the pages.
    Kept,
}

impl From<Stage2Error> for Error {
    fn from(error: Stage2Error) -> Self {
        match error {
            Stage2Error::NoMemory => Self::NoMemory,
            Stage2Error::Conflict => Self::Inconsistent,
        }
    }
}

impl From<DmaError> for Error {
    fn from(error: DmaError) -> Self {
        match error {
            DmaError::NoMemory => Self::NoMemory,
            DmaError::NotCompleted => Self::Dma,
            DmaError::Conflict => Self::Inconsistent,
        }
    }
}

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    /// Takes `range` from the host's CPUs and streams. On success neither can reach it and nothing in flight will.
    ///
    /// On an error the host has it as before; see [`Stats::unmapped`](crate::Stats::unmapped) for the one exception, which costs the host a
    /// fault.
    pub(crate) fn revoke_host(&mut self, range: PageRange) -> Result<(), Error> {
        self.cpu.unmap(range).inspect_err(|_| self.stats.rolled_back = self.stats.rolled_back.saturating_add(1))?;
        if let Err(error) = self.dma.revoke(range) {
            self.stats.rolled_back = self.stats.rolled_back.saturating_add(1);
            if self.cpu.map(range).is_err() {
                self.stats.unmapped = self.stats.unmapped.saturating_add(range.count());
            }
            // The tables of a block that was split in vain would be kept, and may lie in pages that the host wants
            // back.
            self.cpu.coalesce(range);
            return Err(error.into());
        }
        self.stats.revoked = self.stats.revoked.saturating_add(range.count());
        Ok(())
    }

    /// Gives `range`, which holds nothing secret any more, to the host's CPUs and streams.
    pub(crate) fn grant_host(&mut self, range: PageRange) -> Result<(), GrantFailure> {
        let failure = match self.cpu.map(range) {
            Err(error) => GrantFailure::Undone(error.into()),
            Ok(()) => match self.dma.grant(range) {
                Ok(()) => {
                    self.stats.granted = self.stats.granted.saturating_add(range.count());
                    return Ok(());
                }
                Err(_) if self.cpu.unmap(range).is_err() => GrantFailure::Kept,
                Err(error) => GrantFailure::Undone(error.into()),
            },
        };
        self.stats.rolled_back = self.stats.rolled_back.saturating_add(1);
        Err(failure)
    }

    /// Puts the blocks around `range` together again, after it was granted and written down.
    pub(crate) fn tidy(&mut self, range: PageRange) {
        self.cpu.coalesce(range);
        self.dma.coalesce(range);
    }

    /// Decides about a stage-2 fault of the host on page `pfn`, and repairs what a rollback had to leave unmapped.
    ///
    /// A fault on a mapped page is no error either: another CPU was replacing the block around it.
    pub fn host_fault(&mut self, pfn: u64) -> FaultAnswer {
        if self.memory.map.owner(pfn) != Owner::Host {
            return FaultAnswer::Deny;
        }
        let Some(page) = PageRange::page(pfn) else { return FaultAnswer::Deny };
        let mapped = self.cpu.next_leaf(page.ipa()).is_some_and(|leaf| leaf.ipa == page.ipa());
        if mapped || self.cpu.map(page).is_ok() { FaultAnswer::Retry } else { FaultAnswer::Deny }
    }
}
