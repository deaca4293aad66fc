//! Cached items, and the check whether the architecture allows them to be cached.
//!
//! An [`Item`] is a piece of information that a cache may hold: the words it was read from (each with the time during
//! which they had that value), its tag for invalidation, and the items that were used to find it.
//! [`Timeline::usable_at`] determines whether each item of the whole tree can have been read at a time such that it
//! was still in its cache when it was used. Only completed invalidations count. An invalidation removes only the
//! entries that it must remove (`Scope::covers`), and of these only what was read before the command was consumed:
//!
//! - a combined VA to PA entry that was made after NH_ALL was consumed, out of a stage 2 entry whose S2_IPA had not
//!   completed then, survives both: for this reason a SYNC is needed between the two [IHI 0070G 4.4.3.1, 4.7.3];
//! - one command that covers both (S12_VMALL) leaves nothing.
//!
//! For given values the earliest possible read times are the best choice: fewer invalidations have completed before
//! an earlier use. So one pass from the use to the root is enough.

use std::rc::Rc;

use crate::inval::{Invalidation, Scope, Tag};
use crate::mem::{Time, Version};

/// Information that a cache may hold.
#[derive(Debug)]
pub struct Item {
    tag: Tag,
    words: Vec<Version>,
    sources: Vec<Rc<Item>>,
    live: bool,
    /// No word of the tree can have been read before this.
    since: Time,
    /// When the first word of the tree was overwritten.
    until: Time,
}

impl Item {
    /// Information read from `words`, located by `sources`, cached under `tag`.
    #[must_use]
    pub fn new(tag: Tag, words: Vec<Version>, sources: Vec<Rc<Item>>) -> Rc<Self> {
        let own = words.iter().map(|w| w.start).max().unwrap_or(0);
        let since = sources.iter().map(|s| s.since).fold(own, Time::max);
        let own = words.iter().filter_map(|w| w.end).min().unwrap_or(Time::MAX);
        let until = sources.iter().map(|s| s.until).fold(own, Time::min);
        Rc::new(Self { tag, words, sources, live: false, since, until })
    }

    /// A read that happens now and is not cached.
    #[must_use]
    pub fn live(words: Vec<Version>, sources: Vec<Rc<Item>>) -> Rc<Self> {
        let mut item = Self::new(Tag::None, words, sources);
        if let Some(item) = Rc::get_mut(&mut item) {
            item.live = true;
        }
        item
    }

    /// Whether none of the words has been overwritten since.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.until == Time::MAX
    }

    /// Whether both contain the same information, read at the same times.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.tag == other.tag && self.words == other.words && self.since == other.since
    }

    /// The values of its own words.
    #[must_use]
    pub fn values(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.value).collect()
    }

    /// Whether its own words (not those of its sources) are the current ones.
    #[must_use]
    pub fn fresh_word(&self) -> bool {
        self.words.iter().all(|word| word.end.is_none())
    }

    /// Whether this item is usable whenever `other` is, which was found in the same way: it was created no later and
    /// was overwritten no earlier.
    #[must_use]
    pub fn outlasts(&self, other: &Self) -> bool {
        let located = self.sources.iter().map(|source| source.since).max().unwrap_or(0);
        self.since <= other.since && self.until >= other.until && located < self.until
    }

    /// The word of an item that has exactly one.
    #[must_use]
    pub fn only_word(&self) -> Option<Version> {
        match self.words.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// When the most recently written word of the tree was written: a measure of staleness.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }
}

/// The translation regimes of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regimes {
    /// EL1&0 only.
    El1,
    /// EL2 as well (IDR0.Hyp).
    El1AndEl2,
}

/// When translations were enabled, and the invalidations so far.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Consumed invalidations, in order.
    pub invalidations: Vec<Invalidation>,
    /// Periods during which SMMUEN may have been 1: entries are inserted only then [6.3.9.6].
    pub enabled: Vec<(Time, Option<Time>)>,
}

impl Timeline {
    /// Whether `item` can be used at `now`.
    #[must_use]
    pub fn usable_at(&self, item: &Item, now: Time) -> bool {
        // The current content of memory can be read.
        if item.fresh() && self.enabled_at(now) {
            return true;
        }
        self.usable(item, now, &[])
    }

    /// Whether translation is on at `now`, the latest time.
    pub(crate) fn enabled_at(&self, now: Time) -> bool {
        self.enabled.last().is_some_and(|(start, end)| *start <= now && end.is_none())
    }

    /// The first time at which no cache can hold the overwritten `item`; [`Time::MAX`] while one can.
    #[must_use]
    pub fn gone_at(&self, item: &Item) -> Time {
        let removes = |inval: &&Invalidation| inval.consumed >= item.until && inval.scope.covers(&item.tag);
        self.invalidations.iter().filter(removes).filter_map(|inval| inval.completed).min().unwrap_or(Time::MAX)
    }

    /// `inherited` are the indices of invalidations that are not complete at `at`, but removed an item that uses this
    /// one.
    fn usable(&self, item: &Item, at: Time, inherited: &[usize]) -> bool {
        let single = item.words.len() == 1;
        // Earlier invalidations have no effect: the item was read later.
        let since = if single { item.since } else { item.sources.iter().map(|source| source.since).max().unwrap_or(0) };
        let located = self.removed_at(&item.tag, at, inherited, since);
        let earliest = if item.live { at } else { located.max(item.since) };
        let Some(read) = self.next_enabled(earliest) else {
            return false;
        };
        if read > at {
            return false;
        }
        let words_ok = item.words.iter().all(|word| {
            let begin = if single || item.live {
                read
            } else {
                self.next_enabled(located.max(word.start)).unwrap_or(Time::MAX)
            };
            begin <= read && word.end.is_none_or(|end| begin < end)
        });
        if !words_ok || item.sources.is_empty() {
            return words_ok;
        }
        // The time limits of an uncached item are those of the item that uses it, which are complete: it is read when
        // it is used.
        debug_assert!(item.tag != Tag::None || item.live, "an item without a tag is not live");
        let active = if item.tag == Tag::None { inherited } else { &self.between(&item.tag, read, at, inherited) };
        item.sources.iter().all(|source| self.usable(source, read, active))
    }

    /// The latest time after `since` at which an invalidation that is complete at `at`, or inherited, and covers `tag`
    /// was consumed; `since` if there is none.
    fn removed_at(&self, tag: &Tag, at: Time, inherited: &[usize], since: Time) -> Time {
        let mut floor = since;
        if *tag == Tag::None {
            return floor;
        }
        for (index, inval) in self.invalidations.iter().enumerate().rev() {
            let later = inval.consumed > floor && inval.is_done(index, at, inherited);
            if later && inval.scope.covers(tag) {
                floor = inval.consumed;
            }
        }
        floor
    }

    /// The invalidations that cover `tag` and were complete at `at`, or inherited, but not yet complete at `read`.
    fn between(&self, tag: &Tag, read: Time, at: Time, inherited: &[usize]) -> Vec<usize> {
        let all = self.invalidations.iter().enumerate();
        let late = all.filter(|(index, inval)| {
            inval.completed.is_none_or(|done| done > read)
                && inval.is_done(*index, at, inherited)
                && inval.scope.covers(tag)
        });
        late.map(|(index, _)| index).collect()
    }

    /// The first moment at or after `from` at which an entry may have been made.
    fn next_enabled(&self, from: Time) -> Option<Time> {
        self.enabled.iter().find(|(_, end)| end.is_none_or(|end| from < end)).map(|(start, _)| from.max(*start))
    }

    /// Marks everything consumed before `sync` as complete at `now`.
    pub fn complete_before(&mut self, sync: Time, now: Time) {
        for inval in &mut self.invalidations {
            if inval.completed.is_none() && inval.consumed < sync {
                inval.completed = Some(now);
            }
        }
    }

    /// Drops items that can no longer be used, and returns the time before which memory history can be dropped.
    ///
    /// After CFGI_ALL is complete and a later TLBI_NSNH_ALL (and TLBI_EL2_ALL, where there are EL2 contexts) is
    /// complete too, nothing that was read before the CFGI_ALL can be in any cache.
    pub fn prune(&mut self, regimes: Regimes) -> Option<Time> {
        // When the last complete ones were consumed; 0 before the first.
        let (mut nsnh, mut el2) = (0, 0);
        for inval in self.invalidations.iter().filter(|inval| inval.completed.is_some()) {
            match inval.scope {
                Scope::NsnhAll => nsnh = inval.consumed.max(nsnh),
                Scope::El2All => el2 = inval.consumed.max(el2),
                _ => {}
            }
        }
        let tlb = if regimes == Regimes::El1AndEl2 { nsnh.min(el2) } else { nsnh };
        let mut all = self.invalidations.iter().rev();
        let before = all.find(|inval| inval.is_all_config_before(tlb))?.consumed;
        self.invalidations.retain(|i| i.consumed >= before || i.completed.is_none());
        Some(before)
    }
}

#[cfg(test)]
mod tests;
