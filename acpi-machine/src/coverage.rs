//! Determines the buses of a segment whose RequesterIDs are all behind SMMUs.

use alloc::vec::Vec;

use crate::iort::Ids;

/// Number of RequesterIDs of a bus.
const PER_BUS: u64 = 1 << 8;
/// Number of RequesterIDs of a segment.
const RIDS: u64 = 1 << 16;

/// The part of `ids` from `first` up to `end`.
pub(crate) fn clipped(ids: &[Ids], first: u64, end: u64) -> Vec<Ids> {
    let part = |one: &Ids| {
        let (from, to) = (u64::from(one.first).max(first), one.end().min(end));
        let count = to.checked_sub(from).filter(|count| *count > 0)?;
        let skip = u32::try_from(from.checked_sub(one.first.into())?).ok()?;
        let stream = one.stream.checked_add(skip)?;
        Some(Ids { first: u32::try_from(from).ok()?, count, smmu: one.smmu, stream })
    };
    ids.iter().filter_map(part).collect()
}

/// The number of IDs from `first` up to `end` that are in `ids`, which has no duplicates.
fn covered(ids: &[Ids], first: u64, end: u64) -> u64 {
    clipped(ids, first, end).iter().fold(0, |sum, part| sum.saturating_add(part.count))
}

/// Whether every RequesterID of the segment is covered.
pub(crate) fn is_whole(ids: &[Ids]) -> bool {
    covered(ids, 0, RIDS) == RIDS
}

/// The first RequesterID of bus `first`, and the first one after those of bus `last`.
pub(crate) fn bounds(first: u8, last: u8) -> (u64, u64) {
    let start = |bus: u8| u64::from(bus).saturating_mul(PER_BUS);
    (start(first), start(last).saturating_add(PER_BUS))
}

/// The longest ranges of buses from `first` to `last` whose RequesterIDs are all covered.
pub(crate) fn runs(ids: &[Ids], first: u8, last: u8) -> Vec<(u8, u8)> {
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for bus in first..=last {
        let (start, end) = bounds(bus, bus);
        if covered(ids, start, end) != PER_BUS {
            continue;
        }
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(bus) => *last = bus,
            Some(_) | None => runs.push((bus, bus)),
        }
    }
    runs
}
