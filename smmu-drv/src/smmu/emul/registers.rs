//! Loads and stores of the host's registers.

use super::access::Store;
use super::ids::HostIds;
use super::table::Register;
use super::{Effect, VirtualSmmu};
use crate::platform::HostMemory;
use crate::smmu::budget::{Budget, Unfinished};
use crate::spec::registers::{
    cr0::Cr0, cr2::Cr2, gbpa, gerror::Gerror, irq_cfg, irq_ctrl::IrqCtrl, queue_base, strtab_base,
};
use crate::spec::{low32, mask32, mask64, put32, union32, union64};
use crate::stats::bump;

/// CR0 bits of the host. The others are reserved, because their features are hidden.
const CR0_ALLOWED: Cr0 = Cr0::SMMUEN.union(Cr0::EVENTQEN).union(Cr0::CMDQEN);
/// CR2 bits of the host. PTM can be read back although BTM is hidden, because Linux sets it; it has no effect.
const CR2_ALLOWED: Cr2 = Cr2::RECINVSID.union(Cr2::PTM);
/// IRQ_CTRL bits of the host.
const IRQ_CTRL_ALLOWED: IrqCtrl = IrqCtrl::GERROR_IRQEN.union(IrqCtrl::EVENTQ_IRQEN);
/// GBPA bits of the host, except UPDATE.
pub(super) const GBPA_ALLOWED: u32 = union32([mask32(gbpa::ABORT), mask32(gbpa::SHCFG)]);

impl<C> VirtualSmmu<C> {
    /// The value of `register`.
    #[inline(always)]
    pub(super) fn read_register(&mut self, register: Register) -> u64 {
        let regs = &self.regs;
        match register {
            Register::Idr0 => u64::from(self.ids.idr0),
            Register::Idr1 => u64::from(self.ids.idr1),
            Register::Idr3 => u64::from(self.ids.idr3),
            Register::Idr5 => u64::from(self.ids.idr5),
            Register::Iidr => u64::from(self.ids.iidr),
            Register::Aidr => u64::from(self.ids.aidr),
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

    /// Executes `store`. Returns the effect that the caller must execute. Then the caller calls this function again
    /// with the same store, unless the effect completes the store, see [`Effect`].
    ///
    /// # Errors
    /// The budget is not sufficient for the claims that the store needs.
    #[inline]
    pub(crate) fn write_register<H: HostMemory<Claim = C>>(
        &mut self,
        host_mem: &mut H,
        budget: &mut Budget,
        store: Store,
    ) -> Result<Effect, Unfinished> {
        let Store { register, value } = store;
        let word = low32(value);
        let regs = &mut self.regs;
        match register {
            Register::CmdqProd => {
                bump(&mut self.stats.prod_writes);
                regs.cmdq_prod = regs.cmdq_indices.of(word);
                return Ok(Effect::Commands);
            }
            Register::Cr0 => return self.write_cr0(host_mem, budget, Cr0::from_bits_truncate(word) & CR0_ALLOWED),
            Register::Gbpa => return Ok(self.write_gbpa(word)),
            Register::Gerrorn => return Ok(self.write_gerrorn(Gerror::from_bits_truncate(word))),
            Register::IrqCtrl => {
                regs.irq_ctrl = IrqCtrl::from_bits_truncate(word) & IRQ_CTRL_ALLOWED;
                return Ok(self.follow_irq_ctrl().unwrap_or(Effect::Done));
            }
            Register::EventqCons => {
                regs.eventq_cons = regs.eventq_indices().with_overflow(word);
                return Ok(Effect::Events);
            }
            Register::Cr1 => regs.set_cr1(word),
            Register::Cr2 => regs.set_cr2(Cr2::from_bits_truncate(word) & CR2_ALLOWED),
            Register::StrtabBase => regs.set_strtab_base(value & STRTAB_BASE_ALLOWED),
            Register::StrtabBaseCfg => regs.set_strtab_base_cfg(word & strtab_base_cfg_allowed(&self.ids)),
            Register::CmdqBase => regs.set_cmdq_base(value & QUEUE_BASE_ALLOWED),
            Register::CmdqCons => regs.set_cmdq_cons(word),
            Register::EventqBase => regs.set_eventq_base(value & QUEUE_BASE_ALLOWED),
            Register::EventqProd => regs.set_eventq_prod(word),
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
        Ok(Effect::Done)
    }
}

/// STRTAB_BASE bits that are stored.
const STRTAB_BASE_ALLOWED: u64 = union64([mask64(strtab_base::ADDR), mask64(strtab_base::RA)]);
/// STRTAB_BASE_CFG bits that are stored: LOG2SIZE; also SPLIT and FMT if 2-level tables are shown to the host [S
/// 6.3.25].
fn strtab_base_cfg_allowed(ids: &HostIds) -> u32 {
    use crate::spec::registers::strtab_base_cfg::{FMT, LOG2SIZE, SPLIT};
    if ids.two_level() { union32([mask32(LOG2SIZE), mask32(SPLIT), mask32(FMT)]) } else { mask32(LOG2SIZE) }
}
/// *Q_BASE bits that are stored.
const QUEUE_BASE_ALLOWED: u64 =
    union64([mask64(queue_base::LOG2SIZE), mask64(queue_base::ADDR), mask64(queue_base::ALLOC)]);
