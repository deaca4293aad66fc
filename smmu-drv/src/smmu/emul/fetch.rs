//! The host's stream table entries, fetched once and checked.

use super::VirtualSmmu;
use super::policy::Verdict;
use super::strtab::{HostStrtab, Located, Walk, in_page};
use crate::platform::HostMemory;
use crate::smmu::budget::{self, Budget, Unfinished};
use crate::smmu::ste::{Group, Judged};
use crate::smmu::stream::{GROUP, GROUP_U32};
use crate::spec::ste::STE_SIZE;
use crate::stats::bump;

/// An entry of the host's table, checked for the conversion of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostEntry {
    /// No entry.
    OutOfRange,
    /// The entry, or its level-1 descriptor, is at this address, which is not host-owned memory.
    Unreadable(u64),
    /// Invalid or illegal.
    Bad,
    /// Legal.
    Good,
}

impl<C> VirtualSmmu<C> {
    /// Ends a walk and its claims.
    pub(super) fn end_walk<H: HostMemory<Claim = C>>(&mut self, host: &mut H, walk: Walk<C>) {
        let refused = walk.end(host);
        self.stats.claims_refused = self.stats.claims_refused.wrapping_add(refused);
    }

    /// The host's entry for `sid`.
    #[inline]
    pub(super) fn fetch_entry<H: HostMemory<Claim = C>>(
        &mut self,
        host: &mut H,
        budget: &mut Budget,
        sid: u32,
    ) -> Result<Judged, Unfinished> {
        let mut walk = Walk::new();
        let entry = self.fetch_in(host, &mut walk, budget, sid);
        self.end_walk(host, walk);
        entry
    }

    #[inline]
    fn fetch_in<H: HostMemory<Claim = C>>(
        &mut self,
        host: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        sid: u32,
    ) -> Result<Judged, Unfinished> {
        let Some(table) = self.table else { return Ok(Judged::Unmapped) };
        let Located::At { address, .. } = table.locate(host, walk, budget, sid)? else {
            return Ok(Judged::Unmapped);
        };
        let Some(claim) = walk.entries(host, budget, table.sharing(), address)? else {
            return Ok(Judged::Unmapped);
        };
        budget.charge(budget::ENTRY)?;
        let offset = in_page(address);
        let words = (host.read64(claim, offset), host.read64(claim, offset.saturating_add(8)));
        let mut target = self.rules.fixed().invalid();
        if let (Some(word0), Some(word1)) = words {
            bump(&mut self.stats.ste_updates);
            match self.rules.judge(word0, word1) {
                Verdict::Invalid => {}
                Verdict::Illegal => bump(&mut self.stats.ste_illegal),
                Verdict::Legal(ste) => target = ste,
            }
        }
        Ok(Judged::Entry(target))
    }

    pub(super) fn fetch_group<H: HostMemory<Claim = C>>(
        &mut self,
        host: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        sid: u32,
        count: usize,
    ) -> Result<Group, Unfinished> {
        let mut group = Group { targets: [self.rules.fixed().invalid(); GROUP], mapped: false, until: 0 };
        let Some(table) = self.table else {
            return Ok(group);
        };
        let (address, known) = match table.locate(host, walk, budget, sid)? {
            Located::OutOfRange { until } => {
                group.until = until;
                return Ok(group);
            }
            Located::Unreadable(_) => return Ok(group),
            Located::At { address, count } => (address, count),
        };
        let count = usize::try_from(known).unwrap_or(GROUP).min(count);
        let Some(claim) = walk.entries(host, budget, table.sharing(), address)? else {
            return Ok(group);
        };
        budget.charge(budget::ENTRY.saturating_mul(u32::try_from(count).unwrap_or(GROUP_U32)))?;
        group.mapped = true;
        let mut offset = in_page(address);
        for target in group.targets.iter_mut().take(count) {
            let words = (host.read64(claim, offset), host.read64(claim, offset.saturating_add(8)));
            offset = offset.saturating_add(u64::try_from(STE_SIZE).unwrap_or(0));
            let (Some(word0), Some(word1)) = words else {
                continue;
            };
            bump(&mut self.stats.ste_updates);
            match self.rules.judge(word0, word1) {
                Verdict::Invalid => {}
                Verdict::Illegal => bump(&mut self.stats.ste_illegal),
                Verdict::Legal(ste) => *target = ste,
            }
        }
        Ok(group)
    }

    /// Checks the host's present entry for `sid`, for the conversion of an event. The caller has charged this for the record.
    pub(super) fn host_entry<H: HostMemory<Claim = C>>(
        &self,
        host: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        sid: u32,
    ) -> HostEntry {
        let Some(table) = self.event_table else {
            return HostEntry::OutOfRange;
        };
        self.look(host, walk, budget, table, sid).unwrap_or(HostEntry::Bad)
    }

    fn look<H: HostMemory<Claim = C>>(
        &self,
        host: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        table: HostStrtab,
        sid: u32,
    ) -> Result<HostEntry, Unfinished> {
        let address = match table.locate(host, walk, budget, sid)? {
            Located::OutOfRange { .. } => return Ok(HostEntry::OutOfRange),
            Located::Unreadable(address) => return Ok(HostEntry::Unreadable(address)),
            Located::At { address, .. } => address,
        };
        let Some(claim) = walk.entries(host, budget, table.sharing(), address)? else {
            return Ok(HostEntry::Unreadable(address));
        };
        let offset = in_page(address);
        Ok(match (host.read64(claim, offset), host.read64(claim, offset.saturating_add(8))) {
            (Some(word0), Some(word1)) => match self.rules.judge(word0, word1) {
                Verdict::Invalid | Verdict::Illegal => HostEntry::Bad,
                Verdict::Legal(_) => HostEntry::Good,
            },
            _ => HostEntry::Unreadable(address),
        })
    }
}
