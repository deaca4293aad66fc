//! Translating the host's table into the shadow: one entry, a range, or all of it, in bounded steps.

use io_pgtable::Ipa;

use super::host::Located;
use super::policy::{Ste, Verdict};
use super::update::next_step;
use super::{BLOCK, SPLIT, Shared};
use crate::command::{Command, Depth};
use crate::emul::command::Scope;
use crate::error::SmmuError;
use crate::platform::{HostMemory, Platform};
use crate::smmu::Smmu;
use crate::spec::low32;
use crate::spec::ste::STE_SIZE;
use crate::stats::bump;
use crate::weak::weakened;

/// Entries handled together: half a page of the host's table, so that a group never straddles two pages.
const GROUP: usize = 32;
const GROUP_U32: u32 = 32;
const LOG2_GROUP: u32 = 5;

/// Work that one trap may do, in units of about one table entry or one command.
pub(crate) struct Budget(u32);

impl Budget {
    /// What a trap gets.
    pub(crate) const fn for_one_trap() -> Self {
        Self(1024)
    }

    /// What nobody runs out of.
    #[cfg(feature = "weakened")]
    const fn weakened() -> Self {
        Self(u32::MAX)
    }

    /// Takes `units`; `false` when they are not left.
    pub(crate) fn spend(&mut self, units: u32) -> bool {
        match self.0.checked_sub(units) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// What the host's registers say that streams do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostMode {
    /// SMMUEN == 0, GBPA.ABORT == 0.
    Bypass,
    /// SMMUEN == 0, GBPA.ABORT == 1.
    Abort,
    /// SMMUEN == 1.
    Table,
}

/// A change of mode under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transition {
    mode: HostMode,
    next: u64,
}

impl Transition {
    pub(crate) fn new(mode: HostMode) -> Self {
        Self { mode, next: 0 }
    }

    pub(crate) fn mode(&self) -> HostMode {
        self.mode
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
    pub(crate) fn host_entry(&mut self, host: &mut H, sid: u32) -> HostEntry {
        let Some(table) = self.regs.event_table else {
            return HostEntry::OutOfRange;
        };
        let address = match table.locate(host, sid) {
            Located::OutOfRange { .. } => return HostEntry::OutOfRange,
            Located::Unreadable(address) => return HostEntry::Unreadable(address),
            Located::At { address, .. } => address,
        };
        let Ok(claim) = host.claim(Ipa(address), 16) else {
            return HostEntry::Unreadable(address);
        };
        let words = (host.read64(&claim, 0), host.read64(&claim, 8));
        host.release(claim);
        match words {
            (Some(word0), Some(word1)) => match self.strtab.rules.judge(word0, word1) {
                Verdict::Invalid | Verdict::Illegal => HostEntry::Bad,
                Verdict::Legal(_) => HostEntry::Good,
            },
            _ => HostEntry::Unreadable(address),
        }
    }

    /// What the trap under way may do.
    pub(crate) fn budget(&self) -> Budget {
        weakened!(self.hw.platform(), NoBudget, { return Budget::weakened() });
        Budget::for_one_trap()
    }

    /// Continues a change of mode; `true` when it is complete and synchronised.
    pub(crate) fn step_transition(
        &mut self,
        host: &mut H,
        transition: &mut Transition,
        budget: &mut Budget,
    ) -> Result<bool, SmmuError> {
        let shared = match transition.mode {
            HostMode::Table => None,
            HostMode::Bypass => Some(Shared::Stage2),
            HostMode::Abort => Some(Shared::Abort),
        };
        while let Some(block) = self.block_at(transition.next) {
            if !budget.spend(1) {
                return Ok(false);
            }
            match shared {
                None => {
                    let Some(next) = self.reshadow_block(host, block, budget)? else {
                        return Ok(false);
                    };
                    transition.next = next;
                }
                Some(shared) => {
                    if self.strtab.is_two_level() {
                        self.strtab.set_shared(block, shared);
                        weakened!(self.hw.platform(), FreedEarly, { self.weaken_freeing() });
                    } else {
                        if !budget.spend(BLOCK) {
                            return Ok(false);
                        }
                        self.set_block(block, self.strtab.shared_ste(shared))?;
                    }
                    transition.next = next_block(block);
                }
            }
        }
        self.push(Command::CfgiAll)?;
        self.strtab.cover(None);
        self.sync()?;
        Ok(true)
    }

    /// Translates the streams of `scope` from `next` on; `true` when all of them are done.
    pub(crate) fn reshadow_scope(
        &mut self,
        host: &mut H,
        scope: Scope,
        next: &mut u64,
        budget: &mut Budget,
    ) -> Result<bool, SmmuError> {
        // While translation is off the host's table means nothing; it is read when SMMUEN goes up.
        if self.regs.table.is_none() || self.quiesced {
            return Ok(true);
        }
        let end = match scope {
            Scope::One { sid, .. } => {
                return self.reshadow_one(host, sid, budget);
            }
            Scope::Range { first, log2 } => {
                u64::from(first).saturating_add(1_u64.checked_shl(log2).unwrap_or(u64::MAX))
            }
            Scope::All => self.strtab.streams(),
        };
        while *next < end {
            let Some(block) = self.block_at(*next) else {
                break;
            };
            if !budget.spend(1) {
                return Ok(false);
            }
            match self.reshadow_block(host, block, budget)? {
                Some(after) => *next = after,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The block of `sid`; `None` beyond the table.
    fn block_at(&self, sid: u64) -> Option<u32> {
        (sid < self.strtab.streams()).then(|| low32(sid) >> SPLIT)
    }

    /// Translates one entry. A block that has no private table yet, or whose level-1 descriptor went, is done as a whole.
    fn reshadow_one(&mut self, host: &mut H, sid: u32, budget: &mut Budget) -> Result<bool, SmmuError> {
        let block = sid >> SPLIT;
        if !self.strtab.is_private(block) {
            return Ok(self.reshadow_block(host, block, budget)?.is_some());
        }
        if !budget.spend(1) {
            return Ok(false);
        }
        let group = self.fetch(host, sid, 1);
        if !group.mapped && self.strtab.is_two_level() {
            return Ok(self.reshadow_block(host, block, budget)?.is_some());
        }
        let [target, ..] = group.targets;
        self.update(sid, &[target])?;
        Ok(true)
    }

    /// Translates all entries of a block. Returns the next StreamID to do, or `None` when the budget does not cover the block.
    fn reshadow_block(&mut self, host: &mut H, block: u32, budget: &mut Budget) -> Result<Option<u64>, SmmuError> {
        let private = self.strtab.is_private(block);
        let first = block << SPLIT;
        let end = next_block(block).min(self.strtab.streams());
        let mut prepared = None;
        let mut mapped = false;
        let mut sid = u64::from(first);
        if private && !budget.spend(BLOCK) {
            return Ok(None);
        }
        while sid < end {
            let group_first = low32(sid);
            let count = usize::try_from(end.saturating_sub(sid)).unwrap_or(GROUP).min(GROUP);
            let group = self.fetch(host, group_first, count);
            mapped |= group.mapped;
            if private {
                self.update(group_first, group.targets.get(..count).unwrap_or(&[]))?;
            } else if group.mapped {
                if prepared.is_none() {
                    if !budget.spend(BLOCK) {
                        return Ok(None);
                    }
                    let Some(table) = self.strtab.prepare(&self.hw) else {
                        // No memory: the streams of this block abort.
                        bump(&mut self.stats.strtab_no_memory);
                        weakened!(self.hw.platform(), NoMemoryOpens, {
                            self.strtab.set_shared(block, Shared::Stage2);
                            return Ok(Some(next_block(block)));
                        });
                        break;
                    };
                    prepared = Some(table);
                }
                if let Some(table) = prepared.as_mut() {
                    for (index, ste) in (group_first..=u32::MAX).zip(group.targets.iter().take(count)) {
                        self.strtab.prepare_entry(table, index & (BLOCK - 1), *ste);
                    }
                }
            }
            let following = sid.saturating_add(u64::from(GROUP_U32));
            sid = if private { following } else { following.max(group.until) };
        }
        if let Some(table) = prepared {
            self.strtab.attach(&self.hw, block, table);
            self.invalidate_block(block)?;
        } else if !mapped || !private {
            // Nothing mapped, or no memory for it.
            if self.strtab.is_two_level() && self.strtab.set_shared(block, Shared::None) {
                weakened!(self.hw.platform(), FreedEarly, { self.weaken_freeing() });
                self.invalidate_block(block)?;
            }
        }
        Ok(Some(next_block(block)))
    }

    /// What a driver does that does not wait for hardware.
    #[cfg(feature = "weakened")]
    fn weaken_freeing(&mut self) {
        self.strtab.cover(None);
        self.strtab.reap();
    }

    fn invalidate_block(&mut self, block: u32) -> Result<(), SmmuError> {
        self.cfgi_pending = true;
        self.push(Command::CfgiSteRange { sid: block << SPLIT, range: SPLIT - 1 })?;
        self.strtab.cover(Some(block));
        Ok(())
    }

    /// Gives every entry of a linear block the same content.
    fn set_block(&mut self, block: u32, ste: Ste) -> Result<(), SmmuError> {
        let end = next_block(block).min(self.strtab.streams());
        // Group by group, as entries of the host are taken over: an invalidation between two stores is then one of a group.
        // The table may end within one.
        for sid in (u64::from(block << SPLIT)..end).step_by(GROUP).take(GROUPS) {
            let count = usize::try_from(end.saturating_sub(sid)).unwrap_or(GROUP).min(GROUP);
            self.update(low32(sid), [ste; GROUP].get(..count).unwrap_or(&[]))?;
        }
        Ok(())
    }

    /// Fetches and judges `count` entries from `sid` on; they lie in one group.
    fn fetch(&mut self, host: &mut H, sid: u32, count: usize) -> Group {
        let mut group = Group { targets: [self.strtab.rules.invalid(); GROUP], mapped: false, until: 0 };
        let Some(table) = self.regs.table else {
            return group;
        };
        let (address, known) = match table.locate(host, sid) {
            Located::OutOfRange { until } => {
                group.until = until;
                return group;
            }
            Located::Unreadable(_) => {
                bump(&mut self.stats.claims_refused);
                return group;
            }
            Located::At { address, count } => (address, count),
        };
        let count = u64::try_from(count).unwrap_or(0).min(known);
        let Some(bytes) = count.checked_mul(u64::try_from(STE_SIZE).unwrap_or(0)) else {
            return group;
        };
        let Ok(claim) = host.claim(Ipa(address), bytes) else {
            bump(&mut self.stats.claims_refused);
            return group;
        };
        group.mapped = true;
        let mut offset = 0_u64;
        for target in group.targets.iter_mut().take(usize::try_from(count).unwrap_or(0)) {
            let words = (host.read64(&claim, offset), host.read64(&claim, offset.saturating_add(8)));
            offset = offset.saturating_add(u64::try_from(STE_SIZE).unwrap_or(0));
            let (Some(word0), Some(word1)) = words else {
                continue;
            };
            bump(&mut self.stats.ste_updates);
            weakened!(self.hw.platform(), OffIsBypass, {
                if word0 & 0xf == 0b1001 {
                    *target = Ste { dw0: word0, dw1: word1 };
                    continue;
                }
            });
            #[cfg(feature = "weakened")]
            let read = |at: u64| host.read64(&claim, offset.wrapping_sub(64).wrapping_add(at)).unwrap_or(0);
            weakened!(self.hw.platform(), HostEntries, {
                *target = Ste { dw0: word0, dw1: word1 };
                continue;
            });
            weakened!(self.hw.platform(), EntriesTwice, {
                if matches!(self.strtab.rules.judge(word0, word1), Verdict::Legal(_)) {
                    *target = Ste { dw0: read(0), dw1: read(8) };
                }
                continue;
            });
            match self.strtab.rules.judge(word0, word1) {
                Verdict::Invalid => {}
                Verdict::Illegal => bump(&mut self.stats.ste_illegal),
                Verdict::Legal(ste) => *target = ste,
            }
            weakened!(self.hw.platform(), StallAllowed, {
                target.dw1 &= !crate::spec::mask64(crate::spec::ste::dw1::S1STALLD);
            });
        }
        host.release(claim);
        group
    }

    /// The way through a bypass that a driver without an order of stores would take.
    #[cfg(feature = "weakened")]
    fn weaken_step(&self, now: Ste, target: Ste, step: super::update::Step) -> super::update::Step {
        weakened!(self.hw.platform(), EntryOrder, {
            // The silent abort between two entries that no single store leads from one to the other.
            if now.after(step).dw0 == 1 && target.dw0 != 1 {
                return super::update::Step::Dw0(0b1001);
            }
        });
        step
    }

    /// Brings consecutive live entries to their targets, one store per entry between two synchronised invalidations.
    fn update(&mut self, first: u32, targets: &[Ste]) -> Result<(), SmmuError> {
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
                #[cfg(feature = "weakened")]
                let step = self.weaken_step(now, *target, step);
                if !stored && self.cfgi_pending {
                    // The store before this one must not be in flight any more.
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

/// Groups of a block.
const GROUPS: usize = 8;
const _: () = assert!(GROUP * GROUPS == 1 << SPLIT);

/// First StreamID after a block.
fn next_block(block: u32) -> u64 {
    (u64::from(block) + 1) << SPLIT
}
