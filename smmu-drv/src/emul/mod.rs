//! The SMMU that the host sees: its registers, and what a write to one of them sets in motion.

pub mod audit;
mod cmdq;
pub mod command;
mod convert;
mod cr0;
mod eventq;
mod gerror;
pub mod ids;
mod pairs;
mod queue;
mod regs;
mod sharing;
pub mod table;

use crate::platform::{HostMemory, Platform};
use crate::smmu::{AccessSize, Smmu, WriteOutcome};
use crate::spec::registers::{
    cr0::Cr0, cr2::Cr2, gbpa, gerror::Gerror, irq_cfg, irq_ctrl::IrqCtrl, queue_base, strtab_base,
};
use crate::spec::{high32, join, low32, mask32, mask64, put32, replace32, union32, union64};
use crate::stats::bump;
use command::CommandView;
use ids::HostIds;
pub(crate) use regs::HostRegs;
use table::{Part, Register, lookup};

/// CR0 bits of the host's view: the rest is reserved, because the features are hidden.
const CR0_ALLOWED: Cr0 = Cr0::SMMUEN.union(Cr0::EVENTQEN).union(Cr0::CMDQEN);
/// CR2 bits of the host's view. PTM reads back although BTM is hidden: Linux sets it, and nothing depends on it.
const CR2_ALLOWED: Cr2 = Cr2::RECINVSID.union(Cr2::PTM);
/// IRQ_CTRL bits of the host's view.
const IRQ_CTRL_ALLOWED: IrqCtrl = IrqCtrl::GERROR_IRQEN.union(IrqCtrl::EVENTQ_IRQEN);
/// GBPA bits of the host's view besides UPDATE.
const GBPA_ALLOWED: u32 = union32([mask32(gbpa::ABORT), mask32(gbpa::SHCFG)]);
/// CR1 bits: table attributes in \[11:6\], queue attributes in \[5:0\].
const CR1_TABLE: u32 = 0xfc0;
const CR1_QUEUE: u32 = 0x3f;

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Answers a load of the host: `offset` bytes from the base of page 0.
    ///
    /// Never fails: what no policy row allows reads as zero and is counted.
    pub fn mmio_read(&mut self, host: &mut H, offset: u32, size: AccessSize) -> u64 {
        if let Some(value) = self.mmio_read_plain(offset, size) {
            return value;
        }
        bump(&mut self.stats.exits);
        let _ = self.check_alive();
        self.start_trap();
        self.drain_events(host);
        match size {
            AccessSize::Double => self.read_pair(Register::EventqProd, Register::EventqCons),
            AccessSize::Byte | AccessSize::Half | AccessSize::Word => self.read_register(Register::EventqProd),
        }
    }

    /// As [`Smmu::mmio_read`], for every register but those whose value depends on the host's memory (EVENTQ_PROD): there it
    /// changes nothing and is `None`.
    #[inline(always)]
    pub fn mmio_read_plain(&mut self, offset: u32, size: AccessSize) -> Option<u64> {
        let Some((register, part)) = lookup(offset, size) else {
            let _ = self.check_alive();
            return self.read_unlisted(offset, size);
        };
        if register == Register::EventqProd {
            return None;
        }
        bump(&mut self.stats.exits);
        // A host that resumes looks before it writes: until an SMMU that lost its state is noticed, it lets everything through.
        let _ = self.check_alive();
        let value = self.read_register(register);
        Some(match part {
            Part::Word | Part::Double => value,
            Part::Low => u64::from(low32(value)),
            Part::High => u64::from(high32(value)),
        })
    }

    /// Answers a store of the host: `offset` bytes from the base of page 0.
    ///
    /// Never fails: what no policy row allows is ignored and counted. [`WriteOutcome::Again`] asks for the same store again.
    pub fn mmio_write(&mut self, host: &mut H, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        bump(&mut self.stats.exits);
        self.start_trap();
        // A failed SMMU goes on being emulated; nothing below reaches its hardware then.
        let _ = self.check_alive();
        let Some((register, part)) = lookup(offset, size) else {
            return self.write_unlisted(host, offset, size, value);
        };
        let value = match part {
            Part::Word => u64::from(low32(value)),
            Part::Double => value,
            Part::Low => join(high32(self.read_register(register)), low32(value)),
            Part::High => join(low32(value), low32(self.read_register(register))),
        };
        let outcome = self.write_register(host, register, value);
        if outcome == WriteOutcome::Again {
            bump(&mut self.stats.budget_exits);
        }
        outcome
    }

    #[inline(always)]
    pub(super) fn read_register(&mut self, register: Register) -> u64 {
        let regs = &self.regs;
        match register {
            Register::Idr0 => u64::from(regs.ids.idr0),
            Register::Idr1 => u64::from(regs.ids.idr1),
            Register::Idr3 => u64::from(regs.ids.idr3),
            Register::Idr5 => u64::from(regs.ids.idr5),
            Register::Iidr => u64::from(regs.ids.iidr),
            Register::Aidr => u64::from(regs.ids.aidr),
            Register::Cr0 => u64::from(regs.cr0.bits()),
            Register::Cr0Ack => u64::from(regs.cr0ack.bits()),
            Register::Cr1 => u64::from(regs.cr1),
            Register::Cr2 => u64::from(regs.cr2.bits()),
            Register::Gbpa => u64::from(union32([regs.gbpa, put32(gbpa::UPDATE, u32::from(regs.gbpa_update))])),
            Register::IrqCtrl | Register::IrqCtrlAck => u64::from(regs.irq_ctrl.bits()),
            Register::Gerror => u64::from(regs.gerror.bits()),
            Register::Gerrorn => u64::from(regs.gerrorn.bits()),
            Register::GerrorIrqCfg0 => regs.gerror_irq.cfg0,
            Register::GerrorIrqCfg1 => u64::from(regs.gerror_irq.cfg1),
            Register::GerrorIrqCfg2 => u64::from(regs.gerror_irq.cfg2),
            Register::StrtabBase => regs.strtab_base,
            Register::StrtabBaseCfg => u64::from(regs.strtab_base_cfg),
            Register::CmdqBase => regs.cmdq_base,
            Register::CmdqProd => u64::from(regs.cmdq_prod),
            Register::CmdqCons => {
                bump(&mut self.stats.cons_reads);
                u64::from(regs.cmdq_cons)
            }
            Register::EventqBase => regs.eventq_base,
            Register::EventqProd => u64::from(regs.eventq_prod),
            Register::EventqCons => u64::from(regs.eventq_cons),
            Register::EventqIrqCfg0 => regs.eventq_irq.cfg0,
            Register::EventqIrqCfg1 => u64::from(regs.eventq_irq.cfg1),
            Register::EventqIrqCfg2 => u64::from(regs.eventq_irq.cfg2),
            Register::Idr2
            | Register::Idr4
            | Register::Idr6
            | Register::Statusr
            | Register::Agbpa
            | Register::PriqBase
            | Register::PriqProd
            | Register::PriqCons
            | Register::PriqIrqCfg0
            | Register::PriqIrqCfg1
            | Register::PriqIrqCfg2 => 0,
        }
    }

    pub(super) fn write_register(&mut self, host: &mut H, register: Register, value: u64) -> WriteOutcome {
        let word = low32(value);
        let regs = &mut self.regs;
        match register {
            Register::Cr0 => {
                return self.write_cr0(host, Cr0::from_bits_truncate(word) & CR0_ALLOWED);
            }
            Register::Gbpa => return self.write_gbpa(host, word),
            Register::CmdqProd => {
                bump(&mut self.stats.prod_writes);
                regs.cmdq_prod = word & regs.cmdq_geometry().mask();
                return self.consume_commands(host);
            }
            Register::Gerrorn => {
                return self.write_gerrorn(host, Gerror::from_bits_truncate(word));
            }
            Register::Cr1 => {
                if regs.unguarded(Cr0::SMMUEN) {
                    regs.cr1 = replace32(regs.cr1, CR1_TABLE, word);
                }
                if regs.unguarded(Cr0::CMDQEN.union(Cr0::EVENTQEN)) {
                    regs.cr1 = replace32(regs.cr1, CR1_QUEUE, word);
                }
            }
            Register::Cr2 => {
                if regs.unguarded(Cr0::SMMUEN) {
                    regs.cr2 = Cr2::from_bits_truncate(word) & CR2_ALLOWED;
                }
            }
            Register::IrqCtrl => {
                regs.irq_ctrl = IrqCtrl::from_bits_truncate(word) & IRQ_CTRL_ALLOWED;
                self.follow_irq_ctrl(host);
            }
            Register::StrtabBase => {
                if regs.unguarded(Cr0::SMMUEN) {
                    regs.strtab_base = value & STRTAB_BASE_ALLOWED;
                }
            }
            Register::StrtabBaseCfg => {
                if regs.unguarded(Cr0::SMMUEN) {
                    regs.strtab_base_cfg = word & strtab_base_cfg_allowed(&regs.ids);
                }
            }
            Register::CmdqBase => {
                if regs.unguarded(Cr0::CMDQEN) {
                    regs.cmdq_base = value & QUEUE_BASE_ALLOWED;
                }
            }
            Register::CmdqCons => {
                if regs.unguarded(Cr0::CMDQEN) {
                    regs.cmdq_cons = word & regs.cmdq_geometry().mask();
                }
            }
            Register::EventqBase => {
                if regs.unguarded(Cr0::EVENTQEN) {
                    regs.eventq_base = value & QUEUE_BASE_ALLOWED;
                }
            }
            Register::EventqProd => {
                if regs.unguarded(Cr0::EVENTQEN) {
                    regs.eventq_prod = word & regs.eventq_index_mask();
                }
            }
            Register::EventqCons => {
                regs.eventq_cons = word & regs.eventq_index_mask();
                self.drain_events(host);
            }
            Register::GerrorIrqCfg0 => regs.gerror_irq_cfg().cfg0 = value & mask64(irq_cfg::ADDR),
            Register::GerrorIrqCfg1 => regs.gerror_irq_cfg().cfg1 = word,
            Register::GerrorIrqCfg2 => regs.gerror_irq_cfg().cfg2 = word & mask32(irq_cfg::ATTR),
            Register::EventqIrqCfg0 => regs.eventq_irq_cfg().cfg0 = value & mask64(irq_cfg::ADDR),
            Register::EventqIrqCfg1 => regs.eventq_irq_cfg().cfg1 = word,
            Register::EventqIrqCfg2 => regs.eventq_irq_cfg().cfg2 = word & mask32(irq_cfg::ATTR),
            Register::Idr0
            | Register::Idr1
            | Register::Idr2
            | Register::Idr3
            | Register::Idr4
            | Register::Idr5
            | Register::Idr6
            | Register::Iidr
            | Register::Aidr
            | Register::Cr0Ack
            | Register::Statusr
            | Register::Agbpa
            | Register::IrqCtrlAck
            | Register::Gerror
            | Register::PriqBase
            | Register::PriqProd
            | Register::PriqCons
            | Register::PriqIrqCfg0
            | Register::PriqIrqCfg1
            | Register::PriqIrqCfg2 => {}
        }
        WriteOutcome::Done
    }

    pub(crate) fn command_view(&self) -> CommandView {
        CommandView::new(&self.regs.ids, self.stage2.vmid)
    }
}

/// STRTAB_BASE bits that are stored.
const STRTAB_BASE_ALLOWED: u64 = union64([mask64(strtab_base::ADDR), mask64(strtab_base::RA)]);
/// STRTAB_BASE_CFG bits that are stored: LOG2SIZE, and SPLIT and FMT where there are two levels [S 6.3.25].
fn strtab_base_cfg_allowed(ids: &HostIds) -> u32 {
    use crate::spec::registers::strtab_base_cfg::{FMT, LOG2SIZE, SPLIT};
    if ids.two_level() { union32([mask32(LOG2SIZE), mask32(SPLIT), mask32(FMT)]) } else { mask32(LOG2SIZE) }
}
/// *Q_BASE bits that are stored.
const QUEUE_BASE_ALLOWED: u64 =
    union64([mask64(queue_base::LOG2SIZE), mask64(queue_base::ADDR), mask64(queue_base::ALLOC)]);
