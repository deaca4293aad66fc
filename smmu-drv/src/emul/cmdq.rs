//! Consumption of the host's command queue.
//!
//! Each entry is fetched once and decided about; what goes on is queued for hardware. A CMD_SYNC of the host becomes one of
//! hardware, so that commands before and after it keep their order, but only the last one of a batch is waited for. Then the
//! signals of all of them are given and CONS is published: both under the SMMU's lock, which a read of CONS takes too, so that
//! a slot is never reused before its completion was written.

use io_pgtable::Ipa;

use super::command::{Decision, Scope, Signal, decide};
use super::cr0::CMD_LOG2;
use super::queue::{Geometry, HostQueue};
use crate::budget::{self, Unfinished};
use crate::command::Command;
use crate::error::SmmuError;
use crate::platform::{HostMemory, Platform, Sharing, WiredIrq};
use crate::smmu::{Smmu, WriteOutcome};
use crate::spec::commands::RawCmd;
use crate::spec::registers::{Cerror, cr0::Cr0, gerror::Gerror, queue_index};
use crate::spec::{mask32, replace32};
use crate::stats::bump;
use crate::strtab::shadow::Cursor;

/// CMD_SYNCs of the host that are waited for together at most.
const MAX_SIGNALS: usize = 16;

/// Completions of the batch that wait for hardware. Empty between traps: kept, so that no trap has to clear the room.
#[derive(Clone)]
pub(super) struct Signals {
    waiting: [Signal; MAX_SIGNALS],
    count: usize,
}

impl Signals {
    pub(super) const fn new() -> Self {
        Self { waiting: [Signal::None; MAX_SIGNALS], count: 0 }
    }

    fn push(&mut self, signal: Signal) {
        if let Some(slot) = self.waiting.get_mut(self.count) {
            *slot = signal;
            self.count = self.count.saturating_add(1);
        }
    }

    fn is_full(&self) -> bool {
        self.count >= MAX_SIGNALS
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn get(&self, n: usize) -> Option<Signal> {
        self.waiting.get(n).copied().filter(|_| n < self.count)
    }

    fn clear(&mut self) {
        self.count = 0;
    }
}

/// Why consumption stopped.
enum Stop {
    /// Nothing more to do.
    Empty,
    /// Budget used up.
    Budget,
    /// A command error of the host.
    Error(Cerror),
    /// Hardware failed: the command at CONS never completes.
    Failed,
}

impl From<Unfinished> for Stop {
    fn from(reason: Unfinished) -> Self {
        match reason {
            Unfinished::Budget => Self::Budget,
            Unfinished::Failed(_) => Self::Failed,
        }
    }
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Consumes what the host queued, as far as the budget of one trap goes.
    pub(super) fn consume_commands(&mut self, host: &mut H) -> WriteOutcome {
        if !self.regs.cr0ack.contains(Cr0::CMDQEN) || self.active_gerror().contains(Gerror::CMDQ_ERR) {
            return WriteOutcome::Done;
        }
        let Some(geometry) = self.regs.cmdq.geometry() else {
            return WriteOutcome::Done;
        };
        // A trap that failed may have left some: they are never given.
        self.regs.signals.clear();
        let mut head = self.regs.cmdq_cons & geometry.mask();
        let mut stop = match self.consume(host, &geometry, &mut head) {
            Ok(()) => Stop::Empty,
            Err(stop) => stop,
        };
        if self.complete(host, &geometry, head).is_err() {
            stop = Stop::Failed;
        }
        match stop {
            Stop::Empty | Stop::Failed => WriteOutcome::Done,
            Stop::Budget => WriteOutcome::Again,
            Stop::Error(error) => {
                self.raise_cerror(error);
                WriteOutcome::Done
            }
        }
    }

    fn consume(&mut self, host: &mut H, geometry: &Geometry, head: &mut u32) -> Result<(), Stop> {
        let view = self.command_view();
        loop {
            if self.failed.is_some() {
                return Err(Stop::Failed);
            }
            // What a command started has to be complete before the next is looked at.
            if self.regs.reshadow.is_some() {
                self.step_reshadow(host)?;
            }
            let end = self.regs.cmdq_prod & geometry.mask();
            if *head == end {
                if !core::mem::take(&mut self.regs.all_pending) {
                    return Ok(());
                }
                self.start_reshadow(Scope::All);
                continue;
            }
            self.budget.charge(self.cmdq.command_cost())?;
            let Some(raw) = self.fetch_command(host, geometry, *head)? else {
                return Err(Stop::Error(Cerror::Abt));
            };
            let decision = decide(raw, &view);
            if let Decision::Sync(signal) = decision {
                if core::mem::take(&mut self.regs.all_pending) {
                    // The entry is fetched again, and judged from scratch, when the table is done.
                    self.start_reshadow(Scope::All);
                    continue;
                }
                if self.regs.signals.is_full() && self.complete(host, geometry, *head).is_err() {
                    return Err(Stop::Failed);
                }
                self.charge_sync(geometry, signal)?;
            }
            if self.act(decision).is_err() {
                return Err(match decision {
                    Decision::Illegal => Stop::Error(Cerror::Ill),
                    Decision::Drop | Decision::Reshadow(_) | Decision::Forward(_) | Decision::Sync(_) => Stop::Failed,
                });
            }
            bump(&mut self.stats.host_commands);
            *head = head.wrapping_add(1) & geometry.mask();
        }
    }

    /// What a CMD_SYNC costs: one of hardware, unless nothing was queued since the last, and a page for its store, unless that
    /// goes into the queue.
    fn charge_sync(&mut self, geometry: &Geometry, signal: Signal) -> Result<(), Unfinished> {
        let hardware = if self.cmdq.ends_in_sync() { 0 } else { self.cmdq.sync_cost() };
        let store = match signal {
            Signal::None | Signal::Wired => 0,
            Signal::Msi { address, .. } => {
                let inside = (address & self.regs.ids.oas_mask()).checked_sub(geometry.base);
                if inside.is_some_and(|offset| offset < geometry.size) { 0 } else { budget::PAGE }
            }
        };
        self.budget.charge(hardware.saturating_add(store))
    }

    /// Carries a decision out, as far as it does not need the host's memory.
    fn act(&mut self, decision: Decision) -> Result<(), SmmuError> {
        match decision {
            Decision::Illegal => {
                bump(&mut self.stats.illegal_commands);
                return Err(SmmuError::CommandRejected);
            }
            Decision::Drop => bump(&mut self.stats.dropped_commands),
            // Several of them before a CMD_SYNC cost one walk.
            Decision::Reshadow(Scope::All) => self.regs.all_pending = true,
            Decision::Reshadow(scope) => self.start_reshadow(scope),
            Decision::Forward(command) => self.push(command)?,
            Decision::Sync(signal) => {
                self.separate()?;
                self.regs.signals.push(signal);
            }
        }
        Ok(())
    }

    fn start_reshadow(&mut self, scope: Scope) {
        self.regs.reshadow = Some((scope, Cursor::start(scope)));
    }

    /// Continues translating the host's entries; there is nothing left when it returns.
    #[inline(never)]
    fn step_reshadow(&mut self, host: &mut H) -> Result<(), Unfinished> {
        let Some((scope, mut cursor)) = self.regs.reshadow else {
            return Ok(());
        };
        let done = self.reshadow_scope(host, scope, &mut cursor);
        self.regs.reshadow = Some((scope, cursor));
        done?;
        self.regs.reshadow = None;
        self.push(match scope {
            Scope::One { sid, depth } => Command::CfgiSte { sid, depth },
            Scope::Range { first, log2 } => Command::CfgiSteRange { sid: first, range: log2.saturating_sub(1) },
            Scope::All => Command::CfgiAll,
        })?;
        self.cfgi_pending = true;
        Ok(())
    }

    /// One entry, each word read once. Without a claim the queue is tried again first: the host may have got the page back.
    fn fetch_command(&mut self, host: &mut H, geometry: &Geometry, index: u32) -> Result<Option<RawCmd>, Unfinished> {
        if let HostQueue::Unreachable(geometry) = self.regs.cmdq {
            self.budget.charge(geometry.cost())?;
            let (queue, result) = HostQueue::enable(host, geometry, self.queue_sharing());
            self.regs.cmdq = queue;
            self.note_claim(result);
        }
        let HostQueue::On(_, claim) = &self.regs.cmdq else {
            return Ok(None);
        };
        let offset = geometry.offset(index, CMD_LOG2);
        let words = (host.read64(claim, offset), host.read64(claim, offset.saturating_add(8)));
        Ok(words.0.zip(words.1).map(|(low, high)| RawCmd([low, high])))
    }

    /// Lets hardware complete the batch, gives the signals, publishes CONS.
    ///
    /// On error nothing is signalled and CONS stays: the host sees a CMD_SYNC that does not complete.
    fn complete(&mut self, host: &mut H, geometry: &Geometry, head: u32) -> Result<(), SmmuError> {
        if self.regs.signals.is_empty() {
            self.cmdq.submit(&self.hw);
        } else {
            self.sync()?;
            let mut wired = false;
            let mut n = 0_usize;
            while let Some(signal) = self.regs.signals.get(n) {
                wired |= signal != Signal::None;
                self.signal(host, geometry, signal);
                n = n.wrapping_add(1);
            }
            self.regs.signals.clear();
            // An edge: one stands for all that nobody could see between.
            if wired {
                self.hw.platform().raise(WiredIrq::CmdqSync);
            }
        }
        self.regs.cmdq_cons = replace32(self.regs.cmdq_cons, mask32(queue_index::INDEX), head);
        Ok(())
    }

    fn signal(&mut self, host: &mut H, geometry: &Geometry, signal: Signal) {
        match signal {
            Signal::None | Signal::Wired => {}
            Signal::Msi { address, data } => {
                // Cut to OAS [S 3.4.3]; then the store goes to host-owned normal memory that is claimed, or nowhere.
                let address = address & self.regs.ids.oas_mask();
                if self.msi_write(host, geometry, address, data).is_some() {
                    bump(&mut self.stats.msi_writes);
                } else {
                    bump(&mut self.stats.msi_denied);
                    self.raise_gerror(Gerror::MSI_CMDQ_ABT_ERR);
                }
            }
        }
    }

    fn msi_write(&mut self, host: &mut H, geometry: &Geometry, address: u64, data: u32) -> Option<()> {
        // The usual target is the queue itself, which is claimed already.
        if let (HostQueue::On(_, claim), Some(offset)) = (&self.regs.cmdq, address.checked_sub(geometry.base))
            && offset < geometry.size
        {
            return host.write32(claim, offset, data);
        }
        // Whoever looks for it, through a cache or past it, finds it.
        let claim = host.claim(Ipa(address), 4, Sharing::Memory).ok()?;
        let written = host.write32(&claim, 0, data);
        host.release(claim);
        written
    }
}
