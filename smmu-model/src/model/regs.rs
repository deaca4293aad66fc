//! The register file: write protection, handshakes, both access sizes [IHI 0070G 6.2, 6.3].

use super::Model;
use crate::arch::regs as r;
use crate::config::Config;
use crate::hazard::Hazard;

/// A register whose new value takes effect some time after the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The value that reads return.
    pub(crate) written: u32,
    /// The value that has taken effect.
    pub(crate) acked: u32,
}

impl Handshake {
    pub(crate) fn settled(value: u32) -> Self {
        Self { written: value, acked: value }
    }

    /// Whether the bit may be set.
    pub(crate) fn maybe(&self, bit: u32) -> bool {
        (self.written | self.acked) & bit != 0
    }

    /// Whether the bit may be clear.
    pub(crate) fn maybe_clear(&self, bit: u32) -> bool {
        self.written & self.acked & bit == 0
    }

    /// Whether the bit is certainly set.
    pub(crate) fn is(&self, bit: u32) -> bool {
        self.written & self.acked & bit != 0
    }

    pub(crate) fn pending(&self) -> bool {
        self.written != self.acked
    }
}

/// An MSI target: IRQ_CFG0, 1 and 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IrqCfg {
    pub(crate) address: u64,
    pub(crate) data: u32,
    pub(crate) attributes: u32,
}

/// Every register with state.
#[derive(Clone, Debug)]
pub(crate) struct Regs {
    pub(crate) cr0: Handshake,
    pub(crate) cr1: u32,
    pub(crate) cr2: u32,
    pub(crate) gbpa: Handshake,
    pub(crate) gbpa_update: bool,
    pub(crate) irq_ctrl: Handshake,
    pub(crate) gerror: u32,
    pub(crate) gerrorn: u32,
    pub(crate) gerror_irq: IrqCfg,
    pub(crate) strtab_base: u64,
    pub(crate) strtab_cfg: u32,
    pub(crate) cmdq_base: u64,
    pub(crate) cmdq_prod: u32,
    pub(crate) cmdq_cons: u32,
    pub(crate) eventq_base: u64,
    pub(crate) eventq_prod: u32,
    pub(crate) eventq_cons: u32,
    pub(crate) eventq_irq: IrqCfg,
    pub(crate) priq_base: u64,
    pub(crate) priq_prod: u32,
    pub(crate) priq_cons: u32,
    pub(crate) priq_irq: IrqCfg,
}

impl Regs {
    pub(crate) fn reset(config: &Config) -> Self {
        Self {
            cr0: Handshake::settled(0),
            cr1: 0,
            cr2: 0,
            gbpa: Handshake::settled(config.gbpa_reset & !r::GBPA_UPDATE),
            gbpa_update: false,
            irq_ctrl: Handshake::settled(0),
            gerror: 0,
            gerrorn: 0,
            gerror_irq: IrqCfg::default(),
            strtab_base: 0,
            strtab_cfg: 0,
            cmdq_base: 0,
            cmdq_prod: 0,
            cmdq_cons: 0,
            eventq_base: 0,
            eventq_prod: 0,
            eventq_cons: 0,
            eventq_irq: IrqCfg::default(),
            priq_base: 0,
            priq_prod: 0,
            priq_cons: 0,
            priq_irq: IrqCfg::default(),
        }
    }
}

/// `word` with the half at `offset` replaced.
fn half_of(word: u64, offset: u32, value: u32) -> u64 {
    if offset & 4 != 0 {
        (word & 0xffff_ffff) | u64::from(value) << 32
    } else {
        (word & !0xffff_ffff) | u64::from(value)
    }
}

/// Bits of an address field.
pub(crate) const ADDR: u64 = 0x00ff_ffff_ffff_ffff;

impl Model {
    /// The 32-bit register at `offset`, for inspection by a test: no pending work is done.
    #[must_use]
    pub fn register(&self, offset: u32) -> u32 {
        self.get32(self.fold(offset))
    }

    /// Reads the 32-bit register at `offset` from the base of page 0.
    pub fn read32(&mut self, offset: u32) -> u32 {
        if !offset.is_multiple_of(4) {
            self.hazard(Hazard::BadAccess(offset));
            return 0;
        }
        self.progress_on_read(offset);
        self.get32(self.fold(offset))
    }

    /// Writes the 32-bit register at `offset`.
    pub fn write32(&mut self, offset: u32, value: u32) {
        if !offset.is_multiple_of(4) {
            self.hazard(Hazard::BadAccess(offset));
            return;
        }
        self.mem().tick();
        self.set32(self.fold(offset), value);
        self.progress_on_write();
    }

    /// Reads the 64-bit register at `offset`.
    pub fn read64(&mut self, offset: u32) -> u64 {
        if !offset.is_multiple_of(8) || !r::WIDE.contains(&offset) {
            self.hazard(Hazard::BadAccess(offset));
            return 0;
        }
        u64::from(self.get32(offset)) | u64::from(self.get32(offset + 4)) << 32
    }

    /// Writes the 64-bit register at `offset`.
    pub fn write64(&mut self, offset: u32, value: u64) {
        if !offset.is_multiple_of(8) || !r::WIDE.contains(&offset) {
            self.hazard(Hazard::BadAccess(offset));
            return;
        }
        self.mem().tick();
        self.set32(offset, u32::try_from(value & 0xffff_ffff).unwrap_or(0));
        self.set32(offset + 4, u32::try_from(value >> 32).unwrap_or(0));
        self.progress_on_write();
    }

    fn fold(&self, offset: u32) -> u32 {
        let page1_register = matches!(offset, 0xa8 | 0xac | 0xc8 | 0xcc);
        if self.config().page1_aliases && page1_register { offset + r::PAGE1 } else { offset }
    }

    fn get32(&self, offset: u32) -> u32 {
        let g = &self.regs;
        let wide = |value: u64, at: u32| u32::try_from(value >> ((offset - at) * 8) & 0xffff_ffff).unwrap_or(0);
        match offset {
            r::IDR0 => self.config().idr0(),
            r::IDR1 => self.config().idr1(),
            r::IDR3 => self.config().idr3(),
            r::IDR5 => self.config().idr5(),
            r::IIDR => self.config().iidr,
            r::AIDR => self.config().aidr,
            r::CR0 => g.cr0.written,
            r::CR0ACK => g.cr0.acked & !r::CR0_VMW | g.cr0.acked & r::CR0_VMW,
            r::CR1 => g.cr1,
            r::CR2 => g.cr2,
            r::GBPA => g.gbpa.written | if g.gbpa_update { r::GBPA_UPDATE } else { 0 },
            r::IRQ_CTRL => g.irq_ctrl.written,
            r::IRQ_CTRLACK => g.irq_ctrl.acked,
            r::GERROR => g.gerror,
            r::GERRORN => g.gerrorn,
            0x68 | 0x6c => wide(g.gerror_irq.address, r::GERROR_IRQ_CFG0),
            r::GERROR_IRQ_CFG1 => g.gerror_irq.data,
            r::GERROR_IRQ_CFG2 => g.gerror_irq.attributes,
            0x80 | 0x84 => wide(g.strtab_base, r::STRTAB_BASE),
            r::STRTAB_BASE_CFG => g.strtab_cfg,
            0x90 | 0x94 => wide(g.cmdq_base, r::CMDQ_BASE),
            r::CMDQ_PROD => g.cmdq_prod,
            r::CMDQ_CONS => g.cmdq_cons,
            0xa0 | 0xa4 => wide(g.eventq_base, r::EVENTQ_BASE),
            0xb0 | 0xb4 => wide(g.eventq_irq.address, r::EVENTQ_IRQ_CFG0),
            r::EVENTQ_IRQ_CFG1 => g.eventq_irq.data,
            r::EVENTQ_IRQ_CFG2 => g.eventq_irq.attributes,
            0xc0 | 0xc4 => wide(g.priq_base, r::PRIQ_BASE),
            0xd0 | 0xd4 => wide(g.priq_irq.address, r::PRIQ_IRQ_CFG0),
            r::PRIQ_IRQ_CFG1 => g.priq_irq.data,
            r::PRIQ_IRQ_CFG2 => g.priq_irq.attributes,
            r::EVENTQ_PROD => g.eventq_prod,
            r::EVENTQ_CONS => g.eventq_cons,
            r::PRIQ_PROD => g.priq_prod,
            r::PRIQ_CONS => g.priq_cons,
            _ => 0,
        }
    }

    fn set32(&mut self, offset: u32, value: u32) {
        let cr0 = self.regs.cr0;
        match offset {
            r::CR0 => self.set_cr0(value),
            r::CR1 => {
                let guarded = cr0.maybe(r::CR0_SMMUEN | r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_PRIQEN);
                self.guard(offset, guarded && value != self.regs.cr1, |g| g.cr1 = value & 0xfff);
            }
            r::CR2 => {
                let guarded = cr0.maybe(r::CR0_SMMUEN) && value & 0xf != self.regs.cr2;
                self.guard(offset, guarded, |g| g.cr2 = value & 0xf);
            }
            r::GBPA => self.set_gbpa(value),
            r::IRQ_CTRL => self.set_irq_ctrl(value),
            r::GERRORN => self.set_gerrorn(value),
            0x80 | 0x84 => {
                self.guard(offset, cr0.maybe(r::CR0_SMMUEN), |g| {
                    g.strtab_base = half_of(g.strtab_base, offset, value);
                });
                self.strtab_changed();
            }
            r::STRTAB_BASE_CFG => {
                self.guard(offset, cr0.maybe(r::CR0_SMMUEN), |g| g.strtab_cfg = value & 0x3_07ff);
                self.strtab_changed();
            }
            0x90 | 0x94 => self.guard(offset, cr0.maybe(r::CR0_CMDQEN), |g| {
                g.cmdq_base = half_of(g.cmdq_base, offset, value);
            }),
            r::CMDQ_PROD => self.set_cmdq_prod(value),
            r::CMDQ_CONS => {
                self.guard(offset, cr0.maybe(r::CR0_CMDQEN), |g| g.cmdq_cons = value & 0x7f0f_ffff);
            }
            0xa0 | 0xa4 => self.guard(offset, cr0.maybe(r::CR0_EVENTQEN), |g| {
                g.eventq_base = half_of(g.eventq_base, offset, value);
            }),
            r::EVENTQ_PROD => {
                self.guard(offset, cr0.maybe(r::CR0_EVENTQEN), |g| g.eventq_prod = value & 0x800f_ffff);
            }
            r::EVENTQ_CONS => {
                self.regs.eventq_cons = value & 0x800f_ffff;
                self.check_output_index(self.regs.eventq_base, self.regs.eventq_prod, value);
            }
            _ => self.set_irq_cfg(offset, value),
        }
    }

    /// Writes MSI configuration and PRI queue registers.
    fn set_irq_cfg(&mut self, offset: u32, value: u32) {
        let msi = self.config().msi;
        let irq = self.regs.irq_ctrl;
        match offset {
            0x68 | 0x6c if msi => self.guard(offset, irq.maybe(r::IRQ_GERROR), |g| {
                g.gerror_irq.address = half_of(g.gerror_irq.address, offset, value) & ADDR & !3;
            }),
            r::GERROR_IRQ_CFG1 if msi => {
                self.guard(offset, irq.maybe(r::IRQ_GERROR), |g| g.gerror_irq.data = value);
            }
            r::GERROR_IRQ_CFG2 if msi => {
                self.guard(offset, irq.maybe(r::IRQ_GERROR), |g| g.gerror_irq.attributes = value & 0x3f);
            }
            0xb0 | 0xb4 if msi => self.guard(offset, irq.maybe(r::IRQ_EVENTQ), |g| {
                g.eventq_irq.address = half_of(g.eventq_irq.address, offset, value) & ADDR & !3;
            }),
            r::EVENTQ_IRQ_CFG1 if msi => {
                self.guard(offset, irq.maybe(r::IRQ_EVENTQ), |g| g.eventq_irq.data = value);
            }
            r::EVENTQ_IRQ_CFG2 if msi => {
                self.guard(offset, irq.maybe(r::IRQ_EVENTQ), |g| g.eventq_irq.attributes = value & 0x3f);
            }
            0xd0 | 0xd4 if msi && self.config().pri => self.guard(offset, irq.maybe(r::IRQ_PRIQ), |g| {
                g.priq_irq.address = half_of(g.priq_irq.address, offset, value) & ADDR & !3;
            }),
            r::PRIQ_IRQ_CFG1 if msi && self.config().pri => {
                self.guard(offset, irq.maybe(r::IRQ_PRIQ), |g| g.priq_irq.data = value);
            }
            r::PRIQ_IRQ_CFG2 if self.config().pri => {
                self.guard(offset, irq.maybe(r::IRQ_PRIQ), |g| g.priq_irq.attributes = value);
            }
            _ if self.config().pri => self.set_priq(offset, value),
            _ => {}
        }
    }

    fn set_priq(&mut self, offset: u32, value: u32) {
        let cr0 = self.regs.cr0;
        match offset {
            0xc0 | 0xc4 => self.guard(offset, cr0.maybe(r::CR0_PRIQEN), |g| {
                g.priq_base = half_of(g.priq_base, offset, value);
            }),
            r::PRIQ_PROD => {
                self.guard(offset, cr0.maybe(r::CR0_PRIQEN), |g| g.priq_prod = value & 0x800f_ffff);
            }
            r::PRIQ_CONS => {
                self.regs.priq_cons = value & 0x800f_ffff;
                self.check_output_index(self.regs.priq_base, self.regs.priq_prod, value);
            }
            _ => {}
        }
    }

    fn guard(&mut self, offset: u32, guarded: bool, change: impl FnOnce(&mut Regs)) {
        if guarded {
            self.hazard(Hazard::Guarded(offset));
        } else {
            change(&mut self.regs);
        }
    }

    fn check_output_index(&mut self, base: u64, prod: u32, cons: u32) {
        let log2 = u32::try_from(base & 0x1f).unwrap_or(0).min(19);
        let mask = (2u32 << log2) - 1;
        if (prod.wrapping_sub(cons) & mask) > 1 << log2 {
            self.hazard(Hazard::OutputIndex);
        }
    }
}
