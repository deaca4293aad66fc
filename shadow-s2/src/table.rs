//! The table and its operations: snapshot, revoke, grant, coalesce, and recovery after an SMMU timeout.

use io_pgtable::{
    Attrs, Bbm, Cfg, CfgError, IoPgtable, Iova, Ipa, Leaf, MapError, NoTlb, Prot, S2, S2Cfg, TableMemory, UnmapError,
};

use crate::error::{SnapshotError, TableError};
use crate::plan::{Collector, Invalidate, InvalidateError, Plan};
use crate::range::PageRange;

/// Leaf size if an SMMU cannot replace blocks while they are in use.
const PAGES_ONLY: u64 = 1 << 12;
/// Access permissions of devices to memory of the host. Devices need no execute permission.
const MEMORY: Attrs = Attrs::normal(Prot::RW);
/// Access permissions of devices to the registers that they may write.
const REGISTERS: Attrs = Attrs::device(Prot::RW);

/// Counters since the table was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes revoked from the streams.
    pub revoked: u64,
    /// Bytes granted to the streams, without the snapshot.
    pub granted: u64,
    /// Number of issued plans: one per revocation.
    pub plans: u64,
    /// Plans that some SMMU did not complete.
    pub failed_plans: u64,
    /// Bytes in blocks made by coalescing.
    pub coalesced: u64,
}

/// The IOMMU stage 2 of all streams of one owner: an identity map of the owner's pages.
#[derive(Debug)]
pub struct ShadowS2<M: TableMemory> {
    pub(crate) table: IoPgtable<S2, M>,
    /// End of the addresses that devices can reach: the smaller of input and output size.
    limit: u64,
    /// An invalidation failed, and no invalidation of everything has completed since.
    invalidation_pending: bool,
    /// Pages that the rollback of a failed revocation could not map again, because memory ran out.
    unmapped_by_rollback: Option<PageRange>,
    stats: Stats,
}

impl<M: TableMemory> ShadowS2<M> {
    /// An empty table: every access of a stream faults.
    ///
    /// `cfg.oas` is the smallest output size and `cfg.bbm` the lowest `BBML` of all SMMUs. Below level 2 only 4 KiB
    /// leaves are used, independent of `cfg.page_sizes`: any other way to split a block would fault DMA to adjacent
    /// pages.
    ///
    /// # Errors
    /// [`CfgError`]; nothing is allocated then.
    pub fn new(cfg: Cfg, memory: M) -> Result<Self, CfgError> {
        let page_sizes = match cfg.bbm {
            Bbm::Level0 | Bbm::Level1 => PAGES_ONLY,
            Bbm::Level2 => cfg.page_sizes,
        };
        let cfg = Cfg { page_sizes, ..cfg };
        let table = IoPgtable::new(&cfg, memory)?;
        let limit = 1_u64.wrapping_shl(cfg.ias.min(cfg.oas));
        Ok(Self { table, limit, invalidation_pending: false, unmapped_by_rollback: None, stats: Stats::default() })
    }

    /// The stage-2 fields of every STE of the owner.
    #[must_use]
    pub fn config(&self) -> S2Cfg {
        self.table.config()
    }

    /// The table, read-only.
    #[must_use]
    pub fn table(&self) -> &IoPgtable<S2, M> {
        &self.table
    }

    /// End of the addresses that devices can reach. Memory above it is never mapped, and revoking it succeeds without a
    /// change.
    #[must_use]
    pub fn limit(&self) -> Ipa {
        Ipa(self.limit)
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes in tables that are never freed, because an SMMU did not complete their invalidation.
    #[must_use]
    pub fn quarantined(&self) -> usize {
        self.table.quarantined()
    }

    /// Whether an invalidation of everything is pending after one that did not complete.
    #[must_use]
    pub fn invalidation_pending(&self) -> bool {
        self.invalidation_pending
    }

    /// The leaf that maps `ipa` for devices; `None` if there is none.
    #[must_use]
    pub fn leaf(&self, ipa: Ipa) -> Option<Leaf> {
        self.table.lookup(ipa.into())
    }

    /// The first leaf that ends after `from`, from its own start even if that is before `from`; `None` if there is
    /// none.
    #[must_use]
    pub fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        self.table.leaves(from.into(), self.limit.checked_sub(from.0)?).next()
    }

    /// Maps all memory and registers of the owner, before any SMMU uses the table: its memory, and the registers that
    /// its devices write, such as GITS_TRANSLATER. Memory above the limit is omitted; registers above the limit are an
    /// error.
    ///
    /// # Errors
    /// [`SnapshotError`]; the table must not be used then.
    pub fn snapshot(
        &mut self,
        memory: impl IntoIterator<Item = PageRange>,
        registers: impl IntoIterator<Item = PageRange>,
    ) -> Result<(), SnapshotError> {
        let limit = self.limit;
        for range in memory.into_iter().filter_map(|range| range.below(limit)) {
            self.map(range, MEMORY).map_err(|error| failed_at(range, error))?;
        }
        for range in registers {
            self.map(range, REGISTERS).map_err(|error| failed_at(range, error))?;
        }
        Ok(())
    }

    /// Unmaps `range` for every stream. When it returns `Ok`, no SMMU has a translation of it and none is in use.
    ///
    /// # Errors
    /// [`TableError`]: the pages must stay with their owner. After [`TableError::NotCompleted`] they are mapped
    /// again, immediately or, if memory ran out, by the next successful [`ShadowS2::retry_invalidation`], which
    /// `revoke` and `coalesce` call first.
    pub fn revoke(&mut self, range: PageRange, smmus: &mut impl Invalidate) -> Result<(), TableError> {
        self.retry_invalidation(smmus)?;
        let Some(range) = range.below(self.limit) else { return Ok(()) };
        let mut collector = Collector::new(smmus);
        let result = self.table.unmap(iova(range), range.bytes(), &mut collector);
        self.stats.plans = self.stats.plans.saturating_add(collector.issued);
        match result {
            Ok(()) => {
                self.stats.revoked = self.stats.revoked.saturating_add(range.bytes());
                Ok(())
            }
            Err(error) => {
                if let UnmapError::Tlb(_) = error {
                    self.mark_pending();
                    self.map_again(range);
                }
                Err(error.into())
            }
        }
    }

    /// Unmaps the pages of `range` that are mapped, one run at a time; the caller ensures that nobody uses the unmapped
    /// ones. When it returns `Ok`, no SMMU has a translation of any page of the range, including pages that a failed
    /// revocation left unmapped.
    ///
    /// # Errors
    /// As [`ShadowS2::revoke`]; runs before the one that failed stay unmapped.
    pub fn revoke_mapped(&mut self, range: PageRange, smmus: &mut impl Invalidate) -> Result<(), TableError> {
        // The loop below does not find pages that a failed revocation left unmapped.
        self.retry_invalidation(smmus)?;
        let mut run: Option<PageRange> = None;
        let mut from = range.ipa();
        while let Some(leaf) = self.next_leaf(from).filter(|leaf| leaf.iova.0 < range.ipa_end().0) {
            let start = Ipa(leaf.iova.0.max(from.0));
            let end = Ipa(leaf.iova.0.saturating_add(leaf.size).min(range.ipa_end().0));
            let joined = run.filter(|run| run.ipa_end() == start).and_then(|run| PageRange::between(run.ipa(), end));
            if joined.is_none()
                && let Some(before) = run
            {
                self.revoke(before, smmus)?;
            }
            run = joined.or_else(|| PageRange::between(start, end));
            if end <= from || end == range.ipa_end() {
                break;
            }
            from = end;
        }
        run.map_or(Ok(()), |run| self.revoke(run, smmus))
    }

    /// Maps `range` for every stream. No invalidation is needed, since SMMUs cache no faults.
    ///
    /// # Errors
    /// [`TableError`]; no page of the range has become mapped.
    pub fn grant(&mut self, range: PageRange) -> Result<(), TableError> {
        let Some(range) = range.below(self.limit) else { return Ok(()) };
        self.map(range, MEMORY)?;
        self.stats.granted = self.stats.granted.saturating_add(range.bytes());
        Ok(())
    }

    /// Replaces full tables in `range` by blocks, and returns how many bytes the new blocks cover. Optional, after a
    /// grant: no revocation depends on it. Below BBML 2 it does nothing.
    ///
    /// # Errors
    /// As [`ShadowS2::retry_invalidation`], or [`TableError::NotCompleted`] when an SMMU did not complete the
    /// invalidation of the replaced tables. Every page is mapped as before in either case.
    pub fn coalesce(&mut self, range: PageRange, smmus: &mut impl Invalidate) -> Result<u64, TableError> {
        self.retry_invalidation(smmus)?;
        let Some(range) = range.below(self.limit) else { return Ok(0) };
        let mut collector = Collector::new(smmus);
        let merged = self.table.coalesce_range(iova(range), range.bytes(), &mut collector);
        self.stats.plans = self.stats.plans.saturating_add(collector.issued);
        let Ok(bytes) = merged else {
            self.mark_pending();
            return Err(TableError::NotCompleted);
        };
        self.stats.coalesced = self.stats.coalesced.saturating_add(bytes);
        Ok(bytes)
    }

    /// Retries a pending invalidation: invalidates everything, and maps again the pages that were left unmapped. Does
    /// nothing if none is pending.
    ///
    /// # Errors
    /// [`TableError::NotCompleted`] or [`TableError::NoMemory`]; revocations fail with the same error.
    pub fn retry_invalidation(&mut self, smmus: &mut impl Invalidate) -> Result<(), TableError> {
        if self.invalidation_pending {
            self.stats.plans = self.stats.plans.saturating_add(1);
            if let Err(InvalidateError) = smmus.invalidate(&Plan::everything()) {
                self.stats.failed_plans = self.stats.failed_plans.saturating_add(1);
                return Err(TableError::NotCompleted);
            }
            self.invalidation_pending = false;
        }
        match self.unmapped_by_rollback.take() {
            None => Ok(()),
            Some(range) => {
                self.map_again(range);
                if self.unmapped_by_rollback.is_some() { Err(TableError::NoMemory) } else { Ok(()) }
            }
        }
    }

    /// Maps `range` again after a failed revocation, or records it for [`ShadowS2::retry_invalidation`].
    fn map_again(&mut self, range: PageRange) {
        if self.map(range, MEMORY).is_err() {
            self.unmapped_by_rollback = Some(range);
        }
    }

    /// An SMMU did not complete an invalidation: revocations fail until an invalidation of everything has completed.
    fn mark_pending(&mut self) {
        self.invalidation_pending = true;
        self.stats.failed_plans = self.stats.failed_plans.saturating_add(1);
    }

    /// Frees the table.
    ///
    /// The caller ensures that no SMMU walks it or caches an entry of it: its VMID was retired on each.
    pub fn destroy(self) {
        // `NoTlb` completes every invalidation.
        let _ = self.table.destroy(&mut NoTlb);
    }

    fn map(&mut self, range: PageRange, attrs: Attrs) -> Result<(), MapError> {
        self.table.map(iova(range), range.pa(), range.bytes(), attrs)
    }
}

fn iova(range: PageRange) -> Iova {
    range.ipa().into()
}

fn failed_at(range: PageRange, error: MapError) -> SnapshotError {
    match error {
        MapError::NoMemory => SnapshotError::NoMemory,
        MapError::Overlap { iova, .. } => SnapshotError::Overlap(Ipa(iova.0)),
        MapError::Misaligned | MapError::OutOfRange | MapError::BadProt => SnapshotError::Unmappable(range.ipa()),
    }
}
