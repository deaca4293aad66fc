//! Sources of TLB entries: any entry, of any stream and time, with the same tags.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::inval::Regime;
use crate::item::Item;
use crate::stages::{CachedSte, Detail, Lookup, Stages, SteKind};
use crate::view::View;

/// A stream table entry from which TLB entries may have been created.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) sid: u32,
    pub(crate) stages: Stages,
    pub(crate) item: Rc<Item>,
}

/// Every entry of `streams` that may have filled TLB entries with `regime`'s tag.
pub(crate) fn tlb_sources(
    view: &View<'_>,
    streams: &BTreeSet<u32>,
    own: u32,
    regime: Regime,
    detail: Detail,
) -> Vec<Source> {
    let mut out: Vec<Source> = Vec::new();
    let order = std::iter::once(own).chain(streams.iter().copied().filter(|sid| *sid != own));
    for sid in order {
        for lookup in view.cached_lookup(sid, detail).iter() {
            let Lookup::Found(CachedSte { kind: SteKind::Translate(stages), item }) = lookup else {
                continue;
            };
            let (stages, item) = (*stages, item.clone());
            if stages.regime != regime {
                continue;
            }
            // Another stream with the same tables adds no source.
            let like = |s: &Source| s.stages.s2 == stages.s2 && s.stages.s1.is_some() == stages.s1.is_some();
            if sid != own && out.iter().any(like) {
                continue;
            }
            // For stage 2 only the stage 2 fields of the entry are compared.
            if out.iter().any(|s| s.sid == sid && s.stages == stages && s.item.outlasts(&item)) {
                continue;
            }
            out.retain(|s| !(s.sid == sid && s.stages == stages && item.outlasts(&s.item)));
            out.push(Source { sid, stages, item });
        }
    }
    out
}
