//! The host's stream table entries, fetched once and checked.

use super::VirtualSmmu;
use super::policy::{SteCheck, SteRules};
use super::strtab::{HostStrtab, Located, Walk, in_page};
use crate::platform::HostMemory;
use crate::smmu::budget::{self, Budget, Unfinished};
use crate::smmu::ste::{CheckedEntry, Group, Ste};
use crate::smmu::stream::{GROUP, GROUP_U32, HostEntries};
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
    BadSte,
    /// Legal.
    Legal,
}

/// Fetches dwords 0 and 1 of the entry at `offset` of a claim, each once, and checks them. All entries of the host are
/// checked by this function. `None` if they cannot be read.
#[inline]
fn check_entry<H: HostMemory>(rules: &SteRules, host_mem: &H, claim: &H::Claim, offset: u64) -> Option<SteCheck> {
    let [word0, word1] = host_mem.read_pair(claim, offset)?;
    Some(rules.check(word0, word1))
}

impl<C> VirtualSmmu<C> {
    /// The shadow of a checked entry: one with V = 0 unless the entry is legal.
    #[inline]
    fn target(&mut self, checked: Option<SteCheck>) -> Ste {
        let Some(checked) = checked else { return self.rules.fixed().invalid() };
        bump(&mut self.stats.ste_updates);
        match checked {
            SteCheck::Legal(ste) => ste,
            SteCheck::Invalid => self.rules.fixed().invalid(),
            SteCheck::Illegal => {
                bump(&mut self.stats.ste_illegal);
                self.rules.fixed().invalid()
            }
        }
    }

    /// Ends a walk and its claims.
    pub(super) fn end_walk<H: HostMemory<Claim = C>>(&mut self, host_mem: &mut H, walk: Walk<C>) {
        let refused = walk.end(host_mem);
        self.stats.claims_refused = self.stats.claims_refused.wrapping_add(refused);
    }

    /// Fetches and checks the host's entry for `sid`.
    #[inline]
    pub(super) fn checked_entry<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        sid: u32,
    ) -> Result<CheckedEntry, Unfinished> {
        let mut walk = Walk::new();
        let entry = self.checked_entry_in(host_mem, &mut walk, budget, sid);
        self.end_walk(host_mem, walk);
        entry
    }

    #[inline]
    fn checked_entry_in<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        sid: u32,
    ) -> Result<CheckedEntry, Unfinished> {
        let Some(table) = self.table else { return Ok(CheckedEntry::Unmapped) };
        let Located::At { address, .. } = table.locate(host_mem, walk, budget, sid)? else {
            return Ok(CheckedEntry::Unmapped);
        };
        let Some(claim) = walk.entries(host_mem, budget, table.sharing(), address)? else {
            return Ok(CheckedEntry::Unmapped);
        };
        budget.charge(budget::ENTRY)?;
        let offset = in_page(address);
        let checked = check_entry(&self.rules, host_mem, claim, offset);
        Ok(CheckedEntry::Entry(self.target(checked)))
    }

    /// Fetches and checks the host's entries for `count` streams from `sid` on.
    pub(super) fn checked_group<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        sid: u32,
        count: usize,
    ) -> Result<Group, Unfinished> {
        let mut group = Group { targets: [self.rules.fixed().invalid(); GROUP], entries: HostEntries::None, until: 0 };
        let Some(table) = self.table else {
            return Ok(group);
        };
        let (address, known) = match table.locate(host_mem, walk, budget, sid)? {
            Located::OutOfRange { until } => {
                group.until = until;
                return Ok(group);
            }
            Located::Unreadable(_) => return Ok(group),
            Located::At { address, count } => (address, count),
        };
        let count = usize::try_from(known).unwrap_or(GROUP).min(count);
        let Some(claim) = walk.entries(host_mem, budget, table.sharing(), address)? else {
            return Ok(group);
        };
        budget.charge(budget::ENTRY.saturating_mul(u32::try_from(count).unwrap_or(GROUP_U32)))?;
        group.entries = HostEntries::Some;
        let mut offset = in_page(address);
        for target in group.targets.iter_mut().take(count) {
            let checked = check_entry(&self.rules, host_mem, claim, offset);
            offset = offset.saturating_add(u64::try_from(STE_SIZE).unwrap_or(0));
            *target = self.target(checked);
        }
        Ok(group)
    }

    /// Fetches and checks the host's entry for `sid`, for the conversion of an event. Its charge is part of that of the record.
    pub(super) fn host_entry<H: HostMemory<Claim = C>>(
        &self,
        host_mem: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        sid: u32,
    ) -> HostEntry {
        let Some(table) = self.event_table else {
            return HostEntry::OutOfRange;
        };
        self.host_entry_in(host_mem, walk, budget, table, sid).unwrap_or(HostEntry::BadSte)
    }

    fn host_entry_in<H: HostMemory<Claim = C>>(
        &self,
        host_mem: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        table: HostStrtab,
        sid: u32,
    ) -> Result<HostEntry, Unfinished> {
        let address = match table.locate(host_mem, walk, budget, sid)? {
            Located::OutOfRange { .. } => return Ok(HostEntry::OutOfRange),
            Located::Unreadable(address) => return Ok(HostEntry::Unreadable(address)),
            Located::At { address, .. } => address,
        };
        let Some(claim) = walk.entries(host_mem, budget, table.sharing(), address)? else {
            return Ok(HostEntry::Unreadable(address));
        };
        let offset = in_page(address);
        Ok(match check_entry(&self.rules, host_mem, claim, offset) {
            Some(SteCheck::Invalid | SteCheck::Illegal) => HostEntry::BadSte,
            Some(SteCheck::Legal(_)) => HostEntry::Legal,
            None => HostEntry::Unreadable(address),
        })
    }
}
