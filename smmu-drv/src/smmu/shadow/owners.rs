//! The owners of streams: the host, a domain, or nobody.
//!
//! EL2 records them outside the shadow table: no write of a host changes them. On most machines one owner has
//! nearly every stream, so the record is a short sorted list of the streams with another owner.

use arrayvec::ArrayVec;

use crate::smmu::stream::{BLOCK, SPLIT};
use crate::stage2::Stage2Words;

/// Maximum ranges of streams whose owner differs from that of unassigned streams.
pub const MAX_RANGES: usize = 64;
/// Maximum number of domains of one SMMU, without the host's.
pub const MAX_DOMAINS: usize = 32;

/// The owner of a stream, which determines the memory that its transactions reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOwner {
    /// The host: its stream table entry, within its stage 2.
    Host,
    /// Nobody: transactions abort.
    Blocked,
    /// The domain with this VMID: its stage 2, without stage 1.
    Domain(u16),
}

/// Consecutive StreamIDs, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRange {
    first: u32,
    last: u32,
}

impl StreamRange {
    /// `count` streams from `first` on; `None` if `count` is 0 or the last StreamID exceeds 32 bits.
    #[must_use]
    pub fn new(first: u32, count: u32) -> Option<Self> {
        let last = first.checked_add(count.checked_sub(1)?)?;
        Some(Self { first, last })
    }

    /// One stream.
    #[must_use]
    pub fn one(sid: u32) -> Self {
        Self { first: sid, last: sid }
    }

    /// The streams of a block.
    pub(super) fn of_block(block: u32) -> Self {
        let first = block << SPLIT;
        Self { first, last: first | (BLOCK - 1) }
    }

    /// The first StreamID.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// The last StreamID.
    #[must_use]
    pub fn last(self) -> u32 {
        self.last
    }

    /// Number of streams.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::from(self.last).saturating_sub(u64::from(self.first)).saturating_add(1)
    }
}

/// A list is full. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The owner of every stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owners {
    /// Owner of streams in no range.
    unassigned: StreamOwner,
    /// Sorted and disjoint; no range has the owner of unassigned streams. Adjacent ranges are not merged: streams that
    /// were set in one call can get another owner in one call without another element of this list.
    ranges: ArrayVec<(StreamRange, StreamOwner), MAX_RANGES>,
}

impl Owners {
    /// Every stream is `owner`'s.
    pub(super) const fn all(owner: StreamOwner) -> Self {
        Self { unassigned: owner, ranges: ArrayVec::new_const() }
    }

    /// Every stream is `owner`'s again.
    pub(super) fn reset(&mut self, owner: StreamOwner) {
        self.unassigned = owner;
        self.ranges.clear();
    }

    /// The first range that ends at `sid` or after it.
    fn at(&self, sid: u32) -> Option<&(StreamRange, StreamOwner)> {
        self.ranges.get(self.ranges.partition_point(|(range, _)| range.last < sid))
    }

    /// The owner of `sid`.
    #[inline]
    pub(super) fn of(&self, sid: u32) -> StreamOwner {
        match self.at(sid) {
            Some((range, owner)) if range.first <= sid => *owner,
            Some(_) | None => self.unassigned,
        }
    }

    /// The owner of all of `streams`, if they have one.
    #[inline]
    pub(super) fn of_all(&self, streams: StreamRange) -> Option<StreamOwner> {
        let from = self.ranges.partition_point(|(range, _)| range.last < streams.first);
        match self.ranges.get(from) {
            Some((range, _)) if range.first <= streams.last => self.of_ranges(from, streams),
            Some(_) | None => Some(self.unassigned),
        }
    }

    /// The same, if the range at `from` contains one of `streams`.
    #[cold]
    fn of_ranges(&self, from: usize, streams: StreamRange) -> Option<StreamOwner> {
        let owner = self.of(streams.first);
        let mut next = streams.first;
        for (range, of) in self.ranges.iter().skip(from) {
            if range.first > next || *of != owner {
                return None;
            }
            if range.last >= streams.last {
                return Some(owner);
            }
            next = range.last.saturating_add(1);
        }
        None
    }

    /// Whether a stream belongs to the domain with `vmid`.
    pub(super) fn has_domain(&self, vmid: u16) -> bool {
        self.ranges.iter().any(|(_, owner)| *owner == StreamOwner::Domain(vmid))
    }

    /// A copy in which `streams` belong to `owner`.
    ///
    /// # Errors
    /// There are too many ranges.
    pub(super) fn with(&self, streams: StreamRange, owner: StreamOwner) -> Result<Self, Full> {
        let mut ranges = ArrayVec::new_const();
        let mut placed = owner == self.unassigned;
        for &(range, of) in &self.ranges {
            if range.first < streams.first {
                let last = range.last.min(streams.first.saturating_sub(1));
                push(&mut ranges, StreamRange { first: range.first, last }, of)?;
            }
            if !placed && range.last >= streams.first {
                push(&mut ranges, streams, owner)?;
                placed = true;
            }
            if range.last > streams.last {
                let first = range.first.max(streams.last.saturating_add(1));
                push(&mut ranges, StreamRange { first, last: range.last }, of)?;
            }
        }
        if !placed {
            push(&mut ranges, streams, owner)?;
        }
        Ok(Self { unassigned: self.unassigned, ranges })
    }
}

/// The stage 2 of each domain, from the assignment of its first stream until its VMID is retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Domains(ArrayVec<(u16, Stage2Words), MAX_DOMAINS>);

/// Why a domain cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DomainError {
    /// The VMID is in use with another stage 2.
    VmidInUse,
    /// There are already [`MAX_DOMAINS`] domains.
    Full,
}

impl Domains {
    /// No domains.
    pub(super) const fn new() -> Self {
        Self(ArrayVec::new_const())
    }

    /// Removes all domains.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The stage 2 that `vmid` has.
    pub(super) fn get(&self, vmid: u16) -> Option<Stage2Words> {
        self.0.iter().find(|(known, _)| *known == vmid).map(|(_, words)| *words)
    }

    /// Every domain: its VMID and its stage 2.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, Stage2Words)> {
        self.0.iter().copied()
    }

    /// Whether `vmid` can have `words`. A table can have one VMID only: an invalidation by one VMID would not remove
    /// entries cached with another.
    pub(super) fn check(&self, vmid: u16, words: Stage2Words) -> Result<(), DomainError> {
        if self.0.iter().any(|(known, other)| *known != vmid && other.dw3 == words.dw3) {
            return Err(DomainError::VmidInUse);
        }
        match self.get(vmid) {
            Some(known) if known == words => Ok(()),
            Some(_) => Err(DomainError::VmidInUse),
            None if self.0.is_full() => Err(DomainError::Full),
            None => Ok(()),
        }
    }

    /// `vmid` has `words` from now on, until [`Domains::remove`]; the caller has called [`Domains::check`].
    pub(super) fn add(&mut self, vmid: u16, words: Stage2Words) {
        if self.get(vmid).is_none() {
            // Cannot fail: the caller has checked the capacity.
            let _ = self.0.try_push((vmid, words));
        }
    }

    /// Removes the record of `vmid`.
    pub(super) fn remove(&mut self, vmid: u16) {
        if let Some(at) = self.0.iter().position(|(known, _)| *known == vmid) {
            let _ = self.0.swap_pop(at);
        }
    }
}

/// Appends a range.
fn push(
    ranges: &mut ArrayVec<(StreamRange, StreamOwner), MAX_RANGES>,
    range: StreamRange,
    owner: StreamOwner,
) -> Result<(), Full> {
    ranges.try_push((range, owner)).map_err(|_| Full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    impl Owners {
        fn set(&mut self, streams: StreamRange, owner: StreamOwner) -> Result<(), Full> {
            *self = self.with(streams, owner)?;
            Ok(())
        }
    }

    const OWNERS: [StreamOwner; 4] =
        [StreamOwner::Host, StreamOwner::Blocked, StreamOwner::Domain(2), StreamOwner::Domain(3)];

    /// Pseudo-random numbers.
    fn random(state: &mut u64) -> u32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(*state >> 33).unwrap()
    }

    /// Checks that the list is sorted and disjoint, and has no range of the default owner.
    fn check(owners: &Owners) {
        for pair in owners.ranges.windows(2) {
            let [(left, _), (right, _)] = pair else { unreachable!() };
            assert!(left.last < right.first, "{owners:?}");
        }
        assert!(
            owners.ranges.iter().all(|(range, of)| range.first <= range.last && *of != owners.unassigned),
            "{owners:?}"
        );
    }

    #[test]
    fn every_stream_has_the_owner_that_was_last_set() {
        let mut state = 1;
        for round in 0..200 {
            let unassigned = OWNERS[round % 2];
            let (mut owners, mut plain) = (Owners::all(unassigned), Vec::from([unassigned; 40]));
            for _ in 0..30 {
                let (first, count) = (random(&mut state) % 40, random(&mut state) % 8 + 1);
                let count = count.min(40 - first);
                let owner = OWNERS[random(&mut state) as usize % 4];
                owners.set(StreamRange::new(first, count).unwrap(), owner).unwrap();
                plain[first as usize..(first + count) as usize].fill(owner);
                check(&owners);
                for (sid, owner) in (0..).zip(&plain) {
                    assert_eq!(owners.of(sid), *owner, "{sid}: {owners:?}");
                    for end in sid..40 {
                        let part = &plain[sid as usize..=end as usize];
                        let all = part.iter().all(|of| of == owner).then_some(*owner);
                        assert_eq!(
                            owners.of_all(StreamRange { first: sid, last: end }),
                            all,
                            "{sid} to {end}: {owners:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_lowest_and_highest_stream_ids_can_be_assigned() {
        let mut owners = Owners::all(StreamOwner::Host);
        owners.set(StreamRange::new(u32::MAX, 1).unwrap(), StreamOwner::Blocked).unwrap();
        owners.set(StreamRange::one(0), StreamOwner::Domain(2)).unwrap();
        assert_eq!(
            (owners.of(0), owners.of(1), owners.of(u32::MAX)),
            (StreamOwner::Domain(2), StreamOwner::Host, StreamOwner::Blocked)
        );
        owners.set(StreamRange::new(0, u32::MAX).unwrap(), StreamOwner::Blocked).unwrap();
        assert_eq!(
            (owners.of(0), owners.of(u32::MAX), owners.ranges.len()),
            (StreamOwner::Blocked, StreamOwner::Blocked, 2)
        );
        assert_eq!(
            (StreamRange::new(1, 0), StreamRange::new(1, u32::MAX).map(StreamRange::last)),
            (None, Some(u32::MAX))
        );
        assert_eq!(StreamRange::new(2, u32::MAX), None);
    }

    #[test]
    fn too_many_ranges_change_nothing() {
        let mut owners = Owners::all(StreamOwner::Host);
        for n in 0..u32::try_from(MAX_RANGES).unwrap() {
            owners.set(StreamRange::one(2 * n), StreamOwner::Blocked).unwrap();
        }
        let before = owners.clone();
        assert_eq!(owners.set(StreamRange::one(1000), StreamOwner::Blocked), Err(Full));
        // A change in the middle of a range adds two ranges.
        assert_eq!(owners, before);
        // Streams that were set in one call can always be changed in one call.
        owners.set(StreamRange::one(2), StreamOwner::Domain(2)).unwrap();
        assert_eq!((owners.of(1), owners.of(2)), (StreamOwner::Host, StreamOwner::Domain(2)));
    }
}
