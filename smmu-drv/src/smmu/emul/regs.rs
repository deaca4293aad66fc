//! The values of the host's registers.

use super::ids::HostIds;
use super::queue::Geometry;
use super::registers::GBPA_ALLOWED;
use crate::smmu::index::{CMD_LOG2, EVENT_LOG2, HOST_EVENTQS, Indices};
use crate::spec::registers::{cr0::Cr0, cr2::Cr2, gbpa, gerror::Gerror, irq_ctrl::IrqCtrl};
use crate::spec::{get32, replace32};

/// CR1 bits of tables.
pub(super) const CR1_TABLE: u32 = 0xfc0;
/// CR1 bits of queues.
pub(super) const CR1_QUEUE: u32 = 0x3f;

/// MSI configuration as the host wrote it; never written to hardware.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IrqCfg {
    pub(super) cfg0: u64,
    pub(super) cfg1: u32,
    pub(super) cfg2: u32,
}

/// All registers that the host can read or write, except the ID registers.
#[derive(Clone)]
pub(super) struct HostRegs {
    msi: bool,
    cmdq_log2: u32,
    oas_mask: u64,
    pub(super) cr0: Cr0,
    pub(super) cr0ack: Cr0,
    pub(super) cr1: u32,
    pub(super) cr2: Cr2,
    pub(super) gbpa: u32,
    /// GBPA.UPDATE: the change of the mode of all streams is in progress.
    pub(super) gbpa_update: bool,
    pub(super) irq_ctrl: IrqCtrl,
    pub(super) gerror: Gerror,
    pub(super) gerrorn: Gerror,
    pub(super) gerror_irq: IrqCfg,
    pub(super) eventq_irq: IrqCfg,
    /// Stores ignored writes to MSI configuration.
    pub(super) ignored: IrqCfg,
    pub(super) strtab_base: u64,
    pub(super) strtab_base_cfg: u32,
    pub(super) cmdq_base: u64,
    /// Indices of the queue at `cmdq_base`.
    pub(super) cmdq_indices: Indices,
    pub(super) cmdq_prod: u32,
    pub(super) cmdq_cons: u32,
    pub(super) eventq_base: u64,
    pub(super) eventq_prod: u32,
    pub(super) eventq_cons: u32,
}

impl HostRegs {
    /// The state after reset. `gbpa`: SMMU_GBPA of hardware before take-over.
    pub(super) fn new(ids: &HostIds, gbpa: u32) -> Self {
        Self {
            msi: ids.msi(),
            cmdq_log2: ids.cmdq_log2(),
            oas_mask: ids.oas_mask(),
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
            ignored: IrqCfg::default(),
            strtab_base: 0,
            strtab_base_cfg: 0,
            cmdq_base: 0,
            cmdq_indices: Indices::new(0),
            cmdq_prod: 0,
            cmdq_cons: 0,
            eventq_base: 0,
            eventq_prod: 0,
            eventq_cons: 0,
        }
    }

    /// Whether a field guarded by `enable` can be written: `enable` is clear in CR0 and in CR0ACK.
    fn unguarded(&self, enable: Cr0) -> bool {
        !self.cr0.union(self.cr0ack).intersects(enable)
    }

    pub(super) fn set_cr1(&mut self, word: u32) {
        if self.unguarded(Cr0::SMMUEN) {
            self.cr1 = replace32(self.cr1, CR1_TABLE, word);
        }
        if self.unguarded(Cr0::CMDQEN.union(Cr0::EVENTQEN)) {
            self.cr1 = replace32(self.cr1, CR1_QUEUE, word);
        }
    }

    pub(super) fn set_cr2(&mut self, bits: Cr2) {
        if self.unguarded(Cr0::SMMUEN) {
            self.cr2 = bits;
        }
    }

    pub(super) fn set_strtab_base(&mut self, value: u64) {
        if self.unguarded(Cr0::SMMUEN) {
            self.strtab_base = value;
        }
    }

    pub(super) fn set_strtab_base_cfg(&mut self, word: u32) {
        if self.unguarded(Cr0::SMMUEN) {
            self.strtab_base_cfg = word;
        }
    }

    pub(super) fn set_cmdq_base(&mut self, value: u64) {
        if self.unguarded(Cr0::CMDQEN) {
            self.cmdq_base = value;
            self.cmdq_indices = self.cmdq_geometry().indices();
        }
    }

    pub(super) fn set_cmdq_cons(&mut self, word: u32) {
        if self.unguarded(Cr0::CMDQEN) {
            self.cmdq_cons = self.cmdq_indices.of(word);
        }
    }

    pub(super) fn set_eventq_base(&mut self, value: u64) {
        if self.unguarded(Cr0::EVENTQEN) {
            self.eventq_base = value;
        }
    }

    pub(super) fn set_eventq_prod(&mut self, word: u32) {
        if self.unguarded(Cr0::EVENTQEN) {
            self.eventq_prod = self.eventq_indices().with_overflow(word);
        }
    }

    /// The command queue, at its current base.
    pub(super) fn cmdq_geometry(&self) -> Geometry {
        Geometry::new(self.cmdq_base, CMD_LOG2, self.cmdq_log2, self.oas_mask)
    }

    /// The event queue, at its current base.
    pub(super) fn eventq_geometry(&self) -> Geometry {
        Geometry::new(self.eventq_base, EVENT_LOG2, HOST_EVENTQS, self.oas_mask)
    }

    /// Indices of the event queue.
    pub(super) fn eventq_indices(&self) -> Indices {
        self.eventq_geometry().indices()
    }

    /// The target of a write to SMMU_GERROR_IRQ_CFG*.
    pub(super) fn gerror_irq_cfg(&mut self) -> &mut IrqCfg {
        let writable = self.msi && !self.irq_ctrl.contains(IrqCtrl::GERROR_IRQEN);
        if writable { &mut self.gerror_irq } else { &mut self.ignored }
    }

    /// The target of a write to SMMU_EVENTQ_IRQ_CFG*.
    pub(super) fn eventq_irq_cfg(&mut self) -> &mut IrqCfg {
        let writable = self.msi && !self.irq_ctrl.contains(IrqCtrl::EVENTQ_IRQEN);
        if writable { &mut self.eventq_irq } else { &mut self.ignored }
    }

    pub(super) fn gbpa_aborts(&self) -> bool {
        get32(gbpa::ABORT, self.gbpa) == 1
    }
}
