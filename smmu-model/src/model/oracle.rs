//! The oracle: the bytes that a stream can reach now, in any behaviour allowed by the architecture and with any stage
//! 1.
//!
//! The owner of the stream is assumed to be hostile, and the structures that it can write (context descriptors and
//! stage 1 tables) to have the worst content: with stage 1 enabled, every IPA that stage 2 translates can be accessed,
//! and a combined TLB entry of any VA and ASID may exist for it. Only stage 2, the stream table and the registers
//! limit a stream. So the result is an upper bound of the accesses of [`Model::dma_read`] and [`Model::dma_write`],
//! and does not depend on earlier transactions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Model;
use super::evtq::{queue_base, queue_log2};
use super::regs::Handshake;
use crate::arch::desc::{self, Desc};
use crate::arch::regs as r;
use crate::config::{Bbml, Cache};
use crate::hash::SetOf;
use crate::hazard::Hazard;
use crate::inval::{AsidTag, Depth, Tag};
use crate::item::Item;
use crate::mapped::Mapped;
use crate::mem::Time;
use crate::reach::{Reachable, Via};
use crate::source::{Source, tlb_sources};
use crate::stage2::S2Mapping;
use crate::stages::{CachedSte, Detail, Lookup, S2, SteKind};
use crate::view::{Strtab, View};

/// The bytes that a stream can reach.
#[derive(Debug, Default)]
pub struct Reach {
    /// Current mappings of the tables, shared by streams with equal entries.
    pub now: Vec<Arc<Mapped>>,
    /// All other ranges: reached without a table, or through overwritten entries.
    pub other: Vec<Reachable>,
}

/// The state that a result depended on. While it is unchanged, streams can reach no more than the result has.
///
/// Invalidations, time and dropped history are not part of it: they only remove cached entries.
#[derive(Debug)]
pub struct Basis {
    sids: Vec<u32>,
    pages: Vec<(u64, u64)>,
    strtab: Vec<Strtab>,
    enabled: Vec<(Time, Option<Time>)>,
    streams: BTreeSet<u32>,
    /// CR0, GBPA and CR2.
    registers: (Handshake, Handshake, u32),
    cache: Cache,
}

/// Memory that the SMMU writes without a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Originated {
    /// The register with its address.
    pub register: u32,
    /// First physical address.
    pub pa: u64,
    /// Size in bytes.
    pub size: u64,
}

/// Collects the ranges that TLB entries with one tag may reach, one source after the other.
struct Collector<'a> {
    view: &'a View<'a>,
    nested: bool,
    /// Overwritten leaves that were found: address, size, and whether they can be written.
    found: SetOf<(u64, u32, bool)>,
    /// Tables of current sources.
    now: Vec<(S2, Arc<Mapped>)>,
}

impl Collector<'_> {
    fn reach(&mut self, source: &Source, out: &mut Reach) {
        let Some(s2) = source.stages.s2 else {
            let item = Item::new(any_stage1(source), vec![], vec![source.item.clone()]);
            if self.nested && self.view.usable_at(&item) {
                let (size, stale) = (1 << self.view.config.oas_bits(), !item.fresh());
                out.other.push(Reachable { pa: 0, size, ipa: 0, write: true, via: Via::StaleStage1Only, stale });
            }
            return;
        };
        // Current entries and tables can be read now.
        if source.item.fresh() && self.view.enabled() && self.now.iter().all(|(known, _)| *known != s2) {
            let mapped = self.view.mapped_now(&s2);
            out.now.push(mapped.clone());
            self.now.push((s2, mapped));
        }
        let now = self.now.iter().find(|(known, _)| *known == s2);
        let mappings = match now {
            Some((_, now)) => self.view.s2_overwritten(&s2, &source.item, now),
            None => self.view.s2_mappings(&s2, &source.item),
        };
        for mapping in mappings {
            self.reach_leaf(source, &mapping, out);
        }
    }

    fn reach_leaf(&mut self, source: &Source, mapping: &S2Mapping, out: &mut Reach) {
        let leaf = &mapping.leaf;
        let key = (leaf.pa, leaf.shift, leaf.write);
        let known = self.found.contains(&key) || self.now.iter().any(|(_, now)| now.covers(key.0, key.1, key.2));
        if (!leaf.read && !leaf.write) || known {
            return;
        }
        let via = if self.view.usable_at(&leaf.item) {
            Via::Stage2
        } else if self.nested && self.view.usable_at(&Item::new(any_stage1(source), vec![], vec![leaf.item.clone()])) {
            Via::Combined
        } else {
            return;
        };
        self.found.insert(key);
        out.other.push(Reachable {
            pa: leaf.pa,
            size: 1 << leaf.shift,
            ipa: mapping.ipa,
            write: leaf.write,
            via,
            stale: !leaf.item.fresh(),
        });
    }
}

/// The tag of the combined entry that is removed by the fewest invalidations.
fn any_stage1(source: &Source) -> Tag {
    Tag::S1 { regime: source.stages.regime, asid: AsidTag::Any, span: None, depth: Depth::AnyLeaf, granule: None }
}

impl Model {
    /// Whether all transactions may bypass the SMMU: SMMUEN may be 0 and GBPA.ABORT may be 0.
    #[must_use]
    pub fn may_bypass(&self) -> bool {
        self.regs.cr0.maybe_clear(r::CR0_SMMUEN) && self.regs.gbpa.maybe_clear(r::GBPA_ABORT)
    }

    /// Everything that transactions of `sid` can reach now.
    #[must_use]
    pub fn reach(&self, sid: u32) -> Vec<Reachable> {
        let reach = self.reach_by(&self.view(), sid);
        reach.now.iter().flat_map(|mapped| mapped.leaves()).chain(reach.other).collect()
    }

    /// The same for several streams, in the order of `sids`; current mappings of tables are shared, not listed by
    /// leaves.
    #[must_use]
    pub fn reach_each(&self, sids: &[u32]) -> (Vec<Reach>, Basis) {
        let view = self.view();
        let reach = sids.iter().map(|sid| self.reach_by(&view, *sid)).collect();
        let mut pages = view.read.take();
        pages.sort_unstable();
        pages.dedup();
        let basis = Basis {
            sids: sids.to_vec(),
            pages: self.mem().with_value_stamps(pages),
            strtab: self.strtab.clone(),
            enabled: self.timeline.enabled.clone(),
            streams: self.streams.clone(),
            registers: (self.regs.cr0, self.regs.gbpa, self.regs.cr2),
            cache: self.config().cache,
        };
        (reach, basis)
    }

    /// Whether `sids` can reach no more than the result that was returned with `basis`. The SMMU must not have been
    /// restored since.
    #[must_use]
    pub fn reach_no_more(&self, sids: &[u32], basis: &Basis) -> bool {
        basis.sids == sids
            && basis.registers == (self.regs.cr0, self.regs.gbpa, self.regs.cr2)
            && basis.cache == self.config().cache
            && basis.strtab == self.strtab
            && basis.enabled == self.timeline.enabled
            && basis.streams == self.streams
            && self.mem().has_no_new_values(&basis.pages)
    }

    /// The maximum number of combinations of old and new words of one entry that the oracle has tried since the last
    /// call.
    #[must_use]
    pub fn take_combinations(&self) -> usize {
        self.lookup_cache.take_combinations()
    }

    fn reach_by(&self, view: &View<'_>, sid: u32) -> Reach {
        let everything =
            |via| Reachable { pa: 0, size: 1 << self.config().oas_bits(), ipa: 0, write: true, via, stale: false };
        let mut out = Reach::default();
        if self.may_bypass() {
            out.other.push(everything(Via::Disabled));
        }
        if !self.regs.cr0.maybe(r::CR0_SMMUEN) {
            return out;
        }
        if self.config().ats && self.regs.cr0.maybe_clear(r::CR0_ATSCHK) {
            out.other.push(everything(Via::AtsUnchecked));
        }
        let mut seen = Vec::new();
        for lookup in view.cached_lookup(sid, Detail::Reach).iter() {
            let Lookup::Found(CachedSte { kind, item }) = lookup else {
                continue;
            };
            if !view.usable_at(&Item::live(vec![], vec![item.clone()])) {
                continue;
            }
            match kind {
                SteKind::Illegal | SteKind::Abort => {}
                SteKind::Bypass => out.other.push(everything(Via::Bypass)),
                SteKind::Translate(stages) => {
                    if stages.eats == 0b01 {
                        out.other.push(everything(Via::AtsFull));
                    }
                    if stages.s2.is_none() {
                        out.other.push(everything(Via::Stage1Only));
                        continue;
                    }
                    // The entry determines the tags; TLB content for equal tags is the same.
                    let key = (stages.regime, stages.s1.is_some());
                    if seen.contains(&key) {
                        continue;
                    }
                    seen.push(key);
                    // Current mappings first: ranges that they reach are not searched for in the history.
                    let mut sources = tlb_sources(view, &self.streams, sid, stages.regime, Detail::Reach);
                    sources.sort_by_key(|source| !source.item.fresh());
                    let mut collector =
                        Collector { view, nested: stages.s1.is_some(), found: SetOf::default(), now: Vec::new() };
                    for source in sources {
                        collector.reach(&source, &mut out);
                    }
                }
            }
        }
        out
    }

    /// Every stream table entry, as its eight words, that hardware may use for `sid` now: also partly updated ones.
    #[must_use]
    pub fn entries(&self, sid: u32) -> Vec<Vec<u64>> {
        let view = self.view();
        let found = view.lookup(sid).into_iter().filter_map(|lookup| match lookup {
            Lookup::Found(ste) => Some(ste.item),
            Lookup::BadStreamId(_) | Lookup::Abort(..) => None,
        });
        found.filter(|item| view.usable_at(&Item::live(vec![], vec![item.clone()]))).map(|item| item.values()).collect()
    }

    /// The range through which transactions of `sid` can reach the byte at `pa` now, if there is one.
    #[must_use]
    pub fn can_reach(&self, sid: u32, pa: u64) -> Option<Reachable> {
        self.reach(sid).into_iter().find(|range| range.contains(pa))
    }

    /// The first byte in `range` that transactions of `sid` can reach now.
    #[must_use]
    pub fn can_reach_any(&self, sid: u32, range: std::ops::Range<u64>) -> Option<Reachable> {
        self.reach(sid).into_iter().find(|r| r.pa < range.end && range.start < r.pa + r.size)
    }

    /// Memory that the SMMU writes without a transaction: queues and MSIs, as far as they are enabled.
    #[must_use]
    pub fn originated_writes(&self) -> Vec<Originated> {
        let g = &self.regs;
        let oas = self.config().oas_bits();
        let mut out = Vec::new();
        if g.cr0.maybe(r::CR0_EVENTQEN) {
            let log2 = queue_log2(g.eventq_base, self.config().eventq_bits);
            let pa = queue_base(g.eventq_base, log2, 32, oas);
            out.push(Originated { register: r::EVENTQ_BASE, pa, size: 32 << log2 });
        }
        if self.config().pri && g.cr0.maybe(r::CR0_PRIQEN) {
            let log2 = queue_log2(g.priq_base, self.config().priq_bits);
            let pa = queue_base(g.priq_base, log2, 16, oas);
            out.push(Originated { register: r::PRIQ_BASE, pa, size: 16 << log2 });
        }
        if self.config().msi {
            let targets = [
                (r::IRQ_GERROR, r::GERROR_IRQ_CFG0, g.gerror_irq.address),
                (r::IRQ_EVENTQ, r::EVENTQ_IRQ_CFG0, g.eventq_irq.address),
                (r::IRQ_PRIQ, r::PRIQ_IRQ_CFG0, g.priq_irq.address),
            ];
            for (enable, register, address) in targets {
                if address != 0 && g.irq_ctrl.maybe(enable) {
                    out.push(Originated { register, pa: crate::arch::truncate(address, oas), size: 4 });
                }
            }
        }
        out
    }

    /// Looks for mappings of `sid` that were replaced without the break-before-make that this implementation needs, and
    /// records each as a [`Hazard::BreakBeforeMake`] [3.21.1.1].
    pub fn check_break_before_make(&mut self, sid: u32) {
        let mut found = Vec::new();
        {
            let view = self.view();
            for lookup in view.lookup(sid) {
                let Lookup::Found(CachedSte { kind: SteKind::Translate(stages), item, .. }) = lookup else {
                    continue;
                };
                let Some(s2) = stages.s2 else { continue };
                if !view.usable_at(&item) {
                    continue;
                }
                for mapping in view.s2_mappings(&s2, &item) {
                    let at = mapping.leaf.descriptor;
                    let Some(old) = mapping.leaf.item.only_word() else {
                        continue;
                    };
                    if old.end.is_none() || !view.usable_at(&mapping.leaf.item) {
                        continue;
                    }
                    let Ok(Some(now)) = view.mem.versions(at, 0).map(|all| all.last().copied()) else {
                        continue;
                    };
                    let level = mapping.leaf.level;
                    let conflict = match (
                        desc::decode(old.value, level, s2.granule),
                        desc::decode(now.value, level, s2.granule),
                    ) {
                        (Desc::Leaf { .. }, Desc::Table { .. }) => match self.config().bbml {
                            Bbml::Level0 => true,
                            Bbml::Level1 => !desc::nt(old.value),
                            Bbml::Level2 => false,
                        },
                        (Desc::Leaf { pa: a, .. }, Desc::Leaf { pa: b, .. }) => a != b,
                        _ => false,
                    };
                    if conflict && !found.contains(&at) {
                        found.push(at);
                    }
                }
            }
        }
        for descriptor in found {
            self.hazard(Hazard::BreakBeforeMake { descriptor });
        }
    }
}
