//! Translating the host's table into the shadow: one entry, a range, or all of it, in bounded steps.

use super::host::{HostTable, Located, Walk, in_page};
use super::policy::{Ste, Verdict};
use super::update::next_step;
use super::{BLOCK, SPLIT, Shared};
use crate::budget::{self, Budget, Unfinished};
use crate::command::{Command, Depth};
use crate::emul::command::Scope;
use crate::error::SmmuError;
use crate::platform::{HostMemory, Platform};
use crate::smmu::Smmu;
use crate::spec::low32;
use crate::spec::ste::STE_SIZE;
use crate::stats::bump;

/// Entries handled together: half a page of the host's table, so that a group never straddles two pages.
pub(super) const GROUP: usize = 32;
pub(crate) const GROUP_U32: u32 = 32;
const LOG2_GROUP: u32 = 5;

/// Where a walk over many streams is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// The next StreamID.
    pub(super) next: u64,
    /// Some entry before it in its block exists and could be read.
    mapped: bool,
}

impl Cursor {
    pub(super) fn at(next: u64) -> Self {
        Self { next, mapped: false }
    }

    /// Where `scope` begins: blocks are walked from their first group on, as their end asks what was mapped in all of them.
    pub(crate) fn start(scope: Scope) -> Self {
        match scope {
            Scope::One { sid: first, .. } | Scope::Range { first, .. } => Self::at(u64::from(first >> SPLIT << SPLIT)),
            Scope::All => Self::at(0),
        }
    }
}

/// An entry of the host's table, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostEntry {
    /// There is none.
    OutOfRange,
    /// It, or its level-1 descriptor, is at this address and not in host-owned memory.
    Unreadable(u64),
    /// Invalid or illegal.
    Bad,
    /// Legal.
    Good,
}

/// The targets of one group, from one fetch of the host's memory.
struct Group {
    targets: [Ste; GROUP],
    /// Some entry exists and could be read.
    mapped: bool,
    /// No entry exists below this StreamID.
    until: u64,
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Judges the host's present entry for `sid`, for the sake of an event.
    pub(crate) fn host_entry(&mut self, host: &mut H, walk: &mut Walk<H::Claim>, sid: u32) -> HostEntry {
        let Some(table) = self.regs.event_table else {
            return HostEntry::OutOfRange;
        };
        // Whoever takes a record has the budget for this.
        self.look(host, walk, table, sid).unwrap_or(HostEntry::Bad)
    }

    fn look(
        &mut self,
        host: &mut H,
        walk: &mut Walk<H::Claim>,
        table: HostTable,
        sid: u32,
    ) -> Result<HostEntry, Unfinished> {
        let address = match table.locate(host, walk, &mut self.budget, sid)? {
            Located::OutOfRange { .. } => return Ok(HostEntry::OutOfRange),
            Located::Unreadable(address) => return Ok(HostEntry::Unreadable(address)),
            Located::At { address, .. } => address,
        };
        let Some(claim) = walk.entries(host, &mut self.budget, table.sharing(), address)? else {
            return Ok(HostEntry::Unreadable(address));
        };
        let offset = in_page(address);
        Ok(match (host.read64(claim, offset), host.read64(claim, offset.saturating_add(8))) {
            (Some(word0), Some(word1)) => match self.strtab.rules.judge(word0, word1) {
                Verdict::Invalid | Verdict::Illegal => HostEntry::Bad,
                Verdict::Legal(_) => HostEntry::Good,
            },
            _ => HostEntry::Unreadable(address),
        })
    }

    pub(crate) fn end_walk(&mut self, host: &mut H, walk: Walk<H::Claim>) {
        let refused = walk.end(host);
        self.stats.claims_refused = self.stats.claims_refused.wrapping_add(refused);
    }

    /// A trap begins.
    pub(crate) fn start_trap(&mut self) {
        self.budget = Budget::for_one_trap();
    }

    /// Translates the streams of `scope` from `cursor` on.
    ///
    /// # Errors
    /// The budget is used up, and `cursor` says where to go on; or hardware failed.
    pub(crate) fn reshadow_scope(&mut self, host: &mut H, scope: Scope, cursor: &mut Cursor) -> Result<(), Unfinished> {
        // While translation is off the host's table means nothing; it is read when SMMUEN goes up.
        if self.regs.table.is_none() || self.quiesced {
            return Ok(());
        }
        match scope {
            Scope::One { sid, .. } => {
                let mut walk = Walk::new();
                let done = self.reshadow_one(host, &mut walk, sid, cursor);
                self.end_walk(host, walk);
                done
            }
            Scope::Range { first, log2 } => {
                let count = 1_u64.checked_shl(log2).unwrap_or(u64::MAX);
                let end = u64::from(first).saturating_add(count);
                // Whole blocks.
                self.reshadow_streams(host, end.checked_next_multiple_of(u64::from(BLOCK)).unwrap_or(end), cursor)
            }
            Scope::All => self.reshadow_streams(host, self.strtab.streams(), cursor),
        }
    }

    /// Translates the streams below `end`, which ends a block, from `cursor` on.
    pub(super) fn reshadow_streams(&mut self, host: &mut H, end: u64, cursor: &mut Cursor) -> Result<(), Unfinished> {
        let mut walk = Walk::new();
        let mut done = Ok(());
        while cursor.next < end
            && done.is_ok()
            && let Some(block) = self.block_at(cursor.next)
        {
            done = self.reshadow_block(host, &mut walk, block, cursor);
        }
        self.end_walk(host, walk);
        done
    }

    /// The block of `sid`; `None` beyond the table.
    pub(super) fn block_at(&self, sid: u64) -> Option<u32> {
        (sid < self.strtab.streams()).then(|| low32(sid) >> SPLIT)
    }

    /// How many entries of the group at `sid` lie below `end` and in the table.
    pub(super) fn group(&self, sid: u64, end: u64) -> usize {
        let end = end.min(self.strtab.streams());
        usize::try_from(end.saturating_sub(sid)).unwrap_or(GROUP).min(GROUP)
    }

    /// Translates one entry. A block that has no private table yet, or whose level-1 descriptor went, is done as a whole, from
    /// `cursor` on.
    fn reshadow_one(
        &mut self,
        host: &mut H,
        walk: &mut Walk<H::Claim>,
        sid: u32,
        cursor: &mut Cursor,
    ) -> Result<(), Unfinished> {
        let block = sid >> SPLIT;
        let begun = cursor.next != u64::from(block << SPLIT);
        if !begun && self.strtab.is_private(block) {
            let group = self.fetch(host, walk, sid, 1)?;
            if group.mapped || !self.strtab.is_two_level() {
                let [target, ..] = group.targets;
                return self.update(sid, &[target]);
            }
        }
        while cursor.next < next_block(block).min(self.strtab.streams()) {
            self.reshadow_block(host, walk, block, cursor)?;
        }
        Ok(())
    }

    /// Translates entries of a block from `cursor` on: a group of a private one, another as a whole.
    fn reshadow_block(
        &mut self,
        host: &mut H,
        walk: &mut Walk<H::Claim>,
        block: u32,
        cursor: &mut Cursor,
    ) -> Result<(), Unfinished> {
        // One command at most, besides those that are synchronised one by one.
        self.budget.charge(budget::BLOCK.max(self.cmdq.command_cost()))?;
        let end = next_block(block).min(self.strtab.streams());
        if !self.strtab.is_private(block) {
            self.prepare_block(host, walk, block)?;
            *cursor = Cursor::at(end);
            return Ok(());
        }
        let count = self.group(cursor.next, end);
        let group = self.fetch(host, walk, low32(cursor.next), count)?;
        self.update(low32(cursor.next), group.targets.get(..count).unwrap_or(&[]))?;
        cursor.mapped |= group.mapped;
        cursor.next = cursor.next.saturating_add(u64::from(GROUP_U32));
        if cursor.next >= end {
            if !cursor.mapped {
                self.detach_block(block)?;
            }
            *cursor = Cursor::at(end);
        }
        Ok(())
    }

    /// Gives a block a private table with the host's entries, if it has any.
    fn prepare_block(&mut self, host: &mut H, walk: &mut Walk<H::Claim>, block: u32) -> Result<(), Unfinished> {
        let end = next_block(block).min(self.strtab.streams());
        let mut prepared = None;
        let mut sid = u64::from(block << SPLIT);
        while sid < end {
            let count = self.group(sid, end);
            let group = self.fetch(host, walk, low32(sid), count)?;
            if group.mapped && prepared.is_none() {
                self.budget.charge(budget::TABLE)?;
                prepared = self.strtab.prepare(&self.hw);
                if prepared.is_none() {
                    // No memory: the streams of this block abort.
                    bump(&mut self.stats.strtab_no_memory);
                    break;
                }
            }
            if let Some(table) = prepared.as_mut().filter(|_| group.mapped) {
                for (index, ste) in (low32(sid)..=u32::MAX).zip(group.targets.iter().take(count)) {
                    self.strtab.prepare_entry(table, index & (BLOCK - 1), *ste);
                }
            }
            sid = sid.saturating_add(u64::from(GROUP_U32)).max(group.until);
        }
        match prepared {
            Some(table) => {
                self.strtab.attach(&self.hw, block, table);
                self.invalidate_block(block)?;
            }
            None => self.detach_block(block)?,
        }
        Ok(())
    }

    /// Nothing of the block is mapped, or there is no memory for it.
    fn detach_block(&mut self, block: u32) -> Result<(), SmmuError> {
        if self.strtab.is_two_level() && self.strtab.set_shared(block, Shared::None) {
            self.invalidate_block(block)?;
        }
        Ok(())
    }

    fn invalidate_block(&mut self, block: u32) -> Result<(), SmmuError> {
        self.cfgi_pending = true;
        self.push(Command::CfgiSteRange { sid: block << SPLIT, range: SPLIT - 1 })?;
        self.strtab.cover(Some(block));
        Ok(())
    }

    /// Fetches and judges `count` entries from `sid` on; they lie in one group.
    fn fetch(&mut self, host: &mut H, walk: &mut Walk<H::Claim>, sid: u32, count: usize) -> Result<Group, Unfinished> {
        let mut group = Group { targets: [self.strtab.rules.invalid(); GROUP], mapped: false, until: 0 };
        let Some(table) = self.regs.table else {
            return Ok(group);
        };
        let (address, known) = match table.locate(host, walk, &mut self.budget, sid)? {
            Located::OutOfRange { until } => {
                group.until = until;
                return Ok(group);
            }
            Located::Unreadable(_) => return Ok(group),
            Located::At { address, count } => (address, count),
        };
        let count = usize::try_from(known).unwrap_or(GROUP).min(count);
        let Some(claim) = walk.entries(host, &mut self.budget, table.sharing(), address)? else {
            return Ok(group);
        };
        self.budget.charge(budget::ENTRY.saturating_mul(u32::try_from(count).unwrap_or(GROUP_U32)))?;
        group.mapped = true;
        let mut offset = in_page(address);
        for target in group.targets.iter_mut().take(count) {
            let words = (host.read64(claim, offset), host.read64(claim, offset.saturating_add(8)));
            offset = offset.saturating_add(u64::try_from(STE_SIZE).unwrap_or(0));
            let (Some(word0), Some(word1)) = words else {
                continue;
            };
            bump(&mut self.stats.ste_updates);
            match self.strtab.rules.judge(word0, word1) {
                Verdict::Invalid => {}
                Verdict::Illegal => bump(&mut self.stats.ste_illegal),
                Verdict::Legal(ste) => *target = ste,
            }
        }
        Ok(group)
    }

    /// Brings consecutive live entries to their targets, one store per entry between two synchronised invalidations.
    pub(super) fn update(&mut self, first: u32, targets: &[Ste]) -> Result<(), Unfinished> {
        // Three stores at most; the fourth round finds nothing left to do.
        for _ in 0..4 {
            let mut stored = false;
            let mut more = false;
            for (sid, target) in (first..=u32::MAX).zip(targets) {
                let Some(now) = self.strtab.read(sid) else {
                    continue;
                };
                let Some(step) = next_step(now, *target) else {
                    continue;
                };
                if !stored && self.cfgi_pending {
                    // The store before this one must not be in flight any more.
                    self.budget.charge(self.cmdq.sync_cost())?;
                    self.sync()?;
                }
                self.strtab.store(sid, step);
                stored = true;
                more |= next_step(now.after(step), *target).is_some();
            }
            if stored {
                self.push(match targets.len() {
                    1 => Command::CfgiSte { sid: first, depth: Depth::Leaf },
                    _ => Command::CfgiSteRange { sid: first, range: LOG2_GROUP - 1 },
                })?;
                self.cfgi_pending = true;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }
}

const _: () = assert!(GROUP.is_power_of_two() && GROUP <= 1 << SPLIT);

/// First StreamID after a block.
pub(super) fn next_block(block: u32) -> u64 {
    (u64::from(block) + 1) << SPLIT
}
