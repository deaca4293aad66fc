//! The stage 2 walk: IPA to PA, with every cached descriptor it may legally use.

use std::rc::Rc;

use crate::arch::desc::{self, Desc};
use crate::arch::event::{F_ACCESS, F_ADDR_SIZE, F_TRANSLATION, F_WALK_EABT};
use crate::inval::{Depth, Span, Tag};
use crate::item::Item;
use crate::mapped::Mapped;
use crate::mem::Version;
use crate::stages::{S2, root_table};
use crate::view::View;

/// A write that hardware makes to a descriptor (Access flag, dirty state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    /// Physical address of the descriptor.
    pub(crate) pa: u64,
    /// Its value before.
    pub(crate) old: u64,
    /// Its value after.
    pub(crate) new: u64,
}

/// A stage 2 translation that a transaction may use.
#[derive(Clone, Debug)]
pub(crate) struct S2Leaf {
    /// Physical address of the translated IPA.
    pub(crate) pa: u64,
    /// log2 of the size of the entry.
    pub(crate) shift: u32,
    /// Level of the descriptor.
    pub(crate) level: u32,
    /// Physical address of the descriptor.
    pub(crate) descriptor: u64,
    /// Reads are allowed.
    pub(crate) read: bool,
    /// Writes are allowed (after `dirty`, where that is set).
    pub(crate) write: bool,
    /// Maps a Device type.
    pub(crate) device: bool,
    /// Access flag update to be made first.
    pub(crate) access: Option<Update>,
    /// Dirty state update that a write makes.
    pub(crate) dirty: Option<Update>,
    /// The cached item.
    pub(crate) item: Rc<Item>,
}

/// End of a stage 2 walk.
#[derive(Clone, Debug)]
pub(crate) enum S2Result {
    /// A translation.
    Leaf(S2Leaf),
    /// A fault with its event number, and the descriptor's address.
    Fault(u8, u64, Rc<Item>),
}

/// One leaf of the whole table, for the oracle.
#[derive(Clone, Debug)]
pub(crate) struct S2Mapping {
    /// First IPA.
    pub(crate) ipa: u64,
    /// First PA.
    pub(crate) leaf: S2Leaf,
}

impl View<'_> {
    /// Every legal end of the walk of `ipa`; not filtered for usability.
    pub(crate) fn walk_s2(&self, s2: &S2, ipa: u64, source: &Rc<Item>) -> Vec<S2Result> {
        let mut out = Vec::new();
        if ipa >> s2.ia_bits != 0 {
            out.push(S2Result::Fault(F_TRANSLATION, 0, Item::live(vec![], vec![source.clone()])));
            return out;
        }
        let (root, _) = root_table(s2);
        self.s2_level(s2, ipa, s2.start_level, root, source, &mut out);
        out
    }

    fn s2_level(&self, s2: &S2, ipa: u64, level: u32, table: u64, source: &Rc<Item>, out: &mut Vec<S2Result>) {
        let shift = s2.granule.level_shift(level);
        let width = if level == s2.start_level { s2.ia_bits - shift } else { s2.granule.stride() };
        let index = (ipa >> shift) & ((1 << width) - 1);
        let at = table + index * 8;
        let Ok(versions) = self.versions(at) else {
            out.push(S2Result::Fault(F_WALK_EABT, at, Item::live(vec![], vec![source.clone()])));
            return;
        };
        for version in versions {
            self.s2_descriptor(s2, ipa, level, at, version, source, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a step of a walk has this state")]
    fn s2_descriptor(
        &self,
        s2: &S2,
        ipa: u64,
        level: u32,
        at: u64,
        version: Version,
        source: &Rc<Item>,
        out: &mut Vec<S2Result>,
    ) {
        let current = version.end.is_none();
        let live = || Item::live(vec![version], vec![source.clone()]);
        let tag = |depth| {
            let span = Span::around(ipa, s2.granule.level_shift(level));
            Tag::S2 { vmid: s2.vmid, span, depth, granule: s2.granule }
        };
        match desc::decode(version.value, level, s2.granule) {
            Desc::Invalid if current => out.push(S2Result::Fault(F_TRANSLATION, at, live())),
            Desc::Invalid => {}
            Desc::Table { next, .. } if next >> s2.oa_bits != 0 => {
                if current {
                    out.push(S2Result::Fault(F_ADDR_SIZE, at, live()));
                }
            }
            Desc::Table { next, .. } => {
                let item = Item::new(tag(Depth::Table(level)), vec![version], vec![source.clone()]);
                self.s2_level(s2, ipa, level + 1, next, &item, out);
            }
            Desc::Leaf { pa, .. } if pa >> s2.oa_bits != 0 => {
                if current {
                    out.push(S2Result::Fault(F_ADDR_SIZE, at, live()));
                }
            }
            Desc::Leaf { pa, raw } => {
                if !desc::af(raw) && !s2.ha && !s2.affd {
                    if current {
                        out.push(S2Result::Fault(F_ACCESS, at, live()));
                    }
                    return;
                }
                // A leaf is cached only with its Access flag set.
                if !desc::af(raw) && s2.ha && !current {
                    return;
                }
                let item = Item::new(tag(Depth::Leaf(level)), vec![version], vec![source.clone()]);
                out.push(S2Result::Leaf(leaf(s2, ipa, level, at, pa, raw, item)));
            }
        }
    }

    /// Every leaf that any walk through the tables of `s2` may find; not filtered for usability.
    pub(crate) fn s2_mappings(&self, s2: &S2, source: &Rc<Item>) -> Vec<S2Mapping> {
        let mut out = Vec::new();
        let (root, width) = root_table(s2);
        self.s2_table(s2, 0, s2.start_level, root, width, source, None, &mut out);
        out
    }

    #[expect(clippy::too_many_arguments, reason = "a step of a walk has this state")]
    fn s2_table(
        &self,
        s2: &S2,
        base: u64,
        level: u32,
        table: u64,
        width: u32,
        source: &Rc<Item>,
        now: Option<&Mapped>,
        out: &mut Vec<S2Mapping>,
    ) {
        let end = table + (8 << width);
        let mut page = table & !0xfff;
        while page < end {
            self.note_page(page);
            for offset in self.mem.used_words(page) {
                let at = page + offset;
                if at < table || at >= end {
                    continue;
                }
                let ipa = base + (((at - table) / 8) << s2.granule.level_shift(level));
                for version in self.versions(at).unwrap_or_default().into_iter().rev() {
                    self.s2_version(s2, ipa, level, at, version, source, now, out);
                }
            }
            page += 4096;
        }
    }

    /// Every leaf that a walk may find through this value of the descriptor at `at`, except those that `now` covers.
    #[expect(clippy::too_many_arguments, reason = "a step of a walk has this state")]
    pub(crate) fn s2_version(
        &self,
        s2: &S2,
        ipa: u64,
        level: u32,
        at: u64,
        version: Version,
        source: &Rc<Item>,
        now: Option<&Mapped>,
        out: &mut Vec<S2Mapping>,
    ) {
        match desc::decode(version.value, level, s2.granule) {
            Desc::Table { next, .. } if next >> s2.oa_bits == 0 => {
                let span = Span::around(ipa, s2.granule.level_shift(level));
                let depth = Depth::Table(level);
                let tag = Tag::S2 { vmid: s2.vmid, span, depth, granule: s2.granule };
                let item = Item::new(tag, vec![version], vec![source.clone()]);
                self.s2_table(s2, ipa, level + 1, next, s2.granule.stride(), &item, now, out);
            }
            Desc::Leaf { pa, raw } => {
                let covered = |now: &Mapped| now.covers(pa, s2.granule.level_shift(level), s2.allows(raw).1);
                if now.is_some_and(covered) {
                    return;
                }
                let mut ends = Vec::new();
                self.s2_descriptor(s2, ipa, level, at, version, source, &mut ends);
                out.extend(ends.into_iter().filter_map(|end| match end {
                    S2Result::Leaf(leaf) => Some(S2Mapping { ipa, leaf }),
                    S2Result::Fault(..) => None,
                }));
            }
            Desc::Table { .. } | Desc::Invalid => {}
        }
    }
}

fn leaf(s2: &S2, ipa: u64, level: u32, at: u64, pa: u64, raw: u64, item: Rc<Item>) -> S2Leaf {
    let shift = s2.granule.level_shift(level);
    let (read, writable_now) = s2.allows(raw);
    let memattr = desc::s2_memattr(raw);
    // With S2FWB bit 4 of the descriptor distinguishes Device from Normal [5.2 S2FWB; Arm ARM D8.6.6].
    let device = if s2.fwb { memattr & 0b0100 == 0 } else { memattr >> 2 == 0 };
    let writable = desc::s2ap(raw) & 2 != 0;
    // The dirty state is updated in memory: an overwritten descriptor is first read again.
    let by_dirty = writable_now && !writable && item.fresh_word();
    let marked = if s2.ha { raw | 1 << 10 } else { raw };
    S2Leaf {
        pa: pa + (ipa & ((1 << shift) - 1)),
        shift,
        level,
        descriptor: at,
        read,
        write: writable || by_dirty,
        device,
        access: (marked != raw).then_some(Update { pa: at, old: raw, new: marked }),
        dirty: by_dirty.then_some(Update { pa: at, old: raw, new: marked | 1 << 7 }),
        item,
    }
}
