//! Input of walkers: memory and stream table registers with history, and the features.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::config::Config;
use crate::hash::ByKey;
use crate::item::{Item, Timeline};
use crate::mapped::TableCache;
use crate::mem::{ExternalAbort, Memory, Time, Version};
use crate::stages::{Detail, Lookup};

/// STRTAB_BASE and STRTAB_BASE_CFG during a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strtab {
    /// STRTAB_BASE.ADDR.
    pub(crate) base: u64,
    /// STRTAB_BASE_CFG.
    pub(crate) cfg: u32,
    /// Start of the period.
    pub(crate) start: Time,
    /// End of the period; `None` if it has not ended.
    pub(crate) end: Option<Time>,
}

/// The values of a word that a walk may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// All values that a cache may hold.
    Any,
    /// The current value.
    Now,
}

/// Everything a walk depends on.
pub(crate) struct View<'a> {
    pub(crate) config: &'a Config,
    pub(crate) mem: &'a Memory,
    pub(crate) timeline: &'a Timeline,
    pub(crate) strtab: &'a [Strtab],
    pub(crate) history: History,
    pub(crate) now: Time,
    pub(crate) e2h: bool,
    pub(crate) recinvsid: bool,
    pub(crate) atschk: bool,
    pub(crate) table_cache: &'a TableCache,
    /// Results of earlier lookups, through any view.
    pub(crate) lookup_cache: &'a LookupCache,
    /// Pages that were read through this view; some more than once.
    pub(crate) read: RefCell<Vec<u64>>,
}

/// A cache of lookups, by StreamID.
#[derive(Debug, Default)]
pub(crate) struct LookupCache {
    known: RefCell<ByKey<(u32, Detail), Known>>,
    /// Maximum number of combinations of words of one entry.
    combinations: Cell<usize>,
}

impl LookupCache {
    pub(crate) fn count(&self, combinations: usize) {
        self.combinations.set(self.combinations.get().max(combinations));
    }

    pub(crate) fn take_combinations(&self) -> usize {
        self.combinations.take()
    }
}

/// The result of a lookup, and the state that it depends on.
#[derive(Debug)]
struct Known {
    found: Rc<[Lookup]>,
    strtab: Vec<Strtab>,
    history: History,
    e2h: bool,
    atschk: bool,
    /// Pages with their stamps.
    pages: Vec<(u64, u64)>,
}

impl Known {
    fn is_current(&self, view: &View<'_>) -> bool {
        (self.history, self.e2h, self.atschk) == (view.history, view.e2h, view.atschk)
            && self.strtab == view.strtab
            && view.mem.unchanged(&self.pages)
    }
}

impl View<'_> {
    /// The values of the word at `pa` that a cached item may hold.
    pub(crate) fn versions(&self, pa: u64) -> Result<Vec<Version>, ExternalAbort> {
        self.note_page(pa);
        let mut all = self.mem.versions(pa, 0)?;
        if self.history == History::Now {
            all.retain(|version| version.end.is_none());
        }
        Ok(all)
    }

    /// The same for each of the words from `pa` to the end of its 64 bytes.
    pub(crate) fn versions_of_line(&self, pa: u64) -> Result<Vec<Vec<Version>>, ExternalAbort> {
        self.note_page(pa);
        let mut all = self.mem.versions_of_line(pa, 0)?;
        if self.history == History::Now {
            for word in &mut all {
                word.retain(|version| version.end.is_none());
            }
        }
        Ok(all)
    }

    /// Records that the page of `pa` was read.
    pub(crate) fn note_page(&self, pa: u64) {
        let mut read = self.read.borrow_mut();
        let page = pa & !0xfff;
        if read.last() != Some(&page) {
            read.push(page);
        }
    }

    /// [`View::lookup_for`], cached while the state that it depends on is unchanged.
    pub(crate) fn cached_lookup(&self, sid: u32, detail: Detail) -> Rc<[Lookup]> {
        if let Some(known) = self.lookup_cache.known.borrow().get(&(sid, detail)).filter(|known| known.is_current(self))
        {
            known.pages.iter().for_each(|(page, _)| self.note_page(*page));
            return known.found.clone();
        }
        let before = self.read.borrow().len();
        let found: Rc<[Lookup]> = self.lookup_for(sid, detail).into();
        let read = self.read.borrow();
        // The first of these pages may be the last one recorded before this lookup.
        let pages = read.iter().skip(before.saturating_sub(1));
        let pages = pages.map(|page| (*page, self.mem.stamp(*page))).collect();
        let (strtab, history, e2h, atschk) = (self.strtab.to_vec(), self.history, self.e2h, self.atschk);
        let known = Known { found: found.clone(), strtab, history, e2h, atschk, pages };
        self.lookup_cache.known.borrow_mut().insert((sid, detail), known);
        found
    }

    /// Whether translation is on.
    pub(crate) fn enabled(&self) -> bool {
        self.timeline.enabled_at(self.now)
    }

    /// Whether `item` may be used now.
    pub(crate) fn usable_at(&self, item: &Rc<Item>) -> bool {
        self.timeline.usable_at(item, self.now)
    }
}

/// The part of `version` that lies in `start..end`.
pub(crate) fn clip(version: Version, start: Time, end: Option<Time>) -> Option<Version> {
    let start = version.start.max(start);
    let end = match (version.end, end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    end.is_none_or(|end| start < end).then_some(Version { value: version.value, start, end })
}

/// Every combination of one version of each word.
pub(crate) fn combinations(words: &[Vec<Version>]) -> Vec<Vec<Version>> {
    let total: usize = words.iter().map(Vec::len).product();
    assert!(total <= 1 << 16, "a structure changed too often without a full invalidation: {total} combinations");
    if total == 1 {
        return vec![words.iter().flatten().copied().collect()];
    }
    let mut all = vec![Vec::new()];
    for versions in words {
        all = all
            .iter()
            .flat_map(|prefix: &Vec<Version>| {
                versions.iter().map(move |version| {
                    let mut next = prefix.clone();
                    next.push(*version);
                    next
                })
            })
            .collect();
    }
    all
}
