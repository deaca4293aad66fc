//! The judge: what must hold after every action, and at the end.

use smmu_model::arch::regs as r;
use smmu_model::{Cache, Hazard, Transfer};

use super::action::{Action, Cmd};
use super::{Play, SIDS};
use crate::layout::{HOST_CMDQ, HOST_EVTQ, HOST_L2, HOST_STRTAB, SID, TRANSLATER, TRANSLATER_BYTES, VICTIM};

/// What was not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Somebody can reach what is not theirs, or did.
    Escape(String),
    /// Two of EL2's records disagree.
    Audit(String),
    /// The driver misused the hardware.
    Misuse(String),
    /// A trap did too much, or a store never ends.
    Unbounded(String),
    /// The host cannot go on although it does everything right.
    Stuck(String),
}

impl Finding {
    /// The same with the action that it followed.
    pub(super) fn at(self, number: usize, action: &Action) -> Self {
        let more = |text: String| format!("after action {number}, {action:x?}: {text}");
        match self {
            Self::Escape(text) => Self::Escape(more(text)),
            Self::Audit(text) => Self::Audit(more(text)),
            Self::Misuse(text) => Self::Misuse(more(text)),
            Self::Unbounded(text) => Self::Unbounded(more(text)),
            Self::Stuck(text) => Self::Stuck(more(text)),
        }
    }
}

/// StreamID of a device that has no entry when the host starts over.
const FAULTS: u32 = 9;
/// Judgements after which hardware forgets what it cached, as it may at any time. Its choices multiply with each store that
/// it may remember.
const PAST: u32 = 4;
/// Mixtures of words of an entry after which it does so sooner: an action adds to them, and the oracle searches all.
const MOST_MIXTURES: usize = 256;

impl Play {
    /// Judges the machine. Where EL2 made no store and no page changed its owner since the last time, hardware can reach no
    /// more than it could.
    pub(super) fn judge(&mut self) -> Result<(), Finding> {
        let stores = self.on.watch.stores();
        if self.on.watch.opened() {
            return Err(Finding::Escape("an SMMU was open in the middle of a trap".into()));
        }
        if self.judged == Some(stores) {
            return Ok(());
        }
        self.judged = Some(stores);
        self.on.m.isolated(&SIDS[..4]).map_err(|breach| Finding::Escape(format!("{breach:x?}")))?;
        if !self.on.m.secret_intact() {
            return Err(Finding::Escape("EL2's memory changed".into()));
        }
        let written = self.on.m.mem.take_mmio_writes();
        let translater = TRANSLATER..TRANSLATER + TRANSLATER_BYTES;
        if let Some(write) = written.iter().find(|write| !translater.contains(&write.pa)) {
            return Err(Finding::Escape(format!("a device register was written: {write:x?}")));
        }
        self.audited.audit(&mut self.on.m)?;
        self.misuse()?;
        self.silent()?;
        self.age += 1;
        for model in &self.on.m.models {
            let many = model.borrow().take_mixtures() > MOST_MIXTURES;
            if many || self.age.is_multiple_of(PAST) {
                model.borrow_mut().drop_caches();
            }
        }
        Ok(())
    }

    /// Streams that were stopped for good reach nothing at all.
    fn silent(&self) -> Result<(), Finding> {
        for (n, driver) in self.drivers.iter().enumerate().filter(|(_, driver)| driver.quiesced) {
            let reached = SIDS[..4].iter().find_map(|sid| self.on.m.models[n].borrow().reach(*sid).first().copied());
            if let Some(reached) = reached {
                return Err(Finding::Escape(format!("SMMU {n}: {driver:?}, and yet {reached:x?}")));
            }
        }
        Ok(())
    }

    fn misuse(&self) -> Result<(), Finding> {
        for (n, model) in self.on.m.models.iter().enumerate() {
            let mut hazards = model.borrow_mut().take_hazards();
            if self.injected {
                hazards.retain(|hazard| !matches!(hazard, Hazard::CommandError { .. }));
            }
            // EL2 asks for none: completions and events for the host are stores of its own, after a check.
            let messages = model.borrow_mut().take_messages();
            if !messages.is_empty() {
                return Err(Finding::Misuse(format!("SMMU {n} sent messages: {messages:x?}")));
            }
            if !hazards.is_empty() {
                return Err(Finding::Misuse(format!("SMMU {n}: {hazards:x?}")));
            }
        }
        Ok(())
    }

    /// The end of a run: every store under way completes, at the latest when its queue is switched off, everything that is
    /// switched off lets go of its claims, and a host that does everything right has its DMA.
    pub(super) fn finish(&mut self) -> Result<(), Finding> {
        self.on.m.pool.refill();
        self.on.m.owner().dma().fail_tables_after(None);
        *self.on.m.hook().borrow_mut() = None;
        for cpu in 0..self.cpus.len() {
            // One to CR0 is given up where it is long: it would switch the queue on again.
            if let Some(store) = self.cpus[cpu]
                && (self.goes_on(store)? || store.offset == r::CR0)
            {
                self.cpus[cpu] = None;
            }
        }
        for n in 0..self.drivers.len() {
            self.write32(n, r::CR0, 0)?;
        }
        for cpu in 0..self.cpus.len() {
            if let Some(store) = self.cpus[cpu].take() {
                self.complete(store)?;
            }
        }
        let claims = self.on.m.claims();
        if claims != 0 {
            return Err(Finding::Stuck(format!("{claims} claims leak")));
        }
        self.judged = None;
        self.judge()?;
        for n in 0..self.drivers.len() {
            let failed = self.on.m.driver(n, |smmu, _| smmu.failed());
            // A failure may not even have been noticed yet.
            if self.drivers[n].doomed {
                continue;
            }
            if let Some(error) = failed {
                return Err(Finding::Stuck(format!("SMMU {n} failed: {error}")));
            }
            if !self.drivers[n].quiesced {
                self.start_over(n)?;
            }
        }
        self.judged = None;
        self.audited.forget();
        self.on.m.judge_anew();
        self.judge()
    }

    /// A well-behaved driver after the hostile one, where the memory it needs is still the host's.
    fn start_over(&mut self, n: usize) -> Result<(), Finding> {
        self.write32(n, r::GBPA, r::GBPA_UPDATE)?;
        let host = self.host(n);
        let needed = [host.strtab(), host.cmdq(), host.evtq(), VICTIM, HOST_STRTAB, HOST_L2, HOST_CMDQ, HOST_EVTQ];
        let map = self.on.m.owner().map();
        if needed.iter().any(|page| map.owner(page >> 12) != mem_protect::Owner::Host) {
            return Ok(());
        }
        self.start(n, 0)?;
        self.write_entry(n, SID, super::Entry::Bypass);
        self.write_entry(n, FAULTS, super::Entry::Invalid);
        for cmd in [Cmd::CfgiAll, Cmd::NhAll, Cmd::Sync] {
            self.queue(n, cmd.words());
        }
        self.write32(n, r::CMDQ_PROD, self.drivers[n].prod)?;
        let cons = self.on.m.read32(n, r::CMDQ_CONS);
        if cons != self.drivers[n].prod {
            return Err(Finding::Stuck(format!("SMMU {n}: a new start leaves CMDQ_CONS at {cons:#x}")));
        }
        let cache = self.on.m.models[n].borrow_mut().set_cache(Cache::None);
        let transfer = self.on.m.dma_write(n, SID, VICTIM, 1);
        if transfer != Transfer::Done {
            return Err(Finding::Stuck(format!("SMMU {n}: a new start gets no DMA: {transfer:x?}")));
        }
        self.events(n)?;
        let before = self.on.m.read32(n, r::EVENTQ_PROD);
        let _ = self.on.m.dma_write(n, FAULTS, VICTIM, 1);
        self.on.m.models[n].borrow_mut().set_cache(cache);
        // A failure that was asked for may be this record's.
        if !self.injected && self.on.m.read32(n, r::EVENTQ_PROD) == before {
            return Err(Finding::Stuck(format!("SMMU {n}: a new start gets no events")));
        }
        Ok(())
    }
}
