//! Streams change their owner, under DMA.
//!
//! The entry of a stream that is not the host's depends on its domain alone: stage 2 only. Its dwords 2 and 3 differ from those of
//! the host, so there is no order of single stores in which each state of the entry is the old or the new one [S 3.21.3]. The
//! entry is made an abort first, which uses no other dword; then dwords 1 to 3 change; then dword 0. Each of the three is
//! invalidated and synchronised before the next. When the first is complete, no transaction of the old owner is in progress any
//! more [S 4.7.3].

use super::change::SteStore;
use super::owners::{DomainError, Owners, StreamOwner, StreamRange};
use super::refresh::Hardware;
use super::{ShadowTable, Shape, Shared};
use crate::command::{Command, Depth};
use crate::error::SmmuError;
use crate::platform::DmaBuffer;
use crate::smmu::stream::{BLOCK, SPLIT};
use crate::spec::ste::L1STD_SIZE;
use crate::stage2::Stage2Words;

/// Maximum streams that change their owner in one call: a block. They lie in two blocks at most.
pub const MAX_ASSIGNED: u64 = 1 << SPLIT;

/// Why streams did not change their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignError {
    /// More than [`MAX_ASSIGNED`] streams, or one that the stream table does not cover. Nothing changed.
    Range,
    /// The SMMU does not accept this stage 2. Nothing changed.
    BadStage2(&'static str),
    /// The VMID is the host's, or is in use with another stage 2. Nothing changed.
    VmidInUse,
    /// Too many domains, or ranges of streams with different owners. Nothing changed.
    TooMany,
    /// No memory for a level-2 table. Nothing changed.
    NoMemory,
    /// The SMMU is quiesced: every stream aborts for good. Nothing changed.
    Quiesced,
    /// The SMMU failed, now or before. The streams belong to nobody, unless it had failed before; they may still reach what they
    /// reached before, or what they were to reach.
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
            Self::BadStage2(why) => f.write_str(why),
            Self::VmidInUse => f.write_str("the VMID is in use with another stage 2"),
            Self::TooMany => f.write_str("too many domains, or ranges of streams with different owners"),
            Self::NoMemory => f.write_str("no memory for a level-2 stream table"),
            Self::Quiesced => f.write_str("the SMMU is quiesced"),
            Self::Failed(error) => write!(f, "the SMMU failed: {error}"),
        }
    }
}

/// Why a VMID cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetireError {
    /// A stream still belongs to the domain, or it is the host's. Nothing changed.
    InUse,
    /// The SMMU failed: translations with the VMID may still be cached.
    Failed(SmmuError),
}

impl From<SmmuError> for RetireError {
    fn from(error: SmmuError) -> Self {
        Self::Failed(error)
    }
}

/// Whose the streams are to be: the host's, or those of the domain with this VMID and stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewOwner {
    /// The host; its entries are entered afterwards.
    Host,
    /// A domain.
    Domain(u16, Stage2Words),
}

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

    /// The stage 2 of `owner` in its entries; that of the host where there is none.
    pub(super) fn words_of(&self, owner: StreamOwner) -> Stage2Words {
        match owner {
            StreamOwner::Host | StreamOwner::Blocked => self.words,
            StreamOwner::Domain(vmid) => self.domains.get(vmid).unwrap_or(self.words),
        }
    }

    /// Takes `streams` from their owners: they abort when this returns, and no transaction of before is in progress.
    ///
    /// `next` is whose they will be, so that what [`ShadowTable::give`] needs is known to be there.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub(crate) fn take(
        &mut self,
        device: &mut impl Hardware<B>,
        streams: StreamRange,
        next: Option<NewOwner>,
    ) -> Result<(), AssignError> {
        if self.quiesced {
            return Err(AssignError::Quiesced);
        }
        if streams.count() > MAX_ASSIGNED || u64::from(streams.last()) >= self.streams() {
            return Err(AssignError::Range);
        }
        let blocked = self.with_owner(streams, StreamOwner::Blocked)?;
        let mut domains = self.domains.clone();
        match next {
            Some(NewOwner::Domain(vmid, words)) => {
                self.with_owner(streams, StreamOwner::Domain(vmid))?;
                domains.add(vmid, words).map_err(|error| match error {
                    DomainError::VmidInUse => AssignError::VmidInUse,
                    DomainError::Full => AssignError::TooMany,
                })?;
            }
            Some(NewOwner::Host) => drop(self.with_owner(streams, StreamOwner::Host)?),
            None => {}
        }
        for block in blocks(streams) {
            self.make_private(device, block)?;
        }
        (self.owners, self.domains) = (blocked, domains);
        self.store_all(streams, Shared::Abort);
        self.complete_streams(device, streams)?;
        self.put_words(device, streams, self.words)?;
        Ok(())
    }

    /// Gives `streams`, which were just taken, to their new owner. Those of a domain reach its stage 2 when this returns; those of
    /// the host abort until its entries are entered.
    ///
    /// # Errors
    /// [`AssignError::Failed`], or [`AssignError::TooMany`] if they were not taken for this owner.
    pub(crate) fn give(
        &mut self,
        device: &mut impl Hardware<B>,
        streams: StreamRange,
        next: NewOwner,
    ) -> Result<(), AssignError> {
        let NewOwner::Domain(vmid, words) = next else {
            self.owners = self.with_owner(streams, StreamOwner::Host)?;
            return Ok(());
        };
        let owners = self.with_owner(streams, StreamOwner::Domain(vmid))?;
        self.put_words(device, streams, words)?;
        self.store_all(streams, Shared::Stage2);
        if let Err(error) = self.complete_streams(device, streams) {
            self.store_all(streams, Shared::Abort);
            return Err(error.into());
        }
        self.owners = owners;
        Ok(())
    }

    /// Stores dword 0 of `shared` into the entries of `streams`.
    fn store_all(&mut self, streams: StreamRange, shared: Shared) {
        let word = self.shared_ste(shared).dw0;
        for sid in streams.first()..=streams.last() {
            self.store(sid, SteStore::Dw0(word));
        }
    }

    /// Invalidates everything of a domain that has no streams any more, and forgets its stage 2: the VMID can be used with another
    /// one when this returns.
    ///
    /// # Errors
    /// See [`RetireError`].
    pub(crate) fn retire(&mut self, device: &mut impl Hardware<B>, vmid: u16) -> Result<(), RetireError> {
        if self.owners.has_domain(vmid) {
            return Err(RetireError::InUse);
        }
        if self.domains.get(vmid).is_some() {
            device.push(Command::TlbiS12Vmall { vmid })?;
            device.sync()?;
            self.synchronised();
            self.domains.remove(vmid);
        }
        Ok(())
    }

    /// Frees the private tables of blocks of `streams` whose streams all belong to nobody, where that is what unassigned streams do.
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
                device.sync()?;
                self.synchronised();
            }
        }
        Ok(())
    }

    /// The owners, if `streams` were `owner`'s.
    fn with_owner(&self, streams: StreamRange, owner: StreamOwner) -> Result<Owners, AssignError> {
        let mut owners = self.owners.clone();
        owners.set(streams, owner).map_err(|_| AssignError::TooMany)?;
        Ok(owners)
    }

    /// Gives a block that shares a table a private one, with the same entries.
    fn make_private(&mut self, device: &mut impl Hardware<B>, block: u32) -> Result<(), AssignError> {
        if self.is_private(block) {
            return Ok(());
        }
        let Some(mut prepared) = self.prepare(device.platform()) else { return Err(AssignError::NoMemory) };
        let ste = self.shared_ste(self.shared(block));
        for entry in 0..BLOCK {
            self.prepare_entry(&mut prepared, entry, ste);
        }
        self.attach(device.platform(), block, prepared);
        self.invalidate_block(device, block)?;
        device.sync()?;
        self.synchronised();
        Ok(())
    }

    /// What the streams of a block without a private table do.
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

    /// Changes dwords 1 to 3 of entries that abort.
    fn put_words(
        &mut self,
        device: &mut impl Hardware<B>,
        streams: StreamRange,
        words: Stage2Words,
    ) -> Result<(), SmmuError> {
        for sid in streams.first()..=streams.last() {
            self.store(sid, SteStore::Dw1(self.fixed.dw1));
            self.store_words(sid, words);
        }
        self.complete_streams(device, streams)
    }

    /// Invalidates the entries of `streams`; complete when it returns.
    fn complete_streams(&mut self, device: &mut impl Hardware<B>, streams: StreamRange) -> Result<(), SmmuError> {
        self.cfgi_pending = true;
        if streams.count() == 1 {
            device.push(Command::CfgiSte { sid: streams.first(), depth: Depth::Leaf })?;
        } else {
            for block in blocks(streams) {
                device.push(Command::CfgiSteRange { sid: block << SPLIT, range: SPLIT - 1 })?;
            }
        }
        device.sync()?;
        self.synchronised();
        Ok(())
    }
}

/// The blocks in which `streams` lie.
pub(super) fn blocks(streams: StreamRange) -> core::ops::RangeInclusive<u32> {
    streams.first() >> SPLIT..=streams.last() >> SPLIT
}
