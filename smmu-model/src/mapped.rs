//! A cache of the current mappings of a stage 2 table, for the oracle.
//!
//! Most of a table is unchanged since the last query and has no overwritten descriptors. Such a part is decoded once,
//! as long as the stamps of its pages are unchanged. Overwritten descriptors are walked each time ([`View::s2_past`]).

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;

use crate::arch::desc::{self, Desc};
use crate::hash::ByKey;
use crate::inval::{Depth, Span, Tag};
use crate::item::Item;
use crate::mem::{Region, Version};
use crate::oracle::{Reachable, Via};
use crate::stage2::{S2Mapping, root_table};
use crate::strtab::S2;
use crate::view::{History, View};

/// Adjacent leaves of one size with the same permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    ipa: u64,
    pa: u64,
    /// log2 of the size of a leaf.
    shift: u32,
    count: u64,
    write: bool,
}

impl Run {
    fn size(&self) -> u64 {
        self.count << self.shift
    }

    fn reachable(&self, ipa: u64, pa: u64, size: u64) -> Reachable {
        Reachable { pa, size, ipa, write: self.write, via: Via::Stage2, stale: false }
    }
}

/// Adds `run` to `runs`, to the last of them if it goes on there.
fn add(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut()
        && (last.shift, last.write) == (run.shift, run.write)
        && (last.ipa + last.size(), last.pa + last.size()) == (run.ipa, run.pa)
    {
        last.count += run.count;
    } else {
        runs.push(run);
    }
}

/// Everything that a stage 2 table maps now: what hardware may use without having cached anything.
#[derive(Debug)]
pub struct Mapped {
    runs: Vec<Run>,
    /// The pages of its tables, with their stamps.
    pages: Vec<(u64, u64)>,
}

impl Mapped {
    /// The mappings as maximal ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Reachable> {
        self.runs.iter().map(|run| run.reachable(run.ipa, run.pa, run.size()))
    }

    /// The mappings as leaves.
    pub fn leaves(&self) -> impl Iterator<Item = Reachable> {
        self.runs.iter().flat_map(|run| {
            let leaf =
                move |n: u64| run.reachable(run.ipa + (n << run.shift), run.pa + (n << run.shift), 1 << run.shift);
            (0..run.count).map(leaf)
        })
    }

    /// Whether all bytes of a leaf of this size at `pa` can be reached, with this permission or more.
    pub(crate) fn covers(&self, pa: u64, shift: u32, write: bool) -> bool {
        let size = 1 << shift;
        let covers = |run: &Run| (run.write || !write) && pa >= run.pa && pa - run.pa + size <= run.size();
        self.runs.iter().any(covers)
    }
}

/// One table of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    table: u64,
    level: u32,
    /// log2 of the number of descriptors.
    width: u32,
}

impl Place {
    fn pages(self) -> impl Iterator<Item = u64> {
        (self.table & !0xfff..self.table + (8 << self.width)).step_by(4096)
    }
}

/// A table by itself; addresses in `runs` count from what it maps first.
#[derive(Debug)]
struct Decoded {
    pages: Vec<(u64, u64)>,
    runs: Vec<Run>,
    /// Where a descriptor is, what it maps first, and the table that it names.
    children: Vec<(u64, u64, u64)>,
}

#[derive(Debug, Default)]
struct Known {
    tables: ByKey<(S2, Place), Arc<Decoded>>,
    whole: ByKey<S2, Arc<Mapped>>,
}

/// Tables that were decoded before.
#[derive(Debug, Default)]
pub(crate) struct Walks(RefCell<Known>);

/// Maximum cached tables: more than a machine has.
const MOST_TABLES: usize = 4096;

impl Walks {
    fn known(&self) -> RefMut<'_, Known> {
        self.0.borrow_mut()
    }
}

impl View<'_> {
    /// Everything that the table of `s2` maps now.
    pub(crate) fn mapped_now(&self, s2: &S2) -> Arc<Mapped> {
        let known = self.walks.known().whole.get(s2).cloned();
        if let Some(known) = known.filter(|known| self.mem.unchanged(&known.pages)) {
            known.pages.iter().for_each(|(page, _)| self.looks_at(*page));
            return known;
        }
        let (table, width) = root_table(s2);
        let mut mapped = Mapped { runs: Vec::new(), pages: Vec::new() };
        self.map_table(s2, 0, Place { table, level: s2.start_level, width }, &mut mapped);
        let mapped = Arc::new(mapped);
        self.walks.known().whole.insert(*s2, mapped.clone());
        mapped
    }

    fn map_table(&self, s2: &S2, base: u64, place: Place, out: &mut Mapped) {
        let decoded = self.decoded(s2, place);
        out.pages.extend_from_slice(&decoded.pages);
        let mut runs = decoded.runs.iter().peekable();
        for &(_, ipa, next) in &decoded.children {
            while let Some(run) = runs.next_if(|run| run.ipa < ipa) {
                add(&mut out.runs, Run { ipa: base + run.ipa, ..*run });
            }
            self.map_table(s2, base + ipa, child(s2, place.level, next), out);
        }
        for run in runs {
            add(&mut out.runs, Run { ipa: base + run.ipa, ..*run });
        }
    }

    /// The table at `place`, decoded again if it changed.
    fn decoded(&self, s2: &S2, place: Place) -> Arc<Decoded> {
        let known = self.walks.known().tables.get(&(*s2, place)).cloned();
        if let Some(known) = known.filter(|known| self.mem.unchanged(&known.pages)) {
            return known;
        }
        let decoded = Arc::new(self.decode(s2, place));
        let mut known = self.walks.known();
        if known.tables.len() > MOST_TABLES {
            *known = Known::default();
        }
        known.tables.insert((*s2, place), decoded.clone());
        decoded
    }

    fn decode(&self, s2: &S2, place: Place) -> Decoded {
        let mut out = Decoded { pages: Vec::new(), runs: Vec::new(), children: Vec::new() };
        let (start, end) = (place.table, place.table + (8 << place.width));
        let shift = s2.granule.level_shift(place.level);
        for page in place.pages() {
            self.looks_at(page);
            out.pages.push((page, self.mem.stamp(page)));
            if self.mem.region(page) != Some(Region::Ram) {
                continue;
            }
            for (offset, word) in self.mem.words(page) {
                let at = page + offset;
                if at < start || at >= end {
                    continue;
                }
                let ipa = ((at - start) / 8) << shift;
                match desc::decode(word, place.level, s2.granule) {
                    Desc::Table { next, .. } if next >> s2.oa_bits == 0 => out.children.push((at, ipa, next)),
                    Desc::Leaf { pa, raw } if pa >> s2.oa_bits == 0 && (desc::af(raw) || s2.ha || s2.affd) => {
                        let (read, write) = s2.allows(raw);
                        if read || write {
                            add(&mut out.runs, Run { ipa, pa, shift, count: 1, write });
                        }
                    }
                    Desc::Table { .. } | Desc::Leaf { .. } | Desc::Invalid => {}
                }
            }
        }
        out
    }

    /// Every leaf that a walk may find through a descriptor that was overwritten; not filtered for liveness, and without those that
    /// lead nowhere but where `now` does.
    pub(crate) fn s2_past(&self, s2: &S2, source: &Rc<Item>, now: &Mapped) -> Vec<S2Mapping> {
        let mut out = Vec::new();
        if self.past == History::Any {
            let (table, width) = root_table(s2);
            self.past_table(s2, 0, Place { table, level: s2.start_level, width }, source, now, &mut out);
        }
        out
    }

    fn past_table(
        &self,
        s2: &S2,
        base: u64,
        place: Place,
        source: &Rc<Item>,
        mapped: &Mapped,
        out: &mut Vec<S2Mapping>,
    ) {
        let (start, end) = (place.table, place.table + (8 << place.width));
        let shift = s2.granule.level_shift(place.level);
        for page in place.pages() {
            self.looks_at(page);
            for at in self.mem.words_with_history(page).into_iter().map(|offset| page + offset) {
                if at < start || at >= end {
                    continue;
                }
                let ipa = base + (((at - start) / 8) << shift);
                let now = self.mem.dev_read64(at).ok();
                // A store not yet ordered by a barrier has no end time either, and is not certain to be visible.
                let other = |old: &Version| old.end.is_some() || Some(old.value) != now;
                for version in self.versions(at).unwrap_or_default().into_iter().rev().filter(other) {
                    self.s2_version(s2, ipa, place.level, at, version, source, Some(mapped), out);
                }
            }
        }
        for &(at, ipa, next) in &self.decoded(s2, place).children {
            let below = child(s2, place.level, next);
            let ipa = base + ipa;
            below.pages().for_each(|page| self.looks_at(page));
            // Nothing is below the tables of the last level.
            if below.level == 3 && below.pages().all(|page| self.mem.words_with_history(page).is_empty()) {
                continue;
            }
            let now = self.mem.dev_read64(at).ok();
            let certain = |word: &Version| word.end.is_none() && Some(word.value) == now;
            let Some(version) = self.versions(at).unwrap_or_default().into_iter().find(certain) else { continue };
            let (span, depth) = (Span::around(ipa, shift), Depth::Table(place.level));
            let tag = Tag::S2 { vmid: s2.vmid, span, depth, granule: s2.granule };
            let item = Item::new(tag, vec![version], vec![source.clone()]);
            self.past_table(s2, ipa, below, &item, mapped, out);
        }
    }
}

/// The table that a descriptor of `level` names.
fn child(s2: &S2, level: u32, table: u64) -> Place {
    Place { table, level: level + 1, width: s2.granule.stride() }
}
