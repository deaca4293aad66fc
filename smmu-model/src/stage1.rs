//! The stage 1 walk, with stage 2 translation of each access if it is enabled.

use std::rc::Rc;

use crate::arch::desc::{self, Desc, Granule};
use crate::arch::event::{Class, F_ACCESS, F_ADDR_SIZE, F_TRANSLATION, F_WALK_EABT};
use crate::arch::{address_bits, bit, cd};
use crate::context::{CachedCd, Fault, plain};
use crate::inval::{AsidTag, Depth, Regime, Span, Tag};
use crate::item::Item;
use crate::mem::Version;
use crate::stage2::Update;
use crate::stages::S2;
use crate::view::View;

/// A stage 1 translation that a transaction may use.
#[derive(Clone, Debug)]
pub(crate) struct S1Leaf {
    /// Output address (an IPA, or a PA without stage 2).
    pub(crate) out: u64,
    /// Address of the descriptor, as an IPA with stage 2.
    pub(crate) descriptor: u64,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) updates: Vec<Update>,
    /// The descriptor's page is writable at stage 2, as hardware updates need.
    pub(crate) updatable: bool,
    pub(crate) dirty: Option<Update>,
    pub(crate) tag: Tag,
    pub(crate) item: Rc<Item>,
}

/// Stage 1 regime of one context descriptor, for one half of the address space.
#[derive(Clone, Copy, Debug)]
struct Half {
    ttb: u64,
    ia_bits: u32,
    granule: Granule,
}

impl View<'_> {
    /// Every legal result of the stage 1 walk of `va` through `context`; not filtered for usability.
    pub(crate) fn walk_s1(
        &self,
        context: &CachedCd,
        regime: Regime,
        va: u64,
        s2: Option<&S2>,
        ste: &Rc<Item>,
    ) -> Vec<Result<S1Leaf, Fault>> {
        let raw = &context.raw;
        let Some(half) = half_of(raw, regime, va) else {
            let item = Item::live(vec![], vec![context.item.clone()]);
            return vec![Err(plain(F_TRANSLATION, Class::In, item))];
        };
        let walk = Walk {
            view: self,
            raw,
            regime,
            va,
            s2,
            ste,
            half,
            ips: address_bits(cd::ips(raw)).min(self.config.oas_bits()),
        };
        let mut out = Vec::new();
        let mut level = 3;
        while level > 0 && half.granule.level_shift(level) + half.granule.stride() < half.ia_bits {
            level -= 1;
        }
        let width = half.ia_bits - half.granule.level_shift(level);
        let root = half.ttb & !((8u64 << width).max(16) - 1);
        walk.level(level, width, root, 0, &context.item, &mut out);
        out
    }
}

/// The parameters of one stage 1 walk.
struct Walk<'a> {
    view: &'a View<'a>,
    raw: &'a cd::Cd,
    regime: Regime,
    va: u64,
    s2: Option<&'a S2>,
    ste: &'a Rc<Item>,
    half: Half,
    ips: u32,
}

impl Walk<'_> {
    fn level(
        &self,
        level: u32,
        width: u32,
        table: u64,
        ap: u64,
        source: &Rc<Item>,
        out: &mut Vec<Result<S1Leaf, Fault>>,
    ) {
        let shift = self.half.granule.level_shift(level);
        let index = (self.va >> shift) & ((1 << width) - 1);
        let at = table + index * 8;
        for access in self.view.translated(at, self.s2, self.ste, Class::Tt) {
            match access {
                Err(fault) => {
                    let item = Item::live(vec![], vec![source.clone(), fault.item.clone()]);
                    out.push(Err(Fault { item, ..fault }));
                }
                Ok((pa, mut sources, updatable)) => {
                    sources.push(source.clone());
                    let Ok(versions) = self.view.versions(pa) else {
                        let mut fault = plain(F_WALK_EABT, Class::Tt, Item::live(vec![], sources));
                        fault.ipa = pa;
                        out.push(Err(fault));
                        continue;
                    };
                    for version in versions {
                        self.descriptor(level, (at, pa, updatable), version, ap, &sources, out);
                    }
                }
            }
        }
    }

    fn descriptor(
        &self,
        level: u32,
        (at, pa, updatable): (u64, u64, bool),
        version: Version,
        ap_above: u64,
        sources: &[Rc<Item>],
        out: &mut Vec<Result<S1Leaf, Fault>>,
    ) {
        let current = version.end.is_none();
        let mut fault = |kind| {
            if current {
                out.push(Err(plain(kind, Class::In, Item::live(vec![version], sources.to_vec()))));
            }
        };
        let shift = self.half.granule.level_shift(level);
        let span = Some(Span::around(self.va, shift));
        let granule = Some(self.half.granule);
        let asid = match self.regime {
            Regime::El2 => AsidTag::Global,
            Regime::El1 { .. } | Regime::El2E2h => AsidTag::Asid(cd::asid(self.raw)),
        };
        match desc::decode(version.value, level, self.half.granule) {
            Desc::Invalid => fault(F_TRANSLATION),
            Desc::Table { next, .. } if next >> self.ips != 0 => fault(F_ADDR_SIZE),
            Desc::Leaf { pa: out_address, .. } if out_address >> self.ips != 0 => fault(F_ADDR_SIZE),
            Desc::Table { next, raw } => {
                let tag = Tag::S1 { regime: self.regime, asid, span, depth: Depth::Table(level), granule };
                let item = Item::new(tag, vec![version], sources.to_vec());
                let had = if bit(self.va, 55) { cd::had1(self.raw) } else { cd::had0(self.raw) };
                let ap = if self.view.config.had && had { ap_above } else { ap_above | desc::ap_table(raw) };
                self.level(level + 1, self.half.granule.stride(), next, ap, &item, out);
            }
            Desc::Leaf { pa: base, raw } => {
                let ha = cd::ha(self.raw);
                if !desc::af(raw) && !ha && !cd::affd(self.raw) {
                    fault(F_ACCESS);
                    return;
                }
                let asid = if self.regime != Regime::El2 && !desc::ng(raw) { AsidTag::Global } else { asid };
                let tag = Tag::S1 { regime: self.regime, asid, span, depth: Depth::Leaf(level), granule };
                let item = Item::new(tag, vec![version], sources.to_vec());
                let marked = if ha { raw | 1 << 10 } else { raw };
                if marked != raw && !current {
                    return;
                }
                let readonly = bit(desc::s1_ap(raw), 1);
                let by_dirty = ha && cd::hd(self.raw) && desc::dbm(raw) && readonly && current;
                let privileged_only = self.regime != Regime::El2 && !bit(desc::s1_ap(raw) & !(ap_above & 1), 0);
                out.push(Ok(S1Leaf {
                    out: base + (self.va & ((1 << shift) - 1)),
                    descriptor: at,
                    // Devices access unprivileged here; AP[1] = 0 denies that.
                    read: !privileged_only,
                    write: !privileged_only && (!readonly || by_dirty) && !bit(ap_above, 1),
                    updates: (marked != raw).then_some(Update { pa, old: raw, new: marked }).into_iter().collect(),
                    updatable,
                    dirty: by_dirty.then_some(Update { pa, old: raw, new: marked & !(1 << 7) }),
                    tag,
                    item,
                }));
            }
        }
    }
}

/// The table that translates `va`, if `va` is in an enabled range [3.4.1].
fn half_of(raw: &cd::Cd, regime: Regime, va: u64) -> Option<Half> {
    let two_halves = matches!(regime, Regime::El1 { .. } | Regime::El2E2h);
    let upper = bit(va, 55);
    if upper && !two_halves {
        return None;
    }
    let (tsz, granule, ttb, disabled, tbi) = if upper {
        (cd::t1sz(raw), Granule::from_tg1(cd::tg1(raw)), cd::ttb1(raw), cd::epd1(raw), cd::tbi1(raw))
    } else {
        (cd::t0sz(raw), Granule::from_tg0(cd::tg0(raw)), cd::ttb0(raw), two_halves && cd::epd0(raw), cd::tbi0(raw))
    };
    // TxSZ of a disabled range was not checked and may have any value.
    if disabled {
        return None;
    }
    let ia_bits = 64 - tsz;
    let top = if tbi { 56 } else { 64 };
    let mask = if top == 64 { u64::MAX } else { (1 << top) - 1 };
    let sign = (va & mask) >> ia_bits;
    let want = if upper { mask >> ia_bits } else { 0 };
    (sign == want).then_some(Half { ttb, ia_bits, granule: granule? })
}
