//! Decodes and caches all tables of a stage 2, for the oracle.

use std::rc::Rc;
use std::sync::Arc;

use crate::arch::desc::{self, Desc};
use crate::inval::{Depth, Span, Tag};
use crate::item::Item;
use crate::mapped::{Decoded, Known, Mapped, Place, Run, add};
use crate::mem::{Region, Version};
use crate::stage2::S2Mapping;
use crate::stages::{S2, root_table};
use crate::view::{History, View};

/// Maximum number of cached tables: more than a test machine has.
const MAX_TABLES: usize = 4096;

impl View<'_> {
    /// All current mappings of the table of `s2`.
    pub(crate) fn mapped_now(&self, s2: &S2) -> Arc<Mapped> {
        let known = self.table_cache.known().whole.get(s2).cloned();
        if let Some(known) = known.filter(|known| self.mem.unchanged(&known.pages)) {
            known.pages.iter().for_each(|(page, _)| self.note_page(*page));
            return known;
        }
        let (table, width) = root_table(s2);
        let mut mapped = Mapped { runs: Vec::new(), pages: Vec::new() };
        self.map_table(s2, 0, Place { table, level: s2.start_level, width }, &mut mapped);
        let mapped = Arc::new(mapped);
        self.table_cache.known().whole.insert(*s2, mapped.clone());
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
        let known = self.table_cache.known().tables.get(&(*s2, place)).cloned();
        if let Some(known) = known.filter(|known| self.mem.unchanged(&known.pages)) {
            return known;
        }
        let decoded = Arc::new(self.decode(s2, place));
        let mut known = self.table_cache.known();
        if known.tables.len() > MAX_TABLES {
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
            self.note_page(page);
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

    /// Every leaf that a walk may find through an overwritten descriptor, except those that `now` covers; not filtered
    /// for usability.
    pub(crate) fn s2_overwritten(&self, s2: &S2, source: &Rc<Item>, now: &Mapped) -> Vec<S2Mapping> {
        let mut out = Vec::new();
        if self.history == History::Any {
            let (table, width) = root_table(s2);
            self.overwritten_table(s2, 0, Place { table, level: s2.start_level, width }, source, now, &mut out);
        }
        out
    }

    fn overwritten_table(
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
            self.note_page(page);
            for at in self.mem.words_with_history(page).into_iter().map(|offset| page + offset) {
                if at < start || at >= end {
                    continue;
                }
                let ipa = base + (((at - start) / 8) << shift);
                let now = self.mem.dev_read64(at).ok();
                // A store that no barrier has ordered also has no end time, but may not be visible yet.
                let other = |old: &Version| old.end.is_some() || Some(old.value) != now;
                for version in self.versions(at).unwrap_or_default().into_iter().rev().filter(other) {
                    self.s2_version(s2, ipa, place.level, at, version, source, Some(mapped), out);
                }
            }
        }
        for &(at, ipa, next) in &self.decoded(s2, place).children {
            let below = child(s2, place.level, next);
            let ipa = base + ipa;
            below.pages().for_each(|page| self.note_page(page));
            // Tables of the last level have no child tables.
            if below.level == 3 && below.pages().all(|page| self.mem.words_with_history(page).is_empty()) {
                continue;
            }
            let now = self.mem.dev_read64(at).ok();
            let certain = |word: &Version| word.end.is_none() && Some(word.value) == now;
            let Some(version) = self.versions(at).unwrap_or_default().into_iter().find(certain) else { continue };
            let (span, depth) = (Span::around(ipa, shift), Depth::Table(place.level));
            let tag = Tag::S2 { vmid: s2.vmid, span, depth, granule: s2.granule };
            let item = Item::new(tag, vec![version], vec![source.clone()]);
            self.overwritten_table(s2, ipa, below, &item, mapped, out);
        }
    }
}

/// The table that a descriptor of `level` points to.
fn child(s2: &S2, level: u32, table: u64) -> Place {
    Place { table, level: level + 1, width: s2.granule.stride() }
}
