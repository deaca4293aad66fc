//! Lookup and checks of stream table entries [IHI 0070G 3.3.2, 5.1, 5.2].

use std::rc::Rc;

use crate::arch::desc::Granule;
use crate::arch::{address_bits, bits32, ste, truncate};
use crate::config::{Config, Httu, StallModel};
use crate::inval::{Regime, Tag};
use crate::item::Item;
use crate::mem::Version;
use crate::stages::{CachedSte, Detail, Lookup, S1, S2, Stages, SteKind};
use crate::view::{Strtab, View, clip, combinations};

impl View<'_> {
    /// Every entry or failure that a lookup of `sid` may have as its result; not filtered for usability.
    pub(crate) fn lookup(&self, sid: u32) -> Vec<Lookup> {
        self.lookup_for(sid, Detail::All)
    }

    pub(crate) fn lookup_for(&self, sid: u32, detail: Detail) -> Vec<Lookup> {
        let mut out = Vec::new();
        for table in self.strtab {
            let base = truncate(table.base, self.config.oas_bits());
            let log2 = bits32(u64::from(table.cfg), 5, 0);
            let split = bits32(u64::from(table.cfg), 10, 6);
            let two_level = bits32(u64::from(table.cfg), 17, 16) == 1 && self.config.two_level;
            let current = table.end.is_none();
            let in_range = log2 >= 32 || u64::from(sid) < 1 << log2;
            if !in_range {
                if current {
                    out.push(Lookup::BadStreamId(Item::live(vec![], vec![])));
                }
                continue;
            }
            if !two_level {
                let aligned = base & !((ste::STE_SIZE << log2.min(40)) - 1);
                self.fetch_ste(sid, aligned + u64::from(sid) * ste::STE_SIZE, table, None, detail, &mut out);
                continue;
            }
            let split = if matches!(split, 6 | 8 | 10) { split } else { 6 };
            let l1_log2 = log2.saturating_sub(split);
            let l1 = base & !(((ste::L1STD_SIZE << l1_log2).max(64)) - 1);
            let address = l1 + u64::from(sid >> split) * ste::L1STD_SIZE;
            self.fetch_l1std(sid, address, split, table, detail, &mut out);
        }
        out
    }

    fn fetch_l1std(&self, sid: u32, address: u64, split: u32, table: &Strtab, detail: Detail, out: &mut Vec<Lookup>) {
        let Ok(versions) = self.versions(address) else {
            if table.end.is_none() {
                out.push(Lookup::Abort(address, Item::live(vec![], vec![])));
            }
            return;
        };
        for version in versions.into_iter().filter_map(|v| clip(v, table.start, table.end)) {
            let first = sid >> split << split;
            let item = Item::new(Tag::L1Std { first, split }, vec![version], vec![]);
            let span = ste::l1_span(version.value);
            let index = sid & ((1 << split) - 1);
            if span == 0 || span > 11 || span > split + 1 || index >= 1 << (span - 1) {
                out.push(Lookup::BadStreamId(item));
                continue;
            }
            let l2 = truncate(ste::l1_l2ptr(version.value), self.config.oas_bits());
            let l2 = l2 & !((ste::STE_SIZE << (span - 1)) - 1);
            self.fetch_ste(sid, l2 + u64::from(index) * ste::STE_SIZE, table, Some(item), detail, out);
        }
    }

    fn fetch_ste(
        &self,
        sid: u32,
        address: u64,
        table: &Strtab,
        source: Option<Rc<Item>>,
        detail: Detail,
        out: &mut Vec<Lookup>,
    ) {
        let sources: Vec<Rc<Item>> = source.into_iter().collect();
        let Ok(mut words) = self.versions_of_line(address) else {
            out.push(Lookup::Abort(address, Item::live(vec![], sources)));
            return;
        };
        // An entry behind a cached descriptor may be fetched after STRTAB_BASE has changed; an entry of a linear table
        // may not.
        let (start, end) = if sources.is_empty() { (table.start, table.end) } else { (0, None) };
        // A value that was overwritten before the descriptor was visible cannot be read through it.
        let linked = sources.iter().map(|source| source.since()).max().unwrap_or(0);
        // The same is true of a value stored after the descriptor was invalidated: a freed table may have been
        // reused.
        let forgotten = sources.iter().map(|source| self.timeline.gone_at(source)).min().unwrap_or(u64::MAX);
        for word in &mut words {
            let meets = |version: &&Version| version.start < forgotten && version.end.is_none_or(|end| end > linked);
            let read = word.iter().filter(meets);
            *word = read.filter_map(|version| clip(*version, start, end)).collect();
        }
        if detail == Detail::Reach {
            self.add_reaching(sid, &words, &sources, out);
            return;
        }
        for combination in combinations(&words) {
            let mut raw = [0; 8];
            for (to, from) in raw.iter_mut().zip(&combination) {
                *to = from.value;
            }
            let kind = self.check_ste(&raw);
            let item = Item::new(Tag::Ste { sid }, combination, sources.clone());
            out.push(Lookup::Found(CachedSte { kind, item }));
        }
    }
}

impl View<'_> {
    /// Decodes an entry and applies the ILLEGAL rules of its field descriptions.
    pub(crate) fn check_ste(&self, raw: &ste::Ste) -> SteKind {
        let config = self.config;
        if !ste::valid(raw) {
            return SteKind::Illegal;
        }
        let mode = ste::config(raw);
        if mode & 0b100 == 0 {
            return SteKind::Abort;
        }
        if mode == 0b100 {
            return SteKind::Bypass;
        }
        let stage1 = mode & 0b001 != 0;
        let stage2 = mode & 0b010 != 0;
        if (stage1 && !config.stage1) || (stage2 && !config.stage2) {
            return SteKind::Illegal;
        }
        let s1 = if stage1 {
            match check_s1(config, raw) {
                Some(s1) => Some(s1),
                None => return SteKind::Illegal,
            }
        } else {
            None
        };
        let s2 = if stage2 {
            match check_s2(config, raw) {
                Some(s2) => Some(s2),
                None => return SteKind::Illegal,
            }
        } else {
            None
        };
        let regime = match self.regime_of(raw, mode) {
            Some(regime) => regime,
            None => return SteKind::Illegal,
        };
        let Some(eats) = self.check_eats(raw, mode) else {
            return SteKind::Illegal;
        };
        SteKind::Translate(Stages { s1, s2, regime, eats })
    }
}

fn check_s1(config: &Config, raw: &ste::Ste) -> Option<S1> {
    let substreams = config.ssid_bits > 0;
    let cdmax = if substreams { ste::s1cdmax(raw) } else { 0 };
    if cdmax > config.ssid_bits {
        return None;
    }
    let fmt = if cdmax > 0 { ste::s1fmt(raw) } else { 0 };
    if fmt != 0 && !config.cd2l {
        return None;
    }
    if ste::s1stalld(raw) && config.stall != StallModel::Both {
        return None;
    }
    let fmt = if fmt == 3 { 0 } else { fmt };
    Some(S1 { ptr: ste::s1_context_ptr(raw), fmt, cdmax, dss: ste::s1dss(raw), stalld: ste::s1stalld(raw) })
}

/// Input size and start level of stage 2, see AArch64.S2InvalidSL and AArch64.S2InconsistentSL in the Arm ARM.
fn start_level(config: &Config, granule: Granule, sl0: u64, ia_bits: u32) -> Option<u32> {
    let oas = config.oas_bits();
    let level = match (granule, sl0) {
        (Granule::K4, 0) => 2,
        (Granule::K4, 1) => 1,
        (Granule::K4, 2) if oas >= 44 => 0,
        (Granule::K4, 3) if config.stt => 3,
        (Granule::K16 | Granule::K64, 0) => 3,
        (Granule::K16 | Granule::K64, 1) => 2,
        (Granule::K16, 2) if oas >= 42 => 1,
        (Granule::K64, 2) if oas >= 44 => 1,
        _ => return None,
    };
    let below = granule.level_shift(level);
    (ia_bits > below && ia_bits - below <= granule.stride() + 4).then_some(level)
}

pub(crate) fn granule_supported(config: &Config, granule: Granule) -> bool {
    match granule {
        Granule::K4 => config.gran4k,
        Granule::K16 => config.gran16k,
        Granule::K64 => config.gran64k,
    }
}

fn check_s2(config: &Config, raw: &ste::Ste) -> Option<S2> {
    if !ste::s2aa64(raw) || !config.aarch64 || ste::s2endi(raw) {
        return None;
    }
    let vmid = ste::s2vmid(raw);
    if !config.vmid16 && vmid > 0xff {
        return None;
    }
    let granule = Granule::from_tg0(ste::s2tg(raw)).filter(|g| granule_supported(config, *g))?;
    let t0sz = ste::s2t0sz(raw);
    let ias = config.oas_bits();
    let most = if !config.stt {
        39
    } else if granule == Granule::K64 {
        47
    } else {
        48
    };
    let least = if granule == Granule::K64 { 12.max(64 - ias) } else { 16.max(64 - ias) };
    if t0sz > most || t0sz < least {
        return None;
    }
    let ia_bits = 64 - t0sz;
    let start_level = start_level(config, granule, ste::s2sl0(raw), ia_bits)?;
    let oa_bits = address_bits(ste::s2ps(raw)).min(config.oas_bits());
    let ttb = ste::s2ttb(raw);
    if ttb >> oa_bits != 0 || (granule != Granule::K64 && ttb >> 48 != 0) {
        return None;
    }
    let (ha, hd) = (ste::s2ha(raw), ste::s2hd(raw));
    if (ha && config.httu == Httu::None) || (hd && config.httu != Httu::Dirty) {
        return None;
    }
    match config.stall {
        StallModel::Terminate if ste::s2s(raw) => return None,
        StallModel::Forced if !ste::s2s(raw) => return None,
        _ => {}
    }
    Some(S2 {
        vmid,
        ttb,
        ia_bits,
        start_level,
        granule,
        oa_bits,
        affd: ste::s2affd(raw),
        ha,
        hd: ha && hd,
        ptw: ste::s2ptw(raw),
        fwb: config.fwb && ste::s2fwb(raw),
        stall: ste::s2s(raw),
        record: ste::s2r(raw),
    })
}

impl View<'_> {
    fn regime_of(&self, raw: &ste::Ste, mode: u64) -> Option<Regime> {
        let config = self.config;
        let (stage1, stage2) = (mode & 0b001 != 0, mode & 0b010 != 0);
        let vmid = if config.stage2 { ste::s2vmid(raw) } else { 0 };
        let el1 = Regime::El1 { vmid };
        if stage2 || !stage1 || !config.hyp {
            return Some(el1);
        }
        match ste::strw(raw) {
            0b00 if !config.vmid16 && vmid > 0xff => None,
            0b00 => Some(el1),
            0b10 if self.e2h => Some(Regime::El2E2h),
            0b10 => Some(Regime::El2),
            _ => None,
        }
    }

    /// The effective EATS, or `None` for an ILLEGAL one [5.2 EATS].
    fn check_eats(&self, raw: &ste::Ste, mode: u64) -> Option<u64> {
        let config = self.config;
        if !config.ats {
            return Some(0);
        }
        let s2s = mode & 0b010 != 0 && ste::s2s(raw);
        match ste::eats(raw) {
            0b01 if s2s => None,
            0b01 => Some(0b01),
            0b10 if mode != 0b111 || s2s || config.ns1ats => None,
            0b10 if !self.atschk => Some(0),
            0b10 => Some(0b10),
            _ => Some(0),
        }
    }
}
