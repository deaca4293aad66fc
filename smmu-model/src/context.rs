//! Context descriptors: lookup, through stage 2 if enabled, and checks [IHI 0070G 5.3, 5.4].

use std::rc::Rc;

use crate::arch::desc::Granule;
use crate::arch::event::{C_BAD_CD, C_BAD_SUBSTREAMID, Class, F_CD_FETCH, F_PERMISSION, F_WALK_EABT};
use crate::arch::{address_bits, cd, truncate};
use crate::config::{Httu, StallModel};
use crate::inval::{Regime, Tag};
use crate::item::Item;
use crate::mem::Version;
use crate::stage2::S2Result;
use crate::stages::{S1, S2};
use crate::strtab::granule_supported;
use crate::view::{View, combinations};

/// The source of a fault, for the event record and for the choice of stall or abort.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: u8,
    pub(crate) stage2: bool,
    pub(crate) class: Class,
    pub(crate) ipa: u64,
    pub(crate) item: Rc<Item>,
}

/// A context descriptor that a cache may contain.
#[derive(Clone, Debug)]
pub(crate) struct CachedCd {
    pub(crate) raw: cd::Cd,
    pub(crate) item: Rc<Item>,
}

impl View<'_> {
    /// Every context descriptor that a lookup of index `ssid` may return; not filtered for usability.
    pub(crate) fn lookup_cd(
        &self,
        sid: u32,
        ssid: u32,
        s1: &S1,
        s2: Option<&S2>,
        ste: &Rc<Item>,
    ) -> Vec<Result<CachedCd, Fault>> {
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

    #[expect(clippy::too_many_arguments, reason = "a step of a walk has this state")]
    fn fetch_cd(
        &self,
        sid: u32,
        ssid: u32,
        address: u64,
        s2: Option<&S2>,
        ste: &Rc<Item>,
        source: &Rc<Item>,
        out: &mut Vec<Result<CachedCd, Fault>>,
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
            for combination in combinations(&words) {
                let mut raw = [0; 8];
                for (to, from) in raw.iter_mut().zip(&combination) {
                    *to = from.value;
                }
                let item = Item::new(Tag::Cd { sid, ssid }, combination, sources.clone());
                out.push(Ok(CachedCd { raw, item }));
            }
        }
    }

    /// The values of one word of a configuration structure, with the items that were used to find them.
    #[expect(clippy::type_complexity, reason = "also used by the function above")]
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

    /// Every physical address that an SMMU-originated read of `address` may access, and whether its page is writable.
    #[expect(clippy::type_complexity, reason = "address, what was used, writable")]
    pub(crate) fn translated(
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
    pub(crate) fn cd_legal(&self, raw: &cd::Cd, s1: &S1, regime: Regime) -> bool {
        let config = self.config;
        if !cd::valid(raw) || !cd::aa64(raw) || !config.aarch64 {
            return false;
        }
        let two_halves = matches!(regime, Regime::El1 { .. } | Regime::El2E2h);
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
}

/// A fault of stage 1 or of a configuration structure.
pub(crate) fn plain(kind: u8, class: Class, item: Rc<Item>) -> Fault {
    Fault { kind, stage2: false, class, ipa: 0, item }
}

/// C_BAD_CD for the descriptor `context`.
pub(crate) fn bad_cd(context: &CachedCd) -> Fault {
    plain(C_BAD_CD, Class::Cd, context.item.clone())
}
