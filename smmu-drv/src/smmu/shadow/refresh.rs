//! Updates of the shadow table: one entry, the entries of a range, or the same entry for all streams, in bounded steps.
//!
//! Between two stores into a live entry its configuration is invalidated and synchronised: [`Hardware`] receives the
//! commands. [`Entries`] returns the host's checked entries.

use super::change::{SteStore, next_store};
use super::owners::StreamOwner;
use super::{Reserve, ShadowTable, Shared};
use crate::command::{Command, Depth};
use crate::error::SmmuError;
use crate::platform::{DmaBuffer, Platform};
use crate::smmu::budget::{self, Budget, Costs, Unfinished};
use crate::smmu::ste::{CheckedEntry, Group, Ste};
use crate::smmu::stream::{BLOCK, Cursor, GROUP, GROUP_U32, HostEntries, LOG2_GROUP, SPLIT, next_block};
use crate::spec::low32;
use crate::stats::bump;

/// Returns checked entries; the virtual SMMU implements it.
pub(crate) trait Entries {
    /// Fetches and checks `count` entries from `sid` on; they must be in one group.
    ///
    /// # Errors
    /// The budget is not sufficient.
    fn group(&mut self, budget: &mut Budget, sid: u32, count: usize) -> Result<Group, Unfinished>;
}

/// Receives the invalidations of this table and has memory `B` for it; the device implements it.
pub(crate) trait Hardware<B> {
    /// Allocates and publishes tables.
    type Platform: Platform<Buffer = B>;

    /// The platform.
    fn platform(&self) -> &Self::Platform;
    /// Current charges of commands.
    fn costs(&self) -> Costs;
    /// Queues a command.
    ///
    /// # Errors
    /// The SMMU is failed.
    fn push(&mut self, command: Command) -> Result<(), SmmuError>;
    /// Waits until all queued commands are complete.
    ///
    /// # Errors
    /// The SMMU is failed.
    fn sync(&mut self) -> Result<(), SmmuError>;
}

/// Result of [`ShadowTable::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// The entry is in the table, and its invalidation is queued.
    Done,
    /// Nothing was done: its whole block must be refreshed.
    NeedsBlock,
}

impl<B: DmaBuffer> ShadowTable<B> {
    /// Called when all commands queued up to now, including invalidations of this table, are complete.
    #[inline]
    pub(crate) fn synchronised(&mut self) {
        self.cfgi_pending = false;
        self.free_detached();
    }

    /// Called after the SMMU was programmed again: no entry of this table is cached.
    #[cold]
    pub(crate) fn after_reprogram(&mut self) {
        self.invalidation_queued(None);
        self.synchronised();
    }

    /// Makes every stream abort; in effect when it returns.
    ///
    /// # Errors
    /// The SMMU is failed.
    pub(crate) fn abort_all(&mut self, device: &mut impl Hardware<B>) -> Result<(), SmmuError> {
        if self.is_two_level() {
            for block in 0..self.blocks() {
                self.set_shared(block, Shared::Abort);
            }
        } else {
            let abort = self.shared_ste(Shared::Abort);
            for sid in 0..self.streams() {
                let Ok(sid) = u32::try_from(sid) else { break };
                self.store(sid, SteStore::Dw0(abort.dw0));
            }
        }
        self.quiesced = true;
        self.invalidate_all(device)
    }

    /// Ends a walk over all streams: its entries are in effect when this returns.
    ///
    /// # Errors
    /// The budget is not sufficient, and nothing was done; or the SMMU is failed.
    pub(crate) fn finish(&mut self, device: &mut impl Hardware<B>, budget: &mut Budget) -> Result<(), Unfinished> {
        budget.charge(device.costs().sync)?;
        Ok(self.invalidate_all(device)?)
    }

    /// Stores the shadow of the host's entry for `sid`, and invalidates it to `depth`. Does nothing for a stream of another owner, if
    /// the block has no private table, or if the host's level-1 descriptor for it is no longer valid.
    ///
    /// # Errors
    /// The budget is used up before all stores were made, or the SMMU is failed.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        device: &mut impl Hardware<B>,
        budget: &mut Budget,
        sid: u32,
        depth: Depth,
        entry: CheckedEntry,
    ) -> Result<Entered, Unfinished> {
        if !self.is_hosts(sid) {
            return Ok(Entered::Done);
        }
        let target = match entry {
            CheckedEntry::Entry(target) => target,
            CheckedEntry::Unmapped if self.is_two_level() => return Ok(Entered::NeedsBlock),
            CheckedEntry::Unmapped => self.fixed.invalid(),
        };
        let Some(now) = self.read(sid) else {
            // A linear table has an entry for every StreamID in range.
            return Ok(if self.is_two_level() { Entered::NeedsBlock } else { Entered::Done });
        };
        // There is nearly always at most one store, which the command below invalidates.
        if let Some(store) = next_store(now, target) {
            if next_store(now.after(store), target).is_some() {
                self.update(device, budget, sid, &[target])?;
            } else {
                self.before_store(device, budget)?;
                self.store(sid, store);
            }
        }
        self.cfgi_pending = true;
        device.push(Command::CfgiSte { sid, depth })?;
        Ok(Entered::Done)
    }

    /// Refreshes the streams from `cursor` to before `end`, which ends a block.
    ///
    /// # Errors
    /// The budget is used up, and `cursor` is the position to continue at; or the SMMU is failed.
    pub(crate) fn refresh(
        &mut self,
        device: &mut impl Hardware<B>,
        budget: &mut Budget,
        entries: &mut impl Entries,
        cursor: &mut Cursor,
        end: u64,
    ) -> Result<(), Unfinished> {
        while cursor.next() < end
            && let Some(block) = self.block_at(cursor.next())
        {
            self.refresh_block(device, budget, entries, block, cursor)?;
        }
        Ok(())
    }

    /// Sets all streams of the host from `cursor` to before `end`, which ends a block, to the same entry.
    ///
    /// # Errors
    /// As [`ShadowTable::refresh`].
    pub(crate) fn share(
        &mut self,
        device: &mut impl Hardware<B>,
        budget: &mut Budget,
        cursor: &mut Cursor,
        end: u64,
        shared: Shared,
    ) -> Result<(), Unfinished> {
        while cursor.next() < end
            && let Some(block) = self.block_at(cursor.next())
        {
            budget.charge(budget::BLOCK)?;
            let owner = self.owner_of_block(block);
            if owner.is_some_and(|owner| owner != StreamOwner::Host) {
                *cursor = Cursor::at(next_block(block));
            } else if owner.is_some() && self.is_two_level() {
                self.set_shared(block, shared);
                *cursor = Cursor::at(next_block(block));
            } else {
                // Group by group, like entries of the host. The table may end within a group.
                let count = self.group(cursor.next(), next_block(block));
                let ste = self.shared_ste(shared);
                budget.charge(budget::ENTRY.saturating_mul(GROUP_U32))?;
                self.update(device, budget, low32(cursor.next()), [ste; GROUP].get(..count).unwrap_or(&[]))?;
                *cursor = cursor.after_group(HostEntries::None);
            }
        }
        Ok(())
    }

    /// Queues `command`, an invalidation of refreshed entries.
    ///
    /// # Errors
    /// The SMMU is failed.
    pub(crate) fn invalidate(&mut self, device: &mut impl Hardware<B>, command: Command) -> Result<(), SmmuError> {
        self.cfgi_pending = true;
        device.push(command)?;
        Ok(())
    }

    /// Invalidates the configuration of every stream; synchronised when it returns.
    fn invalidate_all(&mut self, device: &mut impl Hardware<B>) -> Result<(), SmmuError> {
        self.cfgi_pending = true;
        device.push(Command::CfgiAll)?;
        self.invalidation_queued(None);
        device.sync()?;
        self.synchronised();
        Ok(())
    }

    /// The block of `sid`; `None` beyond the table.
    fn block_at(&self, sid: u64) -> Option<u32> {
        (sid < self.streams()).then(|| low32(sid) >> SPLIT)
    }

    /// Number of entries of the group at `sid` that are below `end` and in the table.
    fn group(&self, sid: u64, end: u64) -> usize {
        let end = end.min(self.streams());
        usize::try_from(end.saturating_sub(sid)).unwrap_or(GROUP).min(GROUP)
    }

    /// Refreshes a block from `cursor` on: one group if it has a private table, otherwise the whole block.
    fn refresh_block(
        &mut self,
        device: &mut impl Hardware<B>,
        budget: &mut Budget,
        entries: &mut impl Entries,
        block: u32,
        cursor: &mut Cursor,
    ) -> Result<(), Unfinished> {
        // At most one command, in addition to those that are charged with their CMD_SYNC.
        budget.charge(budget::BLOCK.max(device.costs().command))?;
        let end = next_block(block).min(self.streams());
        if self.owner_of_block(block).is_some_and(|owner| owner != StreamOwner::Host) {
            *cursor = Cursor::at(end);
            return Ok(());
        }
        if !self.is_private(block) {
            self.prepare_block(device, budget, entries, block)?;
            *cursor = Cursor::at(end);
            return Ok(());
        }
        let count = self.group(cursor.next(), end);
        let group = entries.group(budget, low32(cursor.next()), count)?;
        self.update(device, budget, low32(cursor.next()), group.targets.get(..count).unwrap_or(&[]))?;
        *cursor = cursor.after_group(group.entries);
        if cursor.next() >= end {
            if cursor.entries() == HostEntries::None {
                self.detach_block(device, block)?;
            }
            *cursor = Cursor::at(end);
        }
        Ok(())
    }

    /// Allocates a private table with the host's entries for a block, if there are any.
    fn prepare_block(
        &mut self,
        device: &mut impl Hardware<B>,
        budget: &mut Budget,
        entries: &mut impl Entries,
        block: u32,
    ) -> Result<(), Unfinished> {
        let end = next_block(block).min(self.streams());
        let mut prepared = None;
        let mut sid = u64::from(block << SPLIT);
        while sid < end {
            let count = self.group(sid, end);
            let group = entries.group(budget, low32(sid), count)?;
            if group.entries == HostEntries::Some && prepared.is_none() {
                budget.charge(budget::TABLE)?;
                prepared = self.prepare(device.platform(), Reserve::Kept);
                if prepared.is_none() {
                    // No memory: the streams of this block abort.
                    bump(&mut self.no_memory);
                    break;
                }
            }
            if let Some(table) = prepared.as_mut().filter(|_| group.entries == HostEntries::Some) {
                for (index, ste) in (low32(sid)..=u32::MAX).zip(group.targets.iter().take(count)) {
                    if self.is_hosts(index) {
                        self.prepare_entry(table, index & (BLOCK - 1), *ste);
                    }
                }
            }
            sid = sid.saturating_add(u64::from(GROUP_U32)).max(group.until);
        }
        match prepared {
            Some(table) => {
                self.attach(device.platform(), block, table);
                self.invalidate_block(device, block)?;
            }
            None => self.detach_block(device, block)?,
        }
        Ok(())
    }

    /// Removes the private table of a block without entries, or without memory for its entries; not if it has streams
    /// of another owner.
    fn detach_block(&mut self, device: &mut impl Hardware<B>, block: u32) -> Result<(), SmmuError> {
        let hosts = self.owner_of_block(block) == Some(StreamOwner::Host);
        if hosts && self.is_two_level() && self.set_shared(block, Shared::None) {
            self.invalidate_block(device, block)?;
        }
        Ok(())
    }

    pub(super) fn invalidate_block(&mut self, device: &mut impl Hardware<B>, block: u32) -> Result<(), SmmuError> {
        self.cfgi_pending = true;
        device.push(Command::CfgiSteRange { sid: block << SPLIT, range: SPLIT - 1 })?;
        self.invalidation_queued(Some(block));
        Ok(())
    }

    /// Completes the queued invalidations: an earlier store must be complete everywhere before the next one.
    #[inline]
    fn before_store(&mut self, device: &mut impl Hardware<B>, budget: &mut Budget) -> Result<(), Unfinished> {
        if self.cfgi_pending {
            budget.charge(device.costs().sync)?;
            device.sync()?;
            self.synchronised();
        }
        Ok(())
    }

    /// Updates the host's entries among consecutive live entries, with one store per entry between two synchronised
    /// invalidations.
    fn update(
        &mut self,
        device: &mut impl Hardware<B>,
        budget: &mut Budget,
        first: u32,
        targets: &[Ste],
    ) -> Result<(), Unfinished> {
        // There are at most three stores; the fourth round does nothing.
        for _ in 0..4 {
            let mut stored = false;
            let mut more = false;
            for (sid, target) in (first..=u32::MAX).zip(targets) {
                let Some(now) = self.read(sid).filter(|_| self.is_hosts(sid)) else {
                    continue;
                };
                let Some(store) = next_store(now, *target) else {
                    continue;
                };
                if !stored {
                    self.before_store(device, budget)?;
                }
                self.store(sid, store);
                stored = true;
                more |= next_store(now.after(store), *target).is_some();
            }
            if stored {
                self.cfgi_pending = true;
                device.push(match targets.len() {
                    1 => Command::CfgiSte { sid: first, depth: Depth::Leaf },
                    _ => Command::CfgiSteRange { sid: first, range: LOG2_GROUP - 1 },
                })?;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }
}
