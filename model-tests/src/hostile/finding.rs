//! The checks after every action and at the end of a run.

use smmu_model::arch::regs as r;
use smmu_model::{Cache, Hazard, Transfer};

use super::action::{Action, Cmd};
use super::{Execution, SIDS};
use crate::layout::{HOST_CMDQ, HOST_DATA, HOST_EVTQ, HOST_L2, HOST_STRTAB, SID, TRANSLATER, TRANSLATER_BYTES};

/// A failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A stream can reach, or reached, memory of another owner.
    ForeignAccess(String),
    /// EL2's state is inconsistent.
    Audit(String),
    /// The driver misused the hardware.
    Misuse(String),
    /// A trap exceeded the bound, or a store never completes.
    Unbounded(String),
    /// A correct host does not make progress.
    Stuck(String),
}

impl Finding {
    /// The same finding with the action before it.
    pub(super) fn at(self, number: usize, action: &Action) -> Self {
        let more = |text: String| format!("after action {number}, {action:x?}: {text}");
        match self {
            Self::ForeignAccess(text) => Self::ForeignAccess(more(text)),
            Self::Audit(text) => Self::Audit(more(text)),
            Self::Misuse(text) => Self::Misuse(more(text)),
            Self::Unbounded(text) => Self::Unbounded(more(text)),
            Self::Stuck(text) => Self::Stuck(more(text)),
        }
    }
}

/// StreamID of a device without an entry when the host restarts its driver.
const FAULTS: u32 = 9;
/// Number of checks after which hardware drops its caches: each store that may still be cached makes the oracle's
/// search longer.
const CHECKS_PER_CACHE_DROP: u32 = 4;
/// Number of combinations of old and new words of one entry above which hardware drops its caches immediately: the
/// oracle tries all.
const MAX_COMBINATIONS: usize = 256;

impl Execution {
    /// Checks the machine. Skipped if EL2 made no store and no page changed its owner since the last check.
    pub(super) fn check(&mut self) -> Result<(), Finding> {
        let stores = self.cached.bypass_check.stores();
        if self.cached.bypass_check.bypassed() {
            return Err(Finding::ForeignAccess("an SMMU bypassed within a trap".into()));
        }
        if self.last_check == Some(stores) {
            return Ok(());
        }
        self.last_check = Some(stores);
        self.cached.m.isolated(&SIDS[..4]).map_err(|breach| Finding::ForeignAccess(format!("{breach:x?}")))?;
        if !self.cached.m.secret_intact() {
            return Err(Finding::ForeignAccess("EL2's memory changed".into()));
        }
        let written = self.cached.m.mem.take_mmio_writes();
        let translater = TRANSLATER..TRANSLATER + TRANSLATER_BYTES;
        if let Some(write) = written.iter().find(|write| !translater.contains(&write.pa)) {
            return Err(Finding::ForeignAccess(format!("a device register was written: {write:x?}")));
        }
        self.audited.audit(&mut self.cached.m)?;
        self.cached.m.owners_agree(&SIDS).map_err(Finding::Audit)?;
        self.check_misuse()?;
        self.check_quiesced()?;
        self.checks += 1;
        for model in &self.cached.m.models {
            let many = model.borrow().take_combinations() > MAX_COMBINATIONS;
            if many || self.checks.is_multiple_of(CHECKS_PER_CACHE_DROP) {
                model.borrow_mut().drop_caches();
            }
        }
        Ok(())
    }

    /// Checks that quiesced streams reach nothing.
    fn check_quiesced(&self) -> Result<(), Finding> {
        for (n, _) in self.drivers.iter().enumerate().filter(|(_, driver)| driver.quiesced) {
            let reached =
                SIDS[..4].iter().find_map(|sid| self.cached.m.models[n].borrow().reach(*sid).first().copied());
            if let Some(reached) = reached {
                return Err(Finding::ForeignAccess(format!("SMMU {n} is quiesced and reaches {reached:x?}")));
            }
        }
        Ok(())
    }

    fn check_misuse(&self) -> Result<(), Finding> {
        for (n, model) in self.cached.m.models.iter().enumerate() {
            let mut hazards = model.borrow_mut().take_hazards();
            if self.injected {
                hazards.retain(|hazard| !matches!(hazard, Hazard::CommandError { .. }));
            }
            // EL2 configures no MSIs: it signals completions and events to the host with checked stores of its own.
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

    /// The end of a run: every pending store completes, at the latest when its queue is disabled; disabled queues and
    /// tables have no claims; and a correct driver gets DMA.
    pub(super) fn finish(&mut self) -> Result<(), Finding> {
        self.cached.m.pool.refill();
        self.cached.m.owner().dma().fail_tables_after(None);
        *self.cached.m.load_hook().borrow_mut() = None;
        for cpu in 0..self.cpus.len() {
            // A pending store to CR0 is not repeated: it would enable the queue again.
            if let Some(store) = self.cpus[cpu]
                && (self.advance(store)? || store.offset == r::CR0)
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
        let claims = self.cached.m.claims();
        if claims != 0 {
            return Err(Finding::Stuck(format!("{claims} claims leak")));
        }
        self.last_check = None;
        self.check()?;
        self.release_all()?;
        for n in 0..self.drivers.len() {
            let failed = self.cached.m.driver(n, |smmu, _| smmu.failed());
            // A hardware failure may not have been detected yet.
            if self.drivers[n].may_fail {
                continue;
            }
            if let Some(error) = failed {
                return Err(Finding::Stuck(format!("SMMU {n} failed: {error}")));
            }
            if !self.drivers[n].quiesced {
                self.restart(n)?;
            }
        }
        self.last_check = None;
        self.audited.clear();
        self.cached.m.clear_checked();
        self.check()
    }

    /// Runs a correct driver if the memory that it needs still belongs to the host.
    fn restart(&mut self, n: usize) -> Result<(), Finding> {
        self.write32(n, r::GBPA, r::GBPA_UPDATE)?;
        let host = self.host(n);
        let needed = [host.strtab(), host.cmdq(), host.evtq(), HOST_DATA, HOST_STRTAB, HOST_L2, HOST_CMDQ, HOST_EVTQ];
        let map = self.cached.m.owner().map();
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
        let cons = self.cached.m.read32(n, r::CMDQ_CONS);
        if cons != self.drivers[n].prod {
            return Err(Finding::Stuck(format!("SMMU {n}: after a restart CMDQ_CONS is {cons:#x}")));
        }
        let cache = self.cached.m.models[n].borrow_mut().set_cache(Cache::None);
        let transfer = self.cached.m.dma_write(n, SID, HOST_DATA, 1);
        if transfer != Transfer::Done {
            return Err(Finding::Stuck(format!("SMMU {n}: after a restart there is no DMA: {transfer:x?}")));
        }
        self.events(n)?;
        let before = self.cached.m.read32(n, r::EVENTQ_PROD);
        let _ = self.cached.m.dma_write(n, FAULTS, HOST_DATA, 1);
        self.cached.m.models[n].borrow_mut().set_cache(cache);
        // An injected failure may have dropped this record.
        if !self.injected && self.cached.m.read32(n, r::EVENTQ_PROD) == before {
            return Err(Finding::Stuck(format!("SMMU {n}: after a restart there are no events")));
        }
        Ok(())
    }
}
