//! The model: state, scheduling, fault injection and inspection by tests.

mod ats;
mod cmdq;
mod dma;
mod evtq;
mod handshake;
mod oracle;
mod regs;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::arch::cmd::Cmd;
use crate::arch::event::Event;
use crate::arch::regs as r;
use crate::config::{Cache, Config, Pace};
use crate::hazard::Hazard;
use crate::inval::{Invalidation, Scope};
use crate::item::{Regimes, Timeline};
use crate::mapped::TableCache;
use crate::mem::{ExternalAbort, Memory, MmioWrite, Time};
use crate::view::{History, LookupCache, Strtab, View};
use dma::StalledTransaction;
use regs::Regs;

pub use ats::AtsReply;
pub use dma::Transfer;
pub use evtq::{PageRequest, Recorded};
pub use oracle::{Basis, Originated, Reach};

/// An interrupt or event that the SMMU signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irq {
    /// The event queue became non-empty.
    Eventq,
    /// The PRI queue has a new entry.
    Priq,
    /// A SYNC with CS = IRQ completed.
    CmdSync,
    /// A global error became active.
    Gerror,
    /// A WFE wake-up event.
    Event,
}

/// A failure that a test injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// The next command stops the queue with this CERROR code.
    CommandError(u32),
    /// The next SYNC, and everything after it, never completes.
    SyncNever,
    /// The next SYNC fails with CERROR_ATC_INV_SYNC.
    AtcTimeout,
    /// The next event record cannot be written.
    EventqAbort,
    /// Changes of CR0 are never acknowledged.
    Cr0Never,
    /// Changes of GBPA are never acknowledged.
    GbpaNever,
    /// After this number of further commands it enters its service failure mode.
    FailAfter(u32),
    /// After this number of further commands it consumes no more, and reports nothing.
    StopAfter(u32),
}

/// An SMMUv3. A clone is a snapshot that shares the memory; restore the memory first ([`Memory::restore`]).
#[derive(Clone)]
pub struct Model {
    config: Config,
    mem: Memory,
    /// Its number among the observers of the memory.
    pub(crate) observer: usize,
    pub(crate) regs: Regs,
    pub(crate) timeline: Timeline,
    pub(crate) strtab: Vec<Strtab>,
    pub(crate) fetched: BTreeMap<u32, Cmd>,
    pub(crate) events: Vec<Event>,
    irqs: Vec<Irq>,
    messages: Vec<MmioWrite>,
    hazards: Vec<Hazard>,
    injections: Vec<Injection>,
    pub(crate) sync_stuck: bool,
    /// Invalidations lost because of racing traffic, and whether a CMD_SYNC followed.
    pub(crate) raced: Vec<(Scope, bool)>,
    pub(crate) commands: u64,
    pub(crate) syncs: u64,
    pub(crate) streams: BTreeSet<u32>,
    pub(crate) stalls: Vec<StalledTransaction>,
    pub(crate) completions: Vec<(u16, Transfer)>,
    pub(crate) next_stag: u16,
    rng: u64,
    table_cache: Rc<TableCache>,
    pub(crate) lookup_cache: Rc<LookupCache>,
}

impl Model {
    /// An SMMU after reset, attached to `mem`.
    #[must_use]
    pub fn new(config: Config, mem: Memory) -> Self {
        let regs = Regs::reset(&config);
        let rng = config.seed;
        let now: Time = mem.now();
        Self {
            observer: mem.attach(),
            regs,
            config,
            mem,
            timeline: Timeline::default(),
            strtab: vec![Strtab { base: 0, cfg: 0, start: now, end: None }],
            fetched: BTreeMap::new(),
            events: Vec::new(),
            irqs: Vec::new(),
            messages: Vec::new(),
            hazards: Vec::new(),
            injections: Vec::new(),
            sync_stuck: false,
            raced: Vec::new(),
            commands: 0,
            syncs: 0,
            streams: BTreeSet::new(),
            stalls: Vec::new(),
            completions: Vec::new(),
            next_stag: 1,
            rng,
            table_cache: Rc::default(),
            lookup_cache: Rc::default(),
        }
    }

    /// The modelled implementation.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sets which legal outcome later transactions have; returns the earlier setting.
    pub fn set_cache(&mut self, cache: Cache) -> Cache {
        std::mem::replace(&mut self.config.cache, cache)
    }

    /// The memory it is attached to.
    #[must_use]
    pub fn mem(&self) -> &Memory {
        &self.mem
    }

    /// Power loss and return: registers have reset values, cache content is UNKNOWN.
    pub fn lose_power(&mut self) {
        let now = self.mem.tick();
        if let Some(last) = self.timeline.enabled.last_mut() {
            last.1.get_or_insert(now);
        }
        for old in &mut self.strtab {
            old.end.get_or_insert(now);
        }
        self.strtab.push(Strtab { base: 0, cfg: 0, start: now, end: None });
        self.regs = Regs::reset(&self.config);
        self.fetched.clear();
        self.stalls.clear();
        self.sync_stuck = false;
        self.raced.clear();
    }

    /// Makes one random step of the pending work; returns whether there was any.
    pub fn step(&mut self) -> bool {
        let mut ready = Vec::new();
        if self.regs.cr0.pending() && !self.injected(|i| matches!(i, Injection::Cr0Never)) {
            ready.push(0);
        }
        if self.regs.gbpa_update && !self.injected(|i| matches!(i, Injection::GbpaNever)) {
            ready.push(1);
        }
        if self.regs.irq_ctrl.pending() {
            ready.push(2);
        }
        if self.cmdq_ready() {
            ready.push(3);
        }
        if ready.is_empty() {
            return false;
        }
        let pick = usize::try_from(self.random()).unwrap_or(0) % ready.len();
        match ready[pick] {
            0 => self.apply_cr0(),
            1 => self.apply_gbpa(),
            2 => self.regs.irq_ctrl.acked = self.regs.irq_ctrl.written,
            _ => return self.consume() || ready.len() > 1,
        }
        true
    }

    /// Steps until no work is pending.
    pub fn run_to_idle(&mut self) {
        while self.step() {}
    }

    /// Lets time pass for the hardware: up to three steps with [`Pace::Lazy`], otherwise the steps that the pace allows.
    pub fn relax(&mut self) {
        match self.config.pace {
            Pace::Eager => self.run_to_idle(),
            Pace::Lazy => {
                for _ in 0..self.random() % 4 {
                    self.step();
                }
            }
            Pace::Manual => {}
        }
    }

    pub(crate) fn progress_on_read(&mut self, offset: u32) {
        let polled = matches!(offset, r::CR0ACK | r::GBPA | r::IRQ_CTRLACK | r::CMDQ_CONS | r::GERROR);
        if polled && self.config.pace == Pace::Lazy {
            self.relax();
        }
    }

    pub(crate) fn progress_on_write(&mut self) {
        match self.config.pace {
            Pace::Eager => self.run_to_idle(),
            Pace::Lazy => {
                if self.random().is_multiple_of(4) {
                    self.step();
                }
            }
            Pace::Manual => {}
        }
    }

    /// Makes the SMMU enter its service failure mode [12.3]: no command is consumed any more.
    pub fn fail(&mut self) {
        self.sync_stuck = true;
        self.raise_gerror(r::GERROR_SFM);
    }

    /// Injects a failure.
    pub fn inject(&mut self, injection: Injection) {
        self.injections.push(injection);
    }

    pub(crate) fn injected(&self, wanted: impl Fn(&Injection) -> bool) -> bool {
        self.injections.iter().any(wanted)
    }

    pub(crate) fn take_injection(&mut self, wanted: impl Fn(&Injection) -> bool) -> Option<Injection> {
        let at = self.injections.iter().position(wanted)?;
        Some(self.injections.remove(at))
    }

    /// Misuses since the last call. A correct driver has none, except commands that a test injects an error into.
    pub fn take_hazards(&mut self) -> Vec<Hazard> {
        std::mem::take(&mut self.hazards)
    }

    pub(crate) fn hazard(&mut self, hazard: Hazard) {
        self.hazards.push(hazard);
    }

    /// Every event since the last call, recorded in the queue or not.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Interrupts since the last call.
    pub fn take_irqs(&mut self) -> Vec<Irq> {
        std::mem::take(&mut self.irqs)
    }

    /// Stores that signalled an interrupt or the completion of a CMD_SYNC, since the last call, including those that
    /// aborted.
    pub fn take_messages(&mut self) -> Vec<MmioWrite> {
        std::mem::take(&mut self.messages)
    }

    /// Signals an interrupt or a completion by a store.
    pub(crate) fn message(&mut self, address: u64, data: u32) -> Result<(), ExternalAbort> {
        self.messages.push(MmioWrite { pa: address, value: data.into(), size: 4 });
        self.mem.dev_write(address, &data.to_le_bytes())
    }

    pub(crate) fn raise_irq(&mut self, irq: Irq) {
        self.irqs.push(irq);
    }

    /// Commands consumed so far.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// SYNCs completed so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// A CPU broadcasts a TLB invalidation and waits for it; returns whether the SMMU took part: IDR0.BTM is 1,
    /// CR2.PTM 0.
    pub fn broadcast_invalidate(&mut self, scope: Scope) -> bool {
        let takes_part = self.config.btm && self.regs.cr2 & r::CR2_PTM == 0;
        if takes_part {
            let consumed = self.mem.tick();
            let completed = Some(self.mem.tick());
            self.timeline.invalidations.push(Invalidation { scope, consumed, completed });
        }
        takes_part
    }

    /// Drops all cached entries, as hardware may at any time. Long tests use this to limit the history.
    pub fn drop_caches(&mut self) {
        for scope in [Scope::SteRange { first: 0, last: u32::MAX }, Scope::NsnhAll, Scope::El2All] {
            let consumed = self.mem.tick();
            let completed = Some(self.mem.tick());
            self.timeline.invalidations.push(Invalidation { scope, consumed, completed });
        }
        if let Some(before) = self.timeline.prune(Regimes::El1AndEl2) {
            self.mem.drop_history(self.observer, before);
        }
    }

    /// The consumed invalidations that may still affect cached items, oldest first.
    #[must_use]
    pub fn invalidations(&self) -> &[Invalidation] {
        &self.timeline.invalidations
    }

    /// Adds a StreamID whose device may have created shared TLB entries, for the oracle.
    pub fn add_stream(&mut self, sid: u32) {
        self.streams.insert(sid);
    }

    /// Sets the seed of later random choices.
    pub fn set_seed(&mut self, seed: u64) {
        self.rng = seed;
    }

    /// The next 64-bit random number (splitmix64).
    pub fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn view(&self) -> View<'_> {
        let history = if self.config.cache == Cache::None { History::Now } else { History::Any };
        View {
            config: &self.config,
            mem: &self.mem,
            timeline: &self.timeline,
            strtab: &self.strtab,
            history,
            now: self.mem.now(),
            e2h: self.regs.cr2 & r::CR2_E2H != 0,
            recinvsid: self.regs.cr2 & r::CR2_RECINVSID != 0,
            atschk: self.regs.cr0.is(r::CR0_ATSCHK),
            table_cache: &self.table_cache,
            lookup_cache: &self.lookup_cache,
            read: RefCell::default(),
        }
    }
}
