//! The virtual SMMU: the host's registers, queues and stream table, and the checks of the host's values.
//!
//! It uses neither the device nor the shadow table. It returns the required changes of them: an `Effect` of a store, a
//! `CommandStep` of a command, a set of interrupts.
//!
//! An access of the host: `access` and `table` find the register; `registers`, `cr0` and `gerror` handle it; `regs` has
//! the values. A command: `host_cmdq` fetches it, `command` decides about it. An entry of the host's stream table:
//! `strtab` finds it, `fetch` reads it once, and `policy` checks it and builds the shadow entry. A record of hardware:
//! `convert`, then `host_eventq`.
//!
//! Its interface: `load`, `load_eventq`; `store`, `stores` and `write_register`; `begin_commands`, `next_command` and
//! `complete`, with the results of a step (`refresh_block_of`, `retry_entry`, `save_refresh`, `end_refresh`,
//! `raise_cerror`); `change`, the new mode of all streams, and its progress; a `Source`, which returns checked entries
//! and receives records; interrupts to raise; `fail` and `quiesce`.

mod access;
mod audit;
pub mod command;
mod completion;
mod convert;
mod cr0;
mod fetch;
mod gerror;
mod host_cmdq;
mod host_eventq;
pub mod ids;
pub mod policy;
mod queue;
mod registers;
mod regs;
mod sharing;
mod source;
mod strtab;
pub mod table;

use crate::features::{Coherency, Features};
use crate::platform::ClaimError;
use crate::spec::registers::{cr0::Cr0, irq_ctrl::IrqCtrl};
use crate::stats::{Stats, bump};
pub(super) use access::Store;
use command::CommandView;
use completion::Signals;
pub(super) use cr0::Mode;
use cr0::{Change, DrainState};
use gerror::Interrupts;
use host_cmdq::Pending;
pub(super) use host_cmdq::{CommandStep, Stop};
pub(super) use host_eventq::Notify;
use ids::HostIds;
use policy::SteRules;
use queue::HostQueue;
use regs::HostRegs;
pub(super) use source::Source;
use strtab::HostStrtab;

/// The action of the device or the shadow table that a store of the host needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// None: the store is complete.
    Done,
    /// Consume commands, see [`VirtualSmmu::next_command`]; then the store is complete.
    Commands,
    /// Take hardware's records, without an interrupt, since the host is reading its queue; then the store is complete.
    Events,
    /// Take the records that hardware has written, before a change; then `write_register` is called again.
    DrainBeforeChange,
    /// Enable exactly the interrupts of [`VirtualSmmu::wanted_irqs`]; then `write_register` is called again.
    Interrupts,
    /// Continue [`VirtualSmmu::change`]; then `write_register` is called again.
    ChangeMode,
    /// Continue [`VirtualSmmu::change`]; the store itself is ignored and complete.
    ContinueChange,
}

/// The virtual SMMU of a host whose claims on its memory are `C`.
#[derive(Clone)]
pub(super) struct VirtualSmmu<C> {
    ids: HostIds,
    rules: SteRules,
    view: CommandView,
    /// Addresses of the host's tables and queues are truncated to this [S 3.4.3].
    oas_mask: u64,
    /// Whether the SMMU snoops.
    coherent: Coherency,
    regs: HostRegs,
    cmdq: HostQueue<C>,
    eventq: HostQueue<C>,
    /// Geometry of the stream table, latched when SMMUEN is set.
    table: Option<HostStrtab>,
    /// The table used to convert events: while SMMUEN is being cleared, that of the streams not yet switched.
    event_table: Option<HostStrtab>,
    /// The next command, within a trap.
    head: u32,
    /// Completions that the current trap must still signal.
    signals: Signals,
    /// Work of the last command that is not done yet.
    pending: Option<Pending>,
    /// A CMD_CFGI_ALL is pending until the next CMD_SYNC or the end of the queue.
    cfgi_all_pending: bool,
    /// Whether the records from before a change of an enable were taken.
    drain_state: DrainState,
    /// A change of the mode of all streams, in progress.
    change: Option<Change>,
    /// Interrupts of hardware as last requested.
    irqs_enabled: IrqCtrl,
    /// Interrupts that the current trap must still raise.
    interrupts: Interrupts,
    /// Whether the device has failed and this was reported to the host.
    failed: bool,
    /// Whether every stream aborts until power-off.
    quiesced: bool,
    stats: Stats,
}

impl<C> VirtualSmmu<C> {
    /// The state after reset, with these ID registers and rules for stream table entries, and with the VMID of the host's streams.
    /// `gbpa`: SMMU_GBPA of hardware before take-over.
    pub(super) fn new(ids: HostIds, rules: SteRules, vmid: u16, features: &Features, gbpa: u32) -> Self {
        Self {
            ids,
            rules,
            view: CommandView::new(&ids, vmid),
            oas_mask: ids.oas_mask(),
            coherent: features.coherent,
            regs: HostRegs::new(&ids, gbpa),
            cmdq: HostQueue::Off,
            eventq: HostQueue::Off,
            table: None,
            event_table: None,
            head: 0,
            signals: Signals::new_const(),
            pending: None,
            cfgi_all_pending: false,
            drain_state: DrainState::None,
            change: None,
            irqs_enabled: IrqCtrl::empty(),
            interrupts: Interrupts::default(),
            failed: false,
            quiesced: false,
            stats: Stats::default(),
        }
    }

    /// The counters of the virtual SMMU; the others are zero.
    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Counts a trap that ended because its budget was used up.
    pub(super) fn count_budget_exit(&mut self) {
        bump(&mut self.stats.budget_exits);
    }

    /// Records that every stream aborts until power-off: registers are still emulated, but change no stream.
    pub(super) fn quiesce(&mut self) {
        self.quiesced = true;
        self.change = None;
    }

    /// Interrupts that hardware should raise: the event queue's, if the host has enabled it and its queue. The interrupt of global
    /// errors stays disabled: EL2 handles hardware's errors, and raises the host's interrupt itself.
    pub(super) fn wanted_irqs(&self) -> IrqCtrl {
        let on = self.regs.irq_ctrl.contains(IrqCtrl::EVENTQ_IRQEN) && self.regs.cr0ack.contains(Cr0::EVENTQEN);
        if on { IrqCtrl::EVENTQ_IRQEN } else { IrqCtrl::empty() }
    }

    /// The effect that is needed if other interrupts of hardware are enabled than [`VirtualSmmu::wanted_irqs`].
    fn follow_irq_ctrl(&mut self) -> Option<Effect> {
        let wanted = self.wanted_irqs();
        (core::mem::replace(&mut self.irqs_enabled, wanted) != wanted).then_some(Effect::Interrupts)
    }

    /// Counts a claim that failed.
    fn count_claim(&mut self, answer: Result<(), ClaimError>) {
        if answer.is_err() {
            bump(&mut self.stats.claims_refused);
        }
    }
}

#[cfg(test)]
mod tests;
