//! Changes of the owner of streams, during DMA.
//!
//! The entry of a stream that is not the host's depends only on its domain: stage 2 only. Its dwords 2 and 3 differ
//! from those of the host, so there is no order of single stores in which each state of the entry is the old or the
//! new one [S 3.21.3]. The entry is first changed to an abort, which uses no other dword; then dwords 1 to 3 change;
//! then dword 0. Each of the three is invalidated and synchronised before the next. When the first is complete, no
//! transaction of the old owner is in progress any more [S 4.7.3].

use super::change::SteStore;
use super::owners::{DomainError, Owners, StreamOwner, StreamRange};
use super::refresh::Hardware;
use super::{Reserve, ShadowTable, Shape, Shared};
use crate::command::{Command, Depth};
use crate::error::SmmuError;
use crate::platform::DmaBuffer;
use crate::smmu::stream::{BLOCK, SPLIT};
use crate::spec::ste::L1STD_SIZE;
use crate::stage2::Stage2Words;

/// Maximum streams that change their owner in one call: a block. They are in at most two blocks.
pub const MAX_ASSIGNED: u64 = 1 << SPLIT;

/// Why streams did not change their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignError {
    /// More than [`MAX_ASSIGNED`] streams, or one that the stream table does not cover. Nothing changed.
    Range,
    /// The streams have an owner: they must be blocked, and the device stopped, before they get another owner. Nothing
    /// changed.
    NotBlocked,
    /// The SMMU does not accept this stage 2. Nothing changed.
    BadStage2(&'static str),
    /// The VMID belongs to the host, or is in use with another stage 2; or the table belongs to the host, or is in use
    /// with another VMID. Nothing
    /// changed.
    VmidInUse,
    /// More than [`MAX_DOMAINS`](crate::MAX_DOMAINS) domains, or [`MAX_RANGES`](crate::MAX_RANGES) ranges of streams.
    /// Nothing changed.
    TooMany,
    /// No memory for a level-2 table. Nothing changed.
    NoMemory,
    /// The SMMU is quiesced: every stream aborts permanently. Nothing changed.
    Quiesced,
    /// The SMMU failed, now or earlier. The streams have their old owner or none; until
    /// [`Smmu::quiesce`](crate::Smmu::quiesce) they may still reach the memory of the old owner, or already that of
    /// the new one.
    Failed(SmmuError),
}

impl From<SmmuError> for AssignError {
    fn from(error: SmmuError) -> Self {
        Self::Failed(error)
    }
}

impl core::fmt::Display for AssignError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Range => write!(f, "more than {MAX_ASSIGNED} streams, or beyond the stream table"),
            Self::NotBlocked => f.write_str("the streams have an owner: block them first"),
            Self::BadStage2(why) => f.write_str(why),
            Self::VmidInUse => f.write_str("the VMID is in use with another stage 2, or the table with another VMID"),
            Self::TooMany => f.write_str("too many domains, or ranges of streams with different owners"),
            Self::NoMemory => f.write_str("no memory for a level-2 stream table"),
            Self::Quiesced => f.write_str("the SMMU is quiesced"),
            Self::Failed(error) => write!(f, "the SMMU failed: {error}"),
        }
    }
}

impl core::error::Error for AssignError {}

/// Why a VMID cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetireError {
    /// A stream still belongs to the domain, or the domain is the host. Nothing changed.
    InUse,
    /// The SMMU failed: translations with the VMID may still be cached.
    Failed(SmmuError),
}

impl From<SmmuError> for RetireError {
    fn from(error: SmmuError) -> Self {
        Self::Failed(error)
    }
}

impl core::fmt::Display for RetireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::InUse => f.write_str("a stream still belongs to the domain, or the domain is the host's"),
            Self::Failed(error) => write!(f, "the SMMU failed: {error}"),
        }
    }
}

impl core::error::Error for RetireError {}

impl<B: DmaBuffer> ShadowTable<B> {
    /// The owner of a stream.
    #[inline]
    pub(crate) fn owner(&self, sid: u32) -> StreamOwner {
        self.owners.of(sid)
    }

    /// Whether the host owns a stream.
    #[inline]
    pub(crate) fn is_hosts(&self, sid: u32) -> bool {
        self.owner(sid) == StreamOwner::Host
    }

    /// The owner of all streams of a block, if they have one.
    pub(super) fn owner_of_block(&self, block: u32) -> Option<StreamOwner> {
        self.owners.of_all(StreamRange::of_block(block))
    }

    /// The stage 2 that the entries of `owner` have; `None` if it has none or is an unknown domain.
    pub(super) fn words_of(&self, owner: StreamOwner) -> Option<Stage2Words> {
        match owner {
            StreamOwner::Host => Some(self.words),
            StreamOwner::Blocked => None,
            StreamOwner::Domain(vmid) => self.domains.get(vmid),
        }
    }

    /// Whether nobody owns any of `streams`.
    ///
    /// # Errors
    /// [`AssignError::Range`].
    pub(crate) fn is_blocked(&self, streams: StreamRange) -> Result<bool, AssignError> {
        if streams.count() > MAX_ASSIGNED || u64::from(streams.last()) >= self.streams() {
            return Err(AssignError::Range);
        }
        Ok(self.owners.of_all(streams) == Some(StreamOwner::Blocked))
    }

    /// Makes `streams` abort; when this returns, no earlier transaction is in progress in the SMMU. They keep their
    /// owner until [`ShadowTable::take`].
    ///
    /// # Errors
    /// [`AssignError::TooMany`], [`AssignError::NoMemory`] or [`AssignError::Failed`].
    pub(crate) fn abort(&mut self, device: &mut impl Hardware<B>, streams: StreamRange) -> Result<(), AssignError> {
        if self.quiesced {
            return Ok(());
        }
        self.with_owner(streams, StreamOwner::Blocked)?;
        if let Some(block) = whole_block(streams).filter(|_| self.is_two_level()) {
            self.set_shared(block, Shared::Abort);
            self.invalidate_block(device, block)?;
        } else {
            self.make_private(device, streams)?;
            self.store_all(streams, Shared::Abort);
            self.invalidate_streams(device, streams)?;
        }
        Ok(self.complete(device)?)
    }

    /// Records that `streams`, which abort, belong to nobody. Their entries get the host's stage 2 again, so that a
    /// block whose streams all belong to the host or to nobody can share a table.
    ///
    /// # Errors
    /// [`AssignError::Failed`]; [`AssignError::TooMany`], but not after [`ShadowTable::abort`].
    pub(crate) fn take(&mut self, device: &mut impl Hardware<B>, streams: StreamRange) -> Result<(), AssignError> {
        // First the owner: if hardware fails in between, an entry of nobody may have the stage 2 of either.
        self.owners = self.with_owner(streams, StreamOwner::Blocked)?;
        self.put_words(streams, self.words);
        if self.quiesced {
            // An abort entry uses dword 0 only, and nobody gets a stream of this SMMU any more.
            return Ok(());
        }
        self.invalidate_streams(device, streams)?;
        Ok(self.complete(device)?)
    }

    /// Gives `streams`, which nobody owns, to the host: they abort until its entries are shadowed.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub(crate) fn release(&mut self, device: &mut impl Hardware<B>, streams: StreamRange) -> Result<(), AssignError> {
        self.check_free(streams)?;
        let owners = self.with_owner(streams, StreamOwner::Host)?;
        // A block with streams of other owners then has a private table.
        if whole_block(streams).is_none() {
            self.make_private(device, streams)?;
        }
        self.owners = owners;
        Ok(())
    }

    /// Assigns `streams`, which nobody owns, to the domain with `vmid` and the stage 2 `words`: they reach its memory
    /// when this returns.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub(crate) fn assign(
        &mut self,
        device: &mut impl Hardware<B>,
        streams: StreamRange,
        vmid: u16,
        words: Stage2Words,
    ) -> Result<(), AssignError> {
        self.check_free(streams)?;
        let owners = self.with_owner(streams, StreamOwner::Domain(vmid))?;
        if self.words != Stage2Words::NONE && words.dw3 == self.words.dw3 {
            return Err(AssignError::VmidInUse);
        }
        self.domains.check(vmid, words).map_err(|error| match error {
            DomainError::VmidInUse => AssignError::VmidInUse,
            DomainError::Full => AssignError::TooMany,
        })?;
        self.make_private(device, streams)?;
        // Translations with this VMID may be cached after this.
        self.domains.add(vmid, words);
        let done = self.enter_domain(device, streams, words);
        if done.is_ok() {
            self.owners = owners;
        } else {
            self.store_all(streams, Shared::Abort);
        }
        Ok(done?)
    }

    fn check_free(&self, streams: StreamRange) -> Result<(), AssignError> {
        if self.quiesced {
            return Err(AssignError::Quiesced);
        }
        if self.is_blocked(streams)? { Ok(()) } else { Err(AssignError::NotBlocked) }
    }

    fn enter_domain(
        &mut self,
        device: &mut impl Hardware<B>,
        streams: StreamRange,
        words: Stage2Words,
    ) -> Result<(), SmmuError> {
        self.put_words(streams, words);
        self.invalidate_streams(device, streams)?;
        self.complete(device)?;
        self.store_all(streams, Shared::Stage2);
        self.invalidate_streams(device, streams)?;
        self.complete(device)
    }

    /// Stores dword 0 of `shared` into the entries of `streams`.
    fn store_all(&mut self, streams: StreamRange, shared: Shared) {
        let word = self.shared_ste(shared).dw0;
        for sid in streams.first()..=streams.last() {
            self.store(sid, SteStore::Dw0(word));
        }
    }

    /// Invalidates everything of a domain that has no streams any more, and removes its stage 2: the VMID can be used
    /// with another stage 2 when this returns.
    ///
    /// # Errors
    /// See [`RetireError`].
    pub(crate) fn retire(&mut self, device: &mut impl Hardware<B>, vmid: u16) -> Result<(), RetireError> {
        if self.owners.has_domain(vmid) {
            return Err(RetireError::InUse);
        }
        device.push(Command::TlbiS12Vmall { vmid })?;
        self.complete(device)?;
        self.domains.remove(vmid);
        Ok(())
    }

    /// Whether a domain has, or had, streams here since its VMID was last retired.
    pub(crate) fn has_domain(&self, vmid: u16) -> bool {
        self.domains.get(vmid).is_some()
    }

    /// Frees the private tables of blocks of `streams` whose streams all belong to nobody, if unassigned streams
    /// abort.
    ///
    /// # Errors
    /// The SMMU is failed.
    pub(crate) fn share_blocked(
        &mut self,
        device: &mut impl Hardware<B>,
        streams: StreamRange,
    ) -> Result<(), SmmuError> {
        for block in blocks(streams) {
            let blocked = self.owner_of_block(block) == Some(StreamOwner::Blocked);
            if blocked && self.is_two_level() && self.set_shared(block, Shared::Abort) {
                self.invalidate_block(device, block)?;
                self.complete(device)?;
            }
        }
        Ok(())
    }

    /// The owners after a change of `streams` to `owner`.
    fn with_owner(&self, streams: StreamRange, owner: StreamOwner) -> Result<Owners, AssignError> {
        self.owners.with(streams, owner).map_err(|_| AssignError::TooMany)
    }

    /// Gives blocks of `streams` that share a table private ones with the same entries: all of them, or none.
    fn make_private(&mut self, device: &mut impl Hardware<B>, streams: StreamRange) -> Result<(), AssignError> {
        let shared = || blocks(streams).filter(|block| !self.is_private(*block));
        let wanted = shared().fold(0_usize, |wanted, _| wanted.saturating_add(1));
        if wanted == 0 {
            return Ok(());
        }
        if self.free_slots() < wanted {
            return Err(AssignError::NoMemory);
        }
        // There are at most two: MAX_ASSIGNED streams are in at most two blocks.
        let mut tables = [const { None }; 2];
        for (block, place) in shared().zip(&mut tables) {
            let mut table = self.prepare(device.platform(), Reserve::Used).ok_or(AssignError::NoMemory)?;
            let ste = self.shared_ste(self.shared(block));
            for entry in 0..BLOCK {
                self.prepare_entry(&mut table, entry, ste);
            }
            *place = Some((block, table));
        }
        for (block, table) in tables.into_iter().flatten() {
            self.attach(device.platform(), block, table);
            self.invalidate_block(device, block)?;
        }
        Ok(self.complete(device)?)
    }

    /// The shared configuration of a block without a private table.
    fn shared(&self, block: u32) -> Shared {
        let Shape::TwoLevel(two) = &self.shape else { return Shared::None };
        let descriptor = two.l1.read64(super::index(block).saturating_mul(L1STD_SIZE));
        if descriptor == two.stage2.link.descriptor() {
            Shared::Stage2
        } else if descriptor == two.abort.link.descriptor() {
            Shared::Abort
        } else {
            Shared::None
        }
    }

    /// Changes dwords 1 to 3 of abort entries.
    fn put_words(&mut self, streams: StreamRange, words: Stage2Words) {
        for sid in streams.first()..=streams.last() {
            self.store(sid, SteStore::Dw1(self.fixed.dw1));
            self.store_words(sid, words);
        }
    }

    /// Queues the invalidation of the entries of `streams`.
    fn invalidate_streams(&mut self, device: &mut impl Hardware<B>, streams: StreamRange) -> Result<(), SmmuError> {
        self.cfgi_pending = true;
        if streams.count() == 1 {
            return device.push(Command::CfgiSte { sid: streams.first(), depth: Depth::Leaf });
        }
        blocks(streams)
            .try_for_each(|block| device.push(Command::CfgiSteRange { sid: block << SPLIT, range: SPLIT - 1 }))
    }

    /// Waits until all queued commands are complete.
    fn complete(&mut self, device: &mut impl Hardware<B>) -> Result<(), SmmuError> {
        device.sync()?;
        self.synchronised();
        Ok(())
    }
}

/// The block that `streams` form, if they are exactly one.
fn whole_block(streams: StreamRange) -> Option<u32> {
    (streams.count() == u64::from(BLOCK) && streams.first() & (BLOCK - 1) == 0).then_some(streams.first() >> SPLIT)
}

/// The blocks of `streams`.
pub(super) fn blocks(streams: StreamRange) -> core::ops::RangeInclusive<u32> {
    streams.first() >> SPLIT..=streams.last() >> SPLIT
}
