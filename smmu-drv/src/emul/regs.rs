//! What the host's registers hold.

use super::GBPA_ALLOWED;
use super::cmdq::Signals;
use super::command::Scope;
use super::cr0::{CMD_LOG2, EVENT_LOG2};
use super::ids::{self, HostIds};
use super::queue::{Geometry, HostQueue};
use crate::spec::registers::{cr0::Cr0, cr2::Cr2, gbpa, gerror::Gerror, irq_ctrl::IrqCtrl, queue_index};
use crate::spec::{get32, mask32, union32};
use crate::strtab::host::HostTable;
use crate::strtab::shadow::Cursor;
use crate::strtab::transition::Transition;

/// MSI configuration as the host wrote it; never given to hardware.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IrqCfg {
    pub(super) cfg0: u64,
    pub(super) cfg1: u32,
    pub(super) cfg2: u32,
}

/// Everything the host can observe or set.
#[derive(Clone)]
pub(crate) struct HostRegs<C> {
    pub(crate) ids: HostIds,
    pub(super) cr0: Cr0,
    pub(crate) cr0ack: Cr0,
    pub(super) cr1: u32,
    pub(super) cr2: Cr2,
    pub(super) gbpa: u32,
    /// GBPA.UPDATE: streams are still following.
    pub(super) gbpa_update: bool,
    pub(super) irq_ctrl: IrqCtrl,
    pub(super) gerror: Gerror,
    pub(super) gerrorn: Gerror,
    pub(super) gerror_irq: IrqCfg,
    pub(super) eventq_irq: IrqCfg,
    /// Takes writes to MSI configuration that is guarded, or that does not exist.
    pub(super) sink: IrqCfg,
    pub(super) strtab_base: u64,
    pub(super) strtab_base_cfg: u32,
    /// Geometry latched when SMMUEN went up.
    pub(crate) table: Option<HostTable>,
    /// The table by which events are judged: that of the streams that have not followed yet, while SMMUEN goes down.
    pub(crate) event_table: Option<HostTable>,
    pub(super) cmdq_base: u64,
    pub(super) cmdq_prod: u32,
    pub(super) cmdq_cons: u32,
    pub(super) eventq_base: u64,
    pub(super) eventq_prod: u32,
    pub(super) eventq_cons: u32,
    pub(super) cmdq: HostQueue<C>,
    /// Completions that the trap under way has still to give.
    pub(super) signals: Signals,
    pub(super) eventq: HostQueue<C>,
    /// Records of hardware from before an edge are being taken, which waits for them.
    pub(super) edge_waits: bool,
    /// A change of what all streams do, under way.
    pub(crate) transition: Option<Transition>,
    /// Streams to translate again, and how far that is.
    pub(crate) reshadow: Option<(Scope, Cursor)>,
    /// A CFGI_ALL that the next CMD_SYNC, or the end of the queue, has to carry out.
    pub(super) all_pending: bool,
}

impl<C> HostRegs<C> {
    /// The state after reset; `gbpa` is what hardware had.
    pub(crate) fn new(ids: HostIds, gbpa: u32) -> Self {
        Self {
            ids,
            cr0: Cr0::empty(),
            cr0ack: Cr0::empty(),
            cr1: 0,
            cr2: Cr2::empty(),
            gbpa: gbpa & GBPA_ALLOWED,
            gbpa_update: false,
            irq_ctrl: IrqCtrl::empty(),
            gerror: Gerror::empty(),
            gerrorn: Gerror::empty(),
            gerror_irq: IrqCfg::default(),
            eventq_irq: IrqCfg::default(),
            sink: IrqCfg::default(),
            strtab_base: 0,
            strtab_base_cfg: 0,
            table: None,
            event_table: None,
            cmdq_base: 0,
            cmdq_prod: 0,
            cmdq_cons: 0,
            eventq_base: 0,
            eventq_prod: 0,
            eventq_cons: 0,
            cmdq: HostQueue::Off,
            signals: Signals::new(),
            eventq: HostQueue::Off,
            edge_waits: false,
            transition: None,
            reshadow: None,
            all_pending: false,
        }
    }

    /// A field guarded by `enable` can be written: neither requested nor in effect.
    pub(super) fn unguarded(&self, enable: Cr0) -> bool {
        !self.cr0.union(self.cr0ack).intersects(enable)
    }

    /// The command queue, as its base register says now.
    pub(super) fn cmdq_geometry(&self) -> Geometry {
        Geometry::new(self.cmdq_base, CMD_LOG2, self.ids.cmdq_log2(), self.ids.oas_mask())
    }

    /// The event queue, as its base register says now.
    pub(super) fn eventq_geometry(&self) -> Geometry {
        Geometry::new(self.eventq_base, EVENT_LOG2, ids::HOST_EVENTQS, self.ids.oas_mask())
    }

    /// Bits that the event queue's indices have [S 6.3.95]: index, wrap and overflow.
    pub(super) fn eventq_index_mask(&self) -> u32 {
        union32([self.eventq_geometry().mask(), mask32(queue_index::OVERFLOW)])
    }

    /// Where a write of SMMU_GERROR_IRQ_CFG* goes.
    pub(super) fn gerror_irq_cfg(&mut self) -> &mut IrqCfg {
        let open = self.ids.msi() && !self.irq_ctrl.contains(IrqCtrl::GERROR_IRQEN);
        if open { &mut self.gerror_irq } else { &mut self.sink }
    }

    /// Where a write of SMMU_EVENTQ_IRQ_CFG* goes.
    pub(super) fn eventq_irq_cfg(&mut self) -> &mut IrqCfg {
        let open = self.ids.msi() && !self.irq_ctrl.contains(IrqCtrl::EVENTQ_IRQEN);
        if open { &mut self.eventq_irq } else { &mut self.sink }
    }

    pub(super) fn gbpa_aborts(&self) -> bool {
        get32(gbpa::ABORT, self.gbpa) == 1
    }
}
