//! Stream table entries for the oracle: only the fields that determine which bytes a stream can reach.
//!
//! An entry that changed often can be read as any combination of the old and new values of its words. Most
//! combinations are the same for the oracle: it assumes the worst stage 1, so S1ContextPtr is irrelevant, and an
//! invalid entry reaches nothing. So only the relevant bits of words are compared, versions with equal bits and
//! adjoining times are merged, and a combination is dropped if another one with the same effect is usable whenever it
//! is.

use std::rc::Rc;

use crate::arch::ste;
use crate::inval::Tag;
use crate::item::Item;
use crate::mem::Version;
use crate::stages::{CachedSte, Lookup, S1, Stages, SteKind};
use crate::view::View;

/// Relevant bits of the words of an entry [5.2]. In dword 0 V, Config, S1Fmt and S1CDMax, not S1ContextPtr; in dword 1
/// S1STALLD, EATS and STRW; all of dwords 2 and 3.
const RELEVANT: [u64; 8] = [0x3f | 0x1f << 59, 0x1f << 27, u64::MAX, u64::MAX, 0, 0, 0, 0];
/// Maximum number of combinations of one entry.
const MAX_COMBINATIONS: usize = 1 << 16;

impl View<'_> {
    /// Adds the entries that can be read from these versions of words, except those that reach nothing.
    pub(crate) fn add_reaching(&self, sid: u32, words: &[Vec<Version>], sources: &[Rc<Item>], out: &mut Vec<Lookup>) {
        let words: Vec<Vec<Version>> =
            words.iter().zip(RELEVANT).map(|(word, relevant)| merged(word, relevant)).collect();
        let Some((first, others)) = words.split_first() else { return };
        let total: usize = words.iter().map(Vec::len).product();
        self.lookup_cache.count(total);
        assert!(
            total <= MAX_COMBINATIONS,
            "a structure changed too often without a full invalidation: {total} combinations"
        );
        let mut found: Vec<CachedSte> = Vec::new();
        for &dword0 in first {
            let raw = [dword0.value, 0, 0, 0, 0, 0, 0, 0];
            if !ste::valid(&raw) || ste::config(&raw) & 0b100 == 0 {
                continue;
            }
            if ste::config(&raw) == 0b100 {
                // The other words have no effect in a bypass entry.
                add(&mut found, SteKind::Bypass, vec![dword0], sid, sources);
                continue;
            }
            for number in 0..total / first.len() {
                let combination = combination(dword0, others, number);
                let mut raw = [0; 8];
                raw.iter_mut().zip(&combination).for_each(|(to, from)| *to = from.value);
                if let SteKind::Translate(stages) = self.check_ste(&raw) {
                    add(&mut found, SteKind::Translate(reduced(stages)), combination, sid, sources);
                }
            }
        }
        out.extend(found.into_iter().map(Lookup::Found));
    }
}

/// Adds an entry unless an earlier one is usable at all its times, and removes those whose times it covers.
fn add(found: &mut Vec<CachedSte>, kind: SteKind, words: Vec<Version>, sid: u32, sources: &[Rc<Item>]) {
    let item = Item::new(Tag::Ste { sid }, words, sources.to_vec());
    if found.iter().any(|known| known.kind == kind && known.item.outlasts(&item)) {
        return;
    }
    found.retain(|known| known.kind != kind || !item.outlasts(&known.item));
    found.push(CachedSte { kind, item });
}

/// The combination of versions with this number.
fn combination(first: Version, others: &[Vec<Version>], number: usize) -> Vec<Version> {
    let mut rest = number;
    let mut out = vec![first];
    for versions in others {
        out.push(versions[rest % versions.len()]);
        rest /= versions.len();
    }
    out
}

/// The stages without the fields that are irrelevant for the oracle.
fn reduced(stages: Stages) -> Stages {
    let s1 = stages.s1.map(|_| S1 { ptr: 0, fmt: 0, cdmax: 0, dss: 0, stalld: false });
    let eats = if stages.eats == 0b01 { 0b01 } else { 0 };
    Stages { s1, eats, ..stages }
}

/// The versions of a word with its relevant bits only; equal ones with adjoining times are merged.
fn merged(word: &[Version], relevant: u64) -> Vec<Version> {
    let mut all: Vec<Version> = word.iter().map(|v| Version { value: v.value & relevant, ..*v }).collect();
    all.sort_by_key(|version| (version.value, version.start));
    let mut out: Vec<Version> = Vec::with_capacity(all.len());
    for version in all {
        match out
            .last_mut()
            .filter(|last| last.value == version.value && last.end.is_none_or(|end| end >= version.start))
        {
            Some(last) => last.end = last.end.and_then(|end| version.end.map(|other| end.max(other))),
            None => out.push(version),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(value: u64, start: u64, end: u64) -> Version {
        Version { value, start, end: Some(end).filter(|end| *end != 0) }
    }

    #[test]
    fn equal_versions_with_adjoining_times_are_merged() {
        let word =
            [version(0x10, 0, 5), version(0x11, 5, 9), version(2, 9, 12), version(0x12, 20, 0), version(0x32, 11, 13)];
        assert_eq!(
            merged(&word, 0x10),
            [version(0, 9, 12), version(0x10, 0, 9), version(0x10, 11, 13), version(0x10, 20, 0)]
        );
        assert_eq!(merged(&word, 0), [version(0, 0, 13), version(0, 20, 0)]);
    }

    #[test]
    fn every_combination_has_a_number() {
        let others = [
            vec![version(1, 0, 0), version(2, 0, 0)],
            vec![version(3, 0, 0)],
            vec![version(4, 0, 0), version(5, 0, 0)],
        ];
        let all: std::collections::BTreeSet<Vec<u64>> =
            (0..4).map(|n| combination(version(0, 0, 0), &others, n).iter().map(|v| v.value).collect()).collect();
        assert_eq!(all.len(), 4);
    }
}
