//! Context descriptors and the stage 1 walk, each access translated by stage 2 where that is on.

use std::rc::Rc;

use crate::arch::desc::{self, Desc, Granule};
use crate::arch::event::{C_BAD_CD, C_BAD_SUBSTREAMID, Class, F_ACCESS, F_ADDR_SIZE, F_CD_FETCH, F_PERMISSION};
use crate::arch::event::{F_TRANSLATION, F_WALK_EABT};
use crate::arch::{address_bits, bit, cd, truncate};
use crate::config::{Httu, StallModel};
use crate::inval::{AsidTag, Depth, Span, Tag, World};
use crate::item::Item;
use crate::mem::Version;
use crate::stage2::{S2Result, Update};
use crate::strtab::{S1, S2, granule_supported};
use crate::view::{View, combinations};

/// Where a fault came from, for the event record and for stall and abort.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: u8,
    pub(crate) stage2: bool,
    pub(crate) class: Class,
    pub(crate) ipa: u64,
    pub(crate) item: Rc<Item>,
}

/// A context descriptor as a cache may hold it.
#[derive(Clone, Debug)]
pub(crate) struct CdUse {
    pub(crate) raw: cd::Cd,
    pub(crate) item: Rc<Item>,
}

/// A stage 1 translation that may be used.
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
    /// Every context descriptor that index `ssid` may give; not filtered for liveness.
    pub(crate) fn lookup_cd(
        &self,
        sid: u32,
        ssid: u32,
        s1: &S1,
        s2: Option<&S2>,
        ste: &Rc<Item>,
    ) -> Vec<Result<CdUse, Fault>> {
        let mut out = Vec::new();
        let size = cd::CD_SIZE;
        match s1.fmt {
            0 => {
                let base = s1.ptr & !((size << s1.cdmax) - 1);
                self.fetch_cd(sid, ssid, base + u64::from(ssid) * size, s2, ste, ste, &mut out);
            }
            fmt => {
                let (split, align) = if fmt == 1 { (6, 12) } else { (10, 16) };
                let index = ssid >> split;
                let l1_size = (cd::L1CD_SIZE << s1.cdmax.saturating_sub(split)).max(64);
                let address = (s1.ptr & !(l1_size - 1)) + u64::from(index) * cd::L1CD_SIZE;
                for access in self.config_access(address, s2, ste) {
                    let (versions, sources) = match access {
                        Ok(found) => found,
                        Err(fault) => {
                            out.push(Err(fault));
                            continue;
                        }
                    };
                    for version in versions {
                        let tag = Tag::L1Cd { sid, index, split };
                        let item = Item::new(tag, vec![version], sources.clone());
                        if !cd::l1_valid(version.value) {
                            out.push(Err(plain(C_BAD_SUBSTREAMID, Class::Cd, item)));
                            continue;
                        }
                        let l2 = cd::l1_l2ptr(version.value) >> align << align;
                        let low = u64::from(ssid & ((1 << split) - 1));
                        self.fetch_cd(sid, ssid, l2 + low * size, s2, ste, &item, &mut out);
                    }
                }
            }
        }
        out
    }

    #[expect(clippy::too_many_arguments, reason = "a step of a walk has this much state")]
    fn fetch_cd(
        &self,
        sid: u32,
        ssid: u32,
        address: u64,
        s2: Option<&S2>,
        ste: &Rc<Item>,
        source: &Rc<Item>,
        out: &mut Vec<Result<CdUse, Fault>>,
    ) {
        for access in self.translated(address, s2, ste, Class::Cd) {
            let (pa, mut sources) = match access {
                Ok((pa, sources, _)) => (pa, sources),
                Err(fault) => {
                    out.push(Err(fault));
                    continue;
                }
            };
            sources.push(source.clone());
            let mut words = Vec::new();
            let mut aborted = false;
            for at in (pa..pa + cd::CD_SIZE).step_by(8) {
                match self.versions(at) {
                    Ok(versions) => words.push(versions),
                    Err(_) => aborted = true,
                }
            }
            if aborted {
                let mut fault = plain(F_CD_FETCH, Class::Cd, Item::live(vec![], sources));
                fault.ipa = pa;
                out.push(Err(fault));
                continue;
            }
            for mixture in combinations(&words) {
                let mut raw = [0; 8];
                for (to, from) in raw.iter_mut().zip(&mixture) {
                    *to = from.value;
                }
                let item = Item::new(Tag::Cd { sid, ssid }, mixture, sources.clone());
                out.push(Ok(CdUse { raw, item }));
            }
        }
    }

    /// The values of one word of a configuration structure, with what was used to find them.
    #[expect(clippy::type_complexity, reason = "used twice, here and above")]
    fn config_access(
        &self,
        address: u64,
        s2: Option<&S2>,
        ste: &Rc<Item>,
    ) -> Vec<Result<(Vec<Version>, Vec<Rc<Item>>), Fault>> {
        let step = |access: Result<(u64, Vec<Rc<Item>>, bool), Fault>| {
            let (pa, mut sources, _) = access?;
            sources.push(ste.clone());
            match self.versions(pa) {
                Ok(versions) => Ok((versions, sources)),
                Err(_) => {
                    let mut fault = plain(F_CD_FETCH, Class::Cd, Item::live(vec![], sources));
                    fault.ipa = pa;
                    Err(fault)
                }
            }
        };
        self.translated(address, s2, ste, Class::Cd).into_iter().map(step).collect()
    }

    /// Every physical address that an SMMU-originated read of `address` may go to; whether its page may be written.
    #[expect(clippy::type_complexity, reason = "address, what was used, writable")]
    fn translated(
        &self,
        address: u64,
        s2: Option<&S2>,
        ste: &Rc<Item>,
        class: Class,
    ) -> Vec<Result<(u64, Vec<Rc<Item>>, bool), Fault>> {
        let Some(s2) = s2 else {
            return vec![Ok((truncate(address, self.config.oas_bits()), vec![], true))];
        };
        let stage2 = |kind, ipa, item| Fault { kind, stage2: true, class, ipa, item };
        let each = |end| match end {
            S2Result::Leaf(leaf) if !leaf.read || (s2.ptw && leaf.device) => {
                Err(stage2(F_PERMISSION, address, leaf.item))
            }
            S2Result::Leaf(leaf) => Ok((leaf.pa, vec![leaf.item], leaf.write)),
            S2Result::Fault(kind, at, item) => Err(stage2(kind, if kind == F_WALK_EABT { at } else { address }, item)),
        };
        self.walk_s2(s2, address, ste).into_iter().map(each).collect()
    }

    /// Whether a context descriptor is legal for an entry [5.4.2]; `false` is C_BAD_CD.
    pub(crate) fn cd_legal(&self, raw: &cd::Cd, s1: &S1, world: World) -> bool {
        let config = self.config;
        if !cd::valid(raw) || !cd::aa64(raw) || !config.aarch64 {
            return false;
        }
        let two_halves = matches!(world, World::El1 { .. } | World::El2E2h);
        let epd0 = two_halves && cd::epd0(raw);
        let epd1 = !two_halves || cd::epd1(raw);
        if !(epd0 && epd1) && cd::endi(raw) {
            return false;
        }
        let ips = address_bits(cd::ips(raw)).min(config.oas_bits());
        let half_ok = |granule: Option<Granule>, tsz: u32, ttb: u64| {
            let Some(granule) = granule.filter(|g| granule_supported(config, *g)) else {
                return false;
            };
            let most = match (config.stt, granule) {
                (false, _) => 39,
                (true, Granule::K64) => 47,
                (true, _) => 48,
            };
            (16..=most).contains(&tsz) && ttb >> ips == 0
        };
        if !epd0 && !half_ok(Granule::from_tg0(cd::tg0(raw)), cd::t0sz(raw), cd::ttb0(raw)) {
            return false;
        }
        if !epd1 && !half_ok(Granule::from_tg1(cd::tg1(raw)), cd::t1sz(raw), cd::ttb1(raw)) {
            return false;
        }
        if two_halves && !config.asid16 && cd::asid(raw) > 0xff {
            return false;
        }
        if (cd::ha(raw) && config.httu == Httu::None) || (cd::hd(raw) && config.httu != Httu::Dirty) {
            return false;
        }
        if config.term_model && !cd::abort(raw) {
            return false;
        }
        match config.stall {
            StallModel::Both => !(s1.stalld && cd::stall(raw)),
            StallModel::Terminate => !cd::stall(raw),
            StallModel::Forced => cd::stall(raw),
        }
    }

    /// Every legal end of the stage 1 walk of `va` through `context`; not filtered for liveness.
    pub(crate) fn walk_s1(
        &self,
        context: &CdUse,
        world: World,
        va: u64,
        s2: Option<&S2>,
        ste: &Rc<Item>,
    ) -> Vec<Result<S1Leaf, Fault>> {
        let raw = &context.raw;
        let Some(half) = half_of(raw, world, va) else {
            let item = Item::live(vec![], vec![context.item.clone()]);
            return vec![Err(plain(F_TRANSLATION, Class::In, item))];
        };
        let walk = Walk {
            view: self,
            raw,
            world,
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

/// The constants of one stage 1 walk.
struct Walk<'a> {
    view: &'a View<'a>,
    raw: &'a cd::Cd,
    world: World,
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
        let asid = match self.world {
            World::El2 => AsidTag::Global,
            World::El1 { .. } | World::El2E2h => AsidTag::Asid(cd::asid(self.raw)),
        };
        match desc::decode(version.value, level, self.half.granule) {
            Desc::Invalid => fault(F_TRANSLATION),
            Desc::Table { next, .. } if next >> self.ips != 0 => fault(F_ADDR_SIZE),
            Desc::Leaf { pa: out_address, .. } if out_address >> self.ips != 0 => fault(F_ADDR_SIZE),
            Desc::Table { next, raw } => {
                let tag = Tag::S1 { world: self.world, asid, span, depth: Depth::Table(level), granule };
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
                let asid = if self.world != World::El2 && !desc::ng(raw) { AsidTag::Global } else { asid };
                let tag = Tag::S1 { world: self.world, asid, span, depth: Depth::Leaf(level), granule };
                let item = Item::new(tag, vec![version], sources.to_vec());
                let marked = if ha { raw | 1 << 10 } else { raw };
                if marked != raw && !current {
                    return;
                }
                let readonly = bit(desc::s1_ap(raw), 1);
                let by_dirty = ha && cd::hd(self.raw) && desc::dbm(raw) && readonly && current;
                let privileged_only = self.world != World::El2 && !bit(desc::s1_ap(raw) & !(ap_above & 1), 0);
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

/// A fault of stage 1, or of configuration.
fn plain(kind: u8, class: Class, item: Rc<Item>) -> Fault {
    Fault { kind, stage2: false, class, ipa: 0, item }
}

/// C_BAD_CD for a descriptor that was found.
pub(crate) fn bad_cd(context: &CdUse) -> Fault {
    plain(C_BAD_CD, Class::Cd, context.item.clone())
}

/// Which table translates `va`, if it is inside a range that is enabled [3.4.1].
fn half_of(raw: &cd::Cd, world: World, va: u64) -> Option<Half> {
    let two_halves = matches!(world, World::El1 { .. } | World::El2E2h);
    let upper = bit(va, 55);
    if upper && !two_halves {
        return None;
    }
    let (tsz, granule, ttb, disabled, tbi) = if upper {
        (cd::t1sz(raw), Granule::from_tg1(cd::tg1(raw)), cd::ttb1(raw), cd::epd1(raw), cd::tbi1(raw))
    } else {
        (cd::t0sz(raw), Granule::from_tg0(cd::tg0(raw)), cd::ttb0(raw), two_halves && cd::epd0(raw), cd::tbi0(raw))
    };
    let ia_bits = 64 - tsz;
    let top = if tbi { 56 } else { 64 };
    let mask = if top == 64 { u64::MAX } else { (1 << top) - 1 };
    let sign = (va & mask) >> ia_bits;
    let want = if upper { mask >> ia_bits } else { 0 };
    (!disabled && sign == want).then_some(Half { ttb, ia_bits, granule: granule? })
}
