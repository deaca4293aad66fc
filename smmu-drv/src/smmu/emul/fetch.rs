//! The host's stream table entries, fetched once and checked.

use super::VirtualSmmu;
use super::policy::{SteRules, Verdict};
use super::strtab::{HostStrtab, Located, Walk, in_page};
use crate::platform::HostMemory;
use crate::smmu::budget::{self, Budget, Unfinished};
use crate::smmu::ste::{Group, Judged, Ste};
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

/// Fetches dwords 0 and 1 of the entry at `offset` of a claim, each once, and checks them: every entry of a host passes here. `None`
/// if they cannot be read.
#[inline]
fn check_entry<H: HostMemory>(rules: &SteRules, host: &H, claim: &H::Claim, offset: u64) -> Option<Verdict> {
    let [word0, word1] = host.read_pair(claim, offset)?;
    Some(rules.judge(word0, word1))
}

impl<C> VirtualSmmu<C> {
    /// The shadow of an entry that was checked; an invalid one unless it is legal.
    #[inline]
    fn target(&mut self, verdict: Option<Verdict>) -> Ste {
        let Some(verdict) = verdict else { return self.rules.fixed().invalid() };
        bump(&mut self.stats.ste_updates);
        match verdict {
            Verdict::Legal(ste) => ste,
            Verdict::Invalid => self.rules.fixed().invalid(),
            Verdict::Illegal => {
                bump(&mut self.stats.ste_illegal);
                self.rules.fixed().invalid()
            }
        }
    }

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
        let verdict = check_entry(&self.rules, host, claim, offset);
        Ok(Judged::Entry(self.target(verdict)))
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
            let verdict = check_entry(&self.rules, host, claim, offset);
            offset = offset.saturating_add(u64::try_from(STE_SIZE).unwrap_or(0));
            *target = self.target(verdict);
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
        Ok(match check_entry(&self.rules, host, claim, offset) {
            Some(Verdict::Invalid | Verdict::Illegal) => HostEntry::Bad,
            Some(Verdict::Legal(_)) => HostEntry::Good,
            None => HostEntry::Unreadable(address),
        })
    }
}
