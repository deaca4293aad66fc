//! One page: its words, and the other values that observers may read of them.
//!
//! Tests and fuzzing store whole tables, so a store must not allocate. All changes of the words of a page are in one
//! list, in the order of time, and each record has the number of the previous record of the same word.

use super::{PAGE, Time, Version};

/// Words of a page.
pub(super) const WORDS: usize = 512;

#[derive(Clone)]
pub(super) struct Page {
    words: [u64; WORDS],
    /// Older values that caches may hold, if any.
    history: Option<Box<History>>,
    /// Changes with each modification. Pages with the same stamp are equal.
    pub(super) stamp: u64,
    /// The stamp of the last change that made a value readable; dropping history does not count.
    pub(super) value_stamp: u64,
}

#[derive(Clone)]
struct History {
    /// For each word the number of its latest record, counted from 1; 0 if it has none.
    last: [u32; WORDS],
    records: Vec<Record>,
    /// A bit for each word that has a pending store: a search through the records of such a word would be slow.
    pending: [u64; WORDS / 64],
    /// No record has an end before this time.
    over: Time,
}

#[derive(Clone, Copy)]
struct Record {
    value: u64,
    start: Time,
    /// Number of the previous record of the same word, counted from 1.
    before: u32,
    word: u16,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All observers read it from `start` until the start of the next record of this kind.
    Certain,
    /// It could be read until this time, in addition to the ordered value.
    Early(Time),
    /// A store not yet ordered by a barrier.
    Stored,
    /// A cleaned store not yet ordered by a barrier.
    Cleaned,
}

impl Kind {
    fn is_pending(self) -> bool {
        matches!(self, Self::Stored | Self::Cleaned)
    }
}

/// How a barrier handles the stores to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BarrierEffect {
    /// All are ordered.
    All,
    /// Those up to the last cleaned one are ordered.
    Cleaned,
    /// None: they are dropped.
    Discarded,
}

impl Page {
    pub(super) const EMPTY: Self = Self { words: [0; WORDS], history: None, stamp: 0, value_stamp: 0 };

    pub(super) fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    pub(super) fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    pub(super) fn changes(&mut self, stamp: u64) {
        self.stamp = stamp;
        self.value_stamp = stamp;
    }

    /// Sets a word that has no history.
    pub(super) fn set(&mut self, index: usize, value: u64) {
        if let Some(word) = self.words.get_mut(index) {
            *word = value;
        }
    }

    /// From `now` on all observers read `value`.
    pub(super) fn set_at(&mut self, index: usize, value: u64, now: Time) {
        let old = self.word(index);
        if !self.records(index).any(|record| record.kind == Kind::Certain) {
            self.add(index, old, 0, Kind::Certain, now);
        }
        self.add(index, value, now, Kind::Certain, now);
        self.set(index, value);
    }

    /// A store that is pending from `now` on.
    pub(super) fn store(&mut self, index: usize, value: u64, now: Time) {
        self.add(index, value, now, Kind::Stored, now);
    }

    /// The value of the last pending store to a word.
    pub(super) fn pending(&self, index: usize) -> Option<u64> {
        self.history.as_ref().filter(|history| history.is_pending(index))?;
        self.records(index).find(|record| record.kind.is_pending()).map(|record| record.value)
    }

    /// Cleans the pending stores to a word.
    pub(super) fn clean(&mut self, index: usize) {
        self.each_pending(index, |record| record.kind = Kind::Cleaned);
    }

    /// Orders or drops pending stores at `now`; returns whether a store to the word is still pending.
    pub(super) fn apply_barrier(&mut self, index: usize, ends: BarrierEffect, now: Time) -> bool {
        let mut newest = None;
        let mut left = false;
        self.each_pending(index, |record| {
            // The latest store comes first.
            if newest.is_none() && ends == BarrierEffect::Cleaned && record.kind == Kind::Stored {
                left = true;
                return;
            }
            newest.get_or_insert(record.value);
            record.kind = Kind::Early(now);
        });
        if let Some(history) = self.history.as_deref_mut().filter(|_| newest.is_some()) {
            history.over = history.over.min(now);
            if !left && let Some(bits) = history.pending.get_mut(index / 64) {
                *bits &= !(1 << (index % 64));
            }
        }
        if let Some(value) = newest.filter(|value| ends != BarrierEffect::Discarded && *value != self.word(index)) {
            self.set_at(index, value, now);
        }
        left
    }

    /// Whether observers may read more than one value of a word.
    pub(super) fn has_history(&self, index: usize) -> bool {
        self.history.as_ref().is_some_and(|history| history.last.get(index).is_some_and(|last| *last != 0))
    }

    /// The words with history.
    pub(super) fn words_with_history(&self) -> impl Iterator<Item = usize> {
        let last = self.history.iter().flat_map(|history| history.last.iter().enumerate());
        last.filter(|(_, last)| **last != 0).map(|(index, _)| index)
    }

    /// Every value that a word had since `from`: first the ordered values, oldest first, then the values of stores
    /// that no barrier has ordered. Ended values come before those that can be read now.
    pub(super) fn versions(&self, index: usize, from: Time) -> Vec<Version> {
        if !self.has_history(index) {
            return vec![Version { value: self.word(index), start: 0, end: None }];
        }
        let mut certain = Vec::with_capacity(4);
        let mut end = None;
        for record in self.records(index).filter(|record| record.kind == Kind::Certain) {
            if end.is_none_or(|end| end > from) {
                certain.push(Version { value: record.value, start: record.start, end });
            }
            end = Some(record.start);
        }
        if end.is_none() {
            certain.push(Version { value: self.word(index), start: 0, end: None });
        }
        certain.reverse();
        if self.records(index).any(|record| record.kind != Kind::Certain) {
            self.add_unordered(index, from, &mut certain);
        }
        certain
    }

    #[inline(never)]
    fn add_unordered(&self, index: usize, from: Time, out: &mut Vec<Version>) {
        let certain = out.len();
        let other = |record: &&Record| record.kind != Kind::Certain;
        let mut others: Vec<Record> = self.records(index).filter(other).copied().collect();
        others.reverse();
        for record in &others {
            let Kind::Early(end) = record.kind else { continue };
            if end <= from {
                continue;
            }
            // A store that was ordered later is one version, which starts when it was first readable.
            let same = |known: &&mut Version| known.value == record.value && known.start == end;
            match out.iter_mut().take(certain).find(same) {
                Some(known) => known.start = known.start.min(record.start),
                None => out.push(Version { value: record.value, start: record.start, end: Some(end) }),
            }
        }
        let pending = others.iter().filter(|record| record.kind.is_pending());
        out.extend(pending.map(|record| Version { value: record.value, start: record.start, end: None }));
        if out.len() > certain {
            // Ended versions first, by time; then the others in order.
            out.sort_by_key(|version| version.end.map_or(Time::MAX, |_| version.start));
        }
    }

    /// Whether the two have the same content and history.
    pub(super) fn is_equivalent(&self, other: &Self) -> bool {
        let same = |index| self.versions(index, 0) == other.versions(index, 0);
        self.words == other.words && self.words_with_history().chain(other.words_with_history()).all(same)
    }

    /// Whether a record of its history ended at or before `before`.
    pub(super) fn has_history_before(&self, before: Time) -> bool {
        self.history.as_ref().is_some_and(|history| history.over <= before)
    }

    /// Drops the history that ended at or before `before`: no observer has cached older values.
    pub(super) fn drop_history(&mut self, before: Time) {
        let Some(old) = self.history.take() else { return };
        let mut new = History { last: [0; WORDS], records: Vec::new(), pending: [0; WORDS / 64], over: Time::MAX };
        let mut chain = Vec::new();
        for last in old.last.iter().filter(|last| **last != 0) {
            chain.clear();
            let mut at = *last;
            let mut next = None;
            while let Some(record) = old.record(at) {
                at = record.before;
                let over = match record.kind {
                    // A value that all observers read needs no record when it is older than the content of all caches.
                    Kind::Certain => next.replace(record.start).unwrap_or(record.start),
                    Kind::Early(end) => end,
                    Kind::Stored | Kind::Cleaned => Time::MAX,
                };
                if over > before {
                    new.over = new.over.min(over);
                    chain.push(*record);
                }
            }
            chain.iter().rev().for_each(|record| new.add(*record));
        }
        self.history = Some(Box::new(new)).filter(|new| !new.records.is_empty());
    }

    fn add(&mut self, index: usize, value: u64, start: Time, kind: Kind, now: Time) {
        let new =
            || History { last: [0; WORDS], records: Vec::with_capacity(16), pending: [0; WORDS / 64], over: Time::MAX };
        let history = self.history.get_or_insert_with(|| Box::new(new()));
        history.over = history.over.min(now);
        history.add(Record { value, start, before: 0, word: u16::try_from(index).unwrap_or(0), kind });
    }

    /// The records of a word, latest first.
    fn records(&self, index: usize) -> impl Iterator<Item = &Record> {
        let history = self.history.as_deref();
        let mut at = history.and_then(|history| history.last.get(index)).copied().unwrap_or(0);
        std::iter::from_fn(move || {
            let record = history?.record(at)?;
            at = record.before;
            Some(record)
        })
    }

    /// Calls `change` for the records of pending stores, latest first.
    fn each_pending(&mut self, index: usize, mut change: impl FnMut(&mut Record)) {
        let Some(history) = self.history.as_deref_mut().filter(|history| history.is_pending(index)) else { return };
        let mut at = history.last.get(index).copied().unwrap_or(0);
        while let Some(record) = place(at).and_then(|at| history.records.get_mut(at)) {
            at = record.before;
            // Stores are ordered in sequence: no store before an ordered one is pending.
            if matches!(record.kind, Kind::Early(_)) {
                return;
            }
            if record.kind.is_pending() {
                change(record);
            }
        }
    }
}

impl History {
    fn is_pending(&self, index: usize) -> bool {
        self.pending.get(index / 64).is_some_and(|bits| bits >> (index % 64) & 1 != 0)
    }

    fn record(&self, at: u32) -> Option<&Record> {
        place(at).and_then(|at| self.records.get(at))
    }

    fn add(&mut self, record: Record) {
        let index = usize::from(record.word);
        let Some(last) = self.last.get_mut(index) else { return };
        if let Some(bits) = self.pending.get_mut(index / 64).filter(|_| record.kind.is_pending()) {
            *bits |= 1 << (index % 64);
        }
        self.records.push(Record { before: *last, ..record });
        *last = u32::try_from(self.records.len()).unwrap_or(0);
    }
}

/// The index of the record of this number.
fn place(at: u32) -> Option<usize> {
    usize::try_from(at).ok()?.checked_sub(1)
}

pub(super) fn index_of(word: u64) -> usize {
    usize::try_from((word % PAGE) / 8).unwrap_or(0)
}
