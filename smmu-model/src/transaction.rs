//! Translation of one transaction: all legal outcomes.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::arch::event::{self, Class, Event};
use crate::arch::{cd, truncate};
use crate::context::{CachedCd, Fault, bad_cd};
use crate::item::Item;
use crate::source::{Source, tlb_sources};
use crate::stage2::{S2Result, Update};
use crate::stages::{CachedSte, Detail, Lookup, S2, Stages, SteKind};
use crate::view::View;

/// Direction of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The device reads memory.
    Read,
    /// The device writes memory.
    Write,
}

/// The fields of a transaction that translation uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) sid: u32,
    pub(crate) ssid: Option<u32>,
    pub(crate) address: u64,
    pub(crate) access: Access,
}

/// One legal outcome.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) item: Rc<Item>,
}

#[derive(Clone, Debug)]
pub(crate) enum End {
    Pass { pa: u64, updates: Vec<Update> },
    Terminate { event: Option<Event>, razwi: bool },
    Stall { event: Event },
}

/// An event with only the fields of the transaction.
pub(crate) fn blank(kind: u8, request: &Request, class: Class) -> Event {
    Event {
        kind,
        sid: request.sid,
        ssid: request.ssid,
        read: request.access == Access::Read,
        stage2: false,
        class,
        input: request.address,
        ipa: 0,
        stag: None,
    }
}

/// The translation of one transaction.
pub(crate) struct Transaction<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) request: Request,
    pub(crate) streams: &'a BTreeSet<u32>,
}

impl Transaction<'_> {
    pub(crate) fn run(&self) -> Vec<Outcome> {
        let mut out = Vec::new();
        for lookup in self.view.cached_lookup(self.request.sid, Detail::All).iter() {
            match lookup {
                Lookup::BadStreamId(item) => {
                    let event = self.view.recinvsid.then(|| blank(event::C_BAD_STREAMID, &self.request, Class::In));
                    out.push(terminate(event, vec![item.clone()]));
                }
                Lookup::Abort(address, item) => {
                    let mut event = blank(event::F_STE_FETCH, &self.request, Class::In);
                    event.ipa = *address;
                    out.push(terminate(Some(event), vec![item.clone()]));
                }
                Lookup::Found(ste) => self.with_ste(ste, &mut out),
            }
        }
        out
    }

    fn error(&self, kind: u8, item: &Rc<Item>) -> Outcome {
        terminate(Some(blank(kind, &self.request, Class::In)), vec![item.clone()])
    }

    fn with_ste(&self, ste: &CachedSte, out: &mut Vec<Outcome>) {
        let oas = self.view.config.oas_bits();
        match &ste.kind {
            SteKind::Illegal => out.push(self.error(event::C_BAD_STE, &ste.item)),
            SteKind::Abort => out.push(terminate(None, vec![ste.item.clone()])),
            SteKind::Bypass if self.request.ssid.is_some() => {
                out.push(self.error(event::C_BAD_SUBSTREAMID, &ste.item));
            }
            SteKind::Bypass if self.request.address >> oas != 0 => {
                out.push(self.error(event::F_ADDR_SIZE, &ste.item));
            }
            SteKind::Bypass => out.push(pass(self.request.address, vec![], vec![ste.item.clone()])),
            SteKind::Translate(stages) => match self.substream(stages) {
                Err(kind) => out.push(self.error(kind, &ste.item)),
                Ok(None) => self.stage2_only(stages, ste, out),
                Ok(Some(index)) => self.stage1(index, stages, ste, out),
            },
        }
    }

    /// The index of the context descriptor, or `None` where stage 1 is bypassed [5.2 S1DSS, S1CDMax].
    fn substream(&self, stages: &Stages) -> Result<Option<u32>, u8> {
        match (&stages.s1, self.request.ssid) {
            (None, Some(_)) => Err(event::C_BAD_SUBSTREAMID),
            (None, None) => Ok(None),
            (Some(s1), Some(_)) if s1.cdmax == 0 => Err(event::C_BAD_SUBSTREAMID),
            (Some(s1), Some(ssid)) if ssid >> s1.cdmax != 0 => Err(event::C_BAD_SUBSTREAMID),
            (Some(s1), Some(0)) if s1.dss == 0b10 => Err(event::F_STREAM_DISABLED),
            (Some(_), Some(ssid)) => Ok(Some(ssid)),
            (Some(s1), None) if s1.cdmax == 0 => Ok(Some(0)),
            (Some(s1), None) => match s1.dss {
                0b01 => Ok(None),
                0b10 => Ok(Some(0)),
                _ => Err(event::F_STREAM_DISABLED),
            },
        }
    }

    fn stage2_only(&self, stages: &Stages, ste: &CachedSte, out: &mut Vec<Outcome>) {
        let ipa = self.request.address;
        if ipa >> self.view.config.oas_bits() != 0 {
            out.push(self.error(event::F_ADDR_SIZE, &ste.item));
            return;
        }
        let Some(own) = &stages.s2 else {
            out.push(pass(ipa, vec![], vec![ste.item.clone()]));
            return;
        };
        for source in tlb_sources(self.view, self.streams, self.request.sid, stages.regime, Detail::All) {
            let Some(s2) = &source.stages.s2 else {
                continue;
            };
            let is_own = Rc::ptr_eq(&source.item, &ste.item) || same_item(&source.item, &ste.item);
            for end in self.view.walk_s2(s2, ipa, &source.item) {
                self.stage2_end(end, ipa, own, is_own, vec![ste.item.clone()], vec![], out);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the end of a walk has this state")]
    fn stage2_end(
        &self,
        end: S2Result,
        ipa: u64,
        own: &S2,
        is_own: bool,
        mut sources: Vec<Rc<Item>>,
        mut updates: Vec<Update>,
        out: &mut Vec<Outcome>,
    ) {
        match end {
            S2Result::Leaf(leaf) => {
                let allowed = match self.request.access {
                    Access::Read => leaf.read,
                    Access::Write => leaf.write,
                };
                sources.push(leaf.item.clone());
                if allowed {
                    let dirty = leaf.dirty.filter(|_| self.request.access == Access::Write);
                    updates.extend(dirty.or(leaf.access));
                    out.push(pass(leaf.pa, updates, sources));
                } else {
                    out.push(self.stage2_fault(event::F_PERMISSION, Class::In, ipa, own, sources));
                }
            }
            S2Result::Fault(kind, at, item) if is_own => {
                sources.push(item);
                let address = if kind == event::F_WALK_EABT { at } else { ipa };
                out.push(self.stage2_fault(kind, Class::In, address, own, sources));
            }
            S2Result::Fault(..) => {}
        }
    }

    fn stage2_fault(&self, kind: u8, class: Class, ipa: u64, s2: &S2, sources: Vec<Rc<Item>>) -> Outcome {
        let mut event = blank(kind, &self.request, class);
        event.stage2 = true;
        event.ipa = ipa;
        let configurable =
            matches!(kind, event::F_TRANSLATION | event::F_ADDR_SIZE | event::F_ACCESS | event::F_PERMISSION);
        if configurable && s2.stall {
            return Outcome { end: End::Stall { event }, item: Item::live(vec![], sources) };
        }
        terminate(Some(event).filter(|_| !configurable || s2.record), sources)
    }

    fn stage1(&self, index: u32, stages: &Stages, ste: &CachedSte, out: &mut Vec<Outcome>) {
        let Some(s1) = &stages.s1 else { return };
        for found in self.view.lookup_cd(self.request.sid, index, s1, stages.s2.as_ref(), &ste.item) {
            let context = match found {
                Err(fault) => {
                    let sources = vec![ste.item.clone(), fault.item.clone()];
                    out.push(self.fault(&fault, None, stages.s2.as_ref(), sources));
                    continue;
                }
                Ok(context) => context,
            };
            if !self.view.cd_legal(&context.raw, s1, stages.regime) {
                let fault = bad_cd(&context);
                let sources = vec![ste.item.clone(), fault.item.clone()];
                out.push(self.fault(&fault, None, None, sources));
                continue;
            }
            self.with_context(index, stages, ste, &context, out);
        }
    }

    /// Stage 1 (and 2) for one entry and one context descriptor, which determine the tags; TLB entries with these tags
    /// may come from older ones.
    fn with_context(&self, index: u32, stages: &Stages, ste: &CachedSte, context: &CachedCd, out: &mut Vec<Outcome>) {
        let asid = cd::asid(&context.raw);
        let sources = tlb_sources(self.view, self.streams, self.request.sid, stages.regime, Detail::All);
        for source in sources.iter().filter(|source| source.sid == self.request.sid) {
            let Some(s1) = &source.stages.s1 else {
                continue;
            };
            let found = self.view.lookup_cd(source.sid, index, s1, source.stages.s2.as_ref(), &source.item);
            for older in found.into_iter().flatten() {
                if cd::asid(&older.raw) != asid || !self.view.cd_legal(&older.raw, s1, stages.regime) {
                    continue;
                }
                let is_own = same_item(&older.item, &context.item) && same_item(&source.item, &ste.item);
                let base = vec![ste.item.clone(), context.item.clone()];
                for end in self.view.walk_s1(
                    &older,
                    stages.regime,
                    self.request.address,
                    source.stages.s2.as_ref(),
                    &source.item,
                ) {
                    match end {
                        Err(fault) if is_own => {
                            let mut with = base.clone();
                            with.push(fault.item.clone());
                            out.push(self.fault(&fault, Some(context), stages.s2.as_ref(), with));
                        }
                        Err(_) => {}
                        Ok(leaf) => self.after_stage1(leaf, source, stages, context, is_own, &sources, &base, out),
                    }
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the end of a walk has this state")]
    fn after_stage1(
        &self,
        leaf: crate::stage1::S1Leaf,
        source: &Source,
        stages: &Stages,
        context: &CachedCd,
        is_own: bool,
        sources: &[Source],
        base: &[Rc<Item>],
        out: &mut Vec<Outcome>,
    ) {
        let allowed = match self.request.access {
            Access::Read => leaf.read,
            Access::Write => leaf.write,
        };
        let with = |item: &Rc<Item>| {
            let mut with = base.to_vec();
            with.push(item.clone());
            with
        };
        if !allowed {
            let fault =
                Fault { kind: event::F_PERMISSION, stage2: false, class: Class::In, ipa: 0, item: leaf.item.clone() };
            out.push(self.fault(&fault, Some(context), stages.s2.as_ref(), with(&leaf.item)));
            return;
        }
        let mut updates = leaf.updates.clone();
        if let Some(dirty) = leaf.dirty.filter(|_| self.request.access == Access::Write) {
            updates = vec![dirty];
        }
        if !updates.is_empty() && !leaf.updatable {
            let Some(own) = &stages.s2 else { return };
            out.push(self.stage2_fault(event::F_PERMISSION, Class::Tt, leaf.descriptor, own, with(&leaf.item)));
            return;
        }
        let own = match (&stages.s2, &source.stages.s2) {
            (None, _) => {
                let pa = truncate(leaf.out, self.view.config.oas_bits());
                out.push(pass(pa, updates, with(&leaf.item)));
                return;
            }
            // The TLB entry was created when this stream had no stage 2: its output address is used as a PA.
            (Some(_), None) => {
                out.push(pass(truncate(leaf.out, self.view.config.oas_bits()), updates, with(&leaf.item)));
                return;
            }
            (Some(own), Some(_)) => own,
        };
        for second in sources {
            let Some(s2) = &second.stages.s2 else {
                continue;
            };
            let own_walk = is_own && s2 == own;
            for end in self.view.walk_s2(s2, leaf.out, &second.item) {
                match end {
                    S2Result::Leaf(s2_leaf) => {
                        let item = Item::new(leaf.tag, vec![], vec![leaf.item.clone(), s2_leaf.item.clone()]);
                        let end = S2Result::Leaf(crate::stage2::S2Leaf { item, ..s2_leaf });
                        self.stage2_end(end, leaf.out, own, own_walk, base.to_vec(), updates.clone(), out);
                    }
                    fault @ S2Result::Fault(..) => {
                        self.stage2_end(fault, leaf.out, own, own_walk, with(&leaf.item), vec![], out);
                    }
                }
            }
        }
    }

    /// The outcome of a fault: terminated or stalled as CD.{A,R,S} or STE.{S2R,S2S} select [5.5].
    fn fault(&self, fault: &Fault, context: Option<&CachedCd>, s2: Option<&S2>, sources: Vec<Rc<Item>>) -> Outcome {
        if fault.stage2
            && let Some(s2) = s2
        {
            return self.stage2_fault(fault.kind, fault.class, fault.ipa, s2, sources);
        }
        let mut event = blank(fault.kind, &self.request, fault.class);
        event.ipa = fault.ipa;
        let configurable =
            matches!(fault.kind, event::F_TRANSLATION | event::F_ADDR_SIZE | event::F_ACCESS | event::F_PERMISSION);
        let Some(raw) = context.map(|c| &c.raw).filter(|_| configurable) else {
            return terminate(Some(event), sources);
        };
        if cd::stall(raw) {
            return Outcome { end: End::Stall { event }, item: Item::live(vec![], sources) };
        }
        let event = Some(event).filter(|_| cd::record(raw));
        let razwi = !cd::abort(raw);
        Outcome { end: End::Terminate { event, razwi }, item: Item::live(vec![], sources) }
    }

    /// A Translated transaction under ATSCHK [3.9.1].
    pub(crate) fn translated(&self) -> Vec<Outcome> {
        let mut out = Vec::new();
        for lookup in self.view.cached_lookup(self.request.sid, Detail::All).iter() {
            let Lookup::Found(ste) = lookup else {
                out.push(terminate(None, vec![]));
                continue;
            };
            match &ste.kind {
                SteKind::Illegal | SteKind::Abort => out.push(terminate(None, vec![ste.item.clone()])),
                SteKind::Translate(Stages { eats: 0b01, .. }) => {
                    out.push(pass(self.request.address, vec![], vec![ste.item.clone()]));
                }
                SteKind::Translate(stages) if stages.eats == 0b10 => self.stage2_only(stages, ste, &mut out),
                SteKind::Bypass | SteKind::Translate(_) => out.push(self.error(event::F_TRANSL_FORBIDDEN, &ste.item)),
            }
        }
        out
    }
}

fn same_item(a: &Rc<Item>, b: &Rc<Item>) -> bool {
    Rc::ptr_eq(a, b) || a.same(b)
}

fn pass(pa: u64, updates: Vec<Update>, sources: Vec<Rc<Item>>) -> Outcome {
    Outcome { end: End::Pass { pa, updates }, item: Item::live(vec![], sources) }
}

fn terminate(event: Option<Event>, sources: Vec<Rc<Item>>) -> Outcome {
    Outcome { end: End::Terminate { event, razwi: false }, item: Item::live(vec![], sources) }
}
