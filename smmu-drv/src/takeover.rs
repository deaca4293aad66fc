//! Taking an SMMU away from whoever had it, without a moment in which it lets anything through.
//!
//! Firmware may have left it translating, with tables and queues anywhere. So GBPA is set to abort before SMMUEN goes down:
//! from then on nothing passes until SMMUEN comes up again over EL2's own table, in which every stream is confined by stage 2.
//! The same sequence programs an SMMU again that lost its state.

use core::fmt;

use io_pgtable::Pa;

use crate::budget::Budget;
use crate::cmdq::{self, Cmdq, CmdqError};
use crate::command::Command;
use crate::emul::HostRegs;
use crate::emul::ids::HostIds;
use crate::evtq::{self, Evtq};
use crate::fault::FaultLog;
use crate::features::{Coherency, Features};
use crate::hw::{ACK_TIMEOUT_US, Hw, TimedOut};
use crate::platform::{HostMemory, Platform};
use crate::probe::Probed;
use crate::smmu::{Patience, Smmu};
use crate::spec::registers::{self as reg, cr0::Cr0, cr1, cr2::Cr2, gbpa};
use crate::spec::{get32, put32, union32};
use crate::stats::Stats;
use crate::strtab::policy::{Stage2Words, SteRules};
use crate::strtab::{Shared, Strtab};

/// The stage-2 table (VMSAv8-64) that confines every stream: fields as VTCR_EL2 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage2Cfg {
    /// Table address.
    pub ttb: Pa,
    /// Input size: 64 less the bits of the IPA space, 16 to 39.
    pub t0sz: u8,
    /// Start level.
    pub sl0: u8,
    /// Inner cacheability of walks.
    pub irgn: u8,
    /// Outer cacheability of walks.
    pub orgn: u8,
    /// Shareability of walks.
    pub sh: u8,
    /// Granule; 0 for 4K.
    pub tg: u8,
    /// Output size.
    pub ps: u8,
    /// VMID of the host's streams; 8 bits unless the SMMU has 16.
    pub vmid: u16,
}

/// Why a take-over failed. The SMMU is left with GBPA=ABORT where that could be programmed: it passes nothing, or it does not
/// answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOverError {
    /// The stage-2 configuration is not one that hardware accepts; the SMMU was not touched.
    BadStage2(&'static str),
    /// The pool is empty; the SMMU was not touched.
    NoMemory,
    /// A register did not follow: its offset.
    NoAck(u32),
    /// EL2's command queue did not complete the first invalidation.
    Invalidation,
}

impl fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadStage2(what) => write!(f, "stage-2 configuration: {what}"),
            Self::NoMemory => f.write_str("no memory for SMMU tables and queues; give EL2 a larger pool"),
            Self::NoAck(offset) => write!(f, "register {offset:#x} was not acknowledged; the SMMU does not answer"),
            Self::Invalidation => f.write_str("the first invalidation did not complete; the SMMU does not answer"),
        }
    }
}

impl core::error::Error for TakeOverError {}

impl<P: Platform> Probed<P> {
    /// Takes the SMMU over: afterwards every stream is confined by `stage2`, and the host's accesses are emulated.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub fn take_over<H: HostMemory>(self, stage2: Stage2Cfg) -> Result<Smmu<P, H>, TakeOverError> {
        let Self { hw, features, config } = self;
        check_stage2(&features, &stage2)?;
        let ids = HostIds::new(&features, config.msi, 64_u32.saturating_sub(u32::from(stage2.t0sz)))
            .with_cmdq(config.cmdq_log2);
        let rules = SteRules::new(&features, &ids).taking_reads_as(config.reads, &features);
        let found = hw.read32(reg::GBPA);
        let initial = if get32(gbpa::ABORT, found) == 1 { Shared::Abort } else { Shared::Stage2 };
        let cmd_ring = hw.alloc(cmdq::RING_SIZE).ok_or(TakeOverError::NoMemory)?;
        let evt_ring = hw.alloc(evtq::RING_SIZE).ok_or(TakeOverError::NoMemory)?;
        let strtab = Strtab::new(&hw, &features, Stage2Words::new(&stage2), rules, initial)
            .map_err(|_| TakeOverError::NoMemory)?;
        let mut smmu = Smmu {
            cmdq: Cmdq::new(cmd_ring, features.cmdq_log2, features.coherent, config.quirks.issue),
            evtq: Evtq::new(evt_ring, features.evtq_log2, features.coherent),
            regs: HostRegs::new(ids, found),
            hw,
            features,
            stage2,
            strtab,
            stats: Stats::default(),
            faults: FaultLog::new(),
            failed: None,
            patience: Patience::Whole,
            quiesced: false,
            budget: Budget::for_one_trap(),
            cfgi_pending: false,
            irq_hw: 0,
        };
        smmu.program()?;
        Ok(smmu)
    }
}

fn check_stage2(features: &Features, cfg: &Stage2Cfg) -> Result<(), TakeOverError> {
    let bits = 64_u32.saturating_sub(u32::from(cfg.t0sz));
    if !(16..=39).contains(&cfg.t0sz) || bits > features.oas {
        return Err(TakeOverError::BadStage2("T0SZ must be 16 to 39 and not exceed the SMMU's address size"));
    }
    if cfg.tg != 0 {
        return Err(TakeOverError::BadStage2("only the 4K granule (TG=0) is supported"));
    }
    if cfg.sl0 > 2 {
        return Err(TakeOverError::BadStage2("SL0 is reserved"));
    }
    if crate::features::oas_bits(u32::from(cfg.ps)) > features.oas.max(32) || cfg.ps > 6 {
        return Err(TakeOverError::BadStage2("PS exceeds the SMMU's output size"));
    }
    if features.vmid_bits == 8 && cfg.vmid > 0xff {
        return Err(TakeOverError::BadStage2("VMID needs 16 bits, the SMMU has 8"));
    }
    if cfg.ttb.0 & 0xf != 0 || cfg.ttb.0.checked_shr(features.oas).unwrap_or(0) != 0 {
        return Err(TakeOverError::BadStage2("table address is misaligned or out of the SMMU's reach"));
    }
    Ok(())
}

fn ack(offset: u32) -> impl Fn(TimedOut) -> TakeOverError {
    move |TimedOut| TakeOverError::NoAck(offset)
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Programs hardware from scratch over the present tables.
    pub(crate) fn program(&mut self) -> Result<(), TakeOverError> {
        self.close()?;
        let hw = &self.hw;
        hw.write_acked(reg::CR0, reg::CR0ACK, 0).map_err(ack(reg::CR0))?;
        hw.write_acked(reg::IRQ_CTRL, reg::IRQ_CTRLACK, 0).map_err(ack(reg::IRQ_CTRL))?;
        self.irq_hw = 0;
        hw.write64(reg::GERROR_IRQ_CFG0, 0);
        hw.write64(reg::EVENTQ_IRQ_CFG0, 0);
        if self.features.pri() {
            hw.write64(reg::PRIQ_IRQ_CFG0, 0);
        }
        hw.write32(reg::GERRORN, hw.read32(reg::GERROR));
        hw.write32(reg::CR1, cr1_template(self.features.coherent));
        hw.write32(reg::CR2, Cr2::PTM.union(Cr2::RECINVSID).bits());
        hw.write64(reg::STRTAB_BASE, self.strtab.base());
        hw.write32(reg::STRTAB_BASE_CFG, self.strtab.base_cfg());
        self.cmdq.reset();
        hw.write64(reg::CMDQ_BASE, self.cmdq.base());
        hw.write32(reg::CMDQ_PROD, 0);
        hw.write32(reg::CMDQ_CONS, 0);
        hw.publish_acked(reg::CR0, reg::CR0ACK, self.cr0_before_smmuen(Cr0::CMDQEN).bits()).map_err(ack(reg::CR0))?;
        self.invalidate_everything().map_err(|_| TakeOverError::Invalidation)?;
        let hw = &self.hw;
        self.evtq.reset();
        hw.write64(reg::EVENTQ_BASE, self.evtq.base());
        hw.write32(reg::EVENTQ_PROD, 0);
        hw.write32(reg::EVENTQ_CONS, 0);
        // The host's interrupt comes when the queue becomes non-empty [S 3.18.2]: it is on before the first record.
        self.update_irq_ctrl();
        let hw = &self.hw;
        let queues = self.cr0_before_smmuen(Cr0::CMDQEN.union(Cr0::EVENTQEN));
        hw.publish_acked(reg::CR0, reg::CR0ACK, queues.bits()).map_err(ack(reg::CR0))?;
        hw.publish_acked(reg::CR0, reg::CR0ACK, self.cr0_live().bits()).map_err(ack(reg::CR0))?;
        self.strtab.reap();
        self.cfgi_pending = false;
        Ok(())
    }

    /// Lets nothing through from the moment that SMMUEN is 0.
    pub(crate) fn close(&self) -> Result<(), TakeOverError> {
        set_gbpa_abort(&self.hw)
    }

    /// As [`Smmu::close`], without waiting: nothing is written while an earlier update is under way, which is not allowed
    /// [S 6.3.14].
    pub(crate) fn ask_to_close(&self) {
        if gbpa_is_idle(&self.hw) {
            self.hw.write32(reg::GBPA, GBPA_CLOSED);
        }
    }

    /// SMMU_CR0 from take-over to power-off.
    pub(crate) fn cr0_live(&self) -> Cr0 {
        self.cr0_before_smmuen(Cr0::SMMUEN.union(Cr0::CMDQEN).union(Cr0::EVENTQEN))
    }

    /// `queues`, and ATSCHK where the hardware has ATS.
    ///
    /// CR0's fields are updated independently of each other [S 6.3.9]: set by one write, SMMUEN may take effect first, and
    /// Translated traffic would skip the stream table. So ATSCHK is acknowledged before SMMUEN is written, and before the
    /// invalidation that configuration caches need after it changed.
    fn cr0_before_smmuen(&self, queues: Cr0) -> Cr0 {
        if self.features.ats() { queues.union(Cr0::ATSCHK) } else { queues }
    }

    /// Drops every cached configuration and translation of the non-secure world.
    pub(crate) fn invalidate_everything(&mut self) -> Result<(), CmdqError> {
        self.cmdq.push(&self.hw, Command::CfgiAll)?;
        self.strtab.cover(None);
        // While streams are live, what is cached of the configuration would fill the TLBs again [S 4.7.3].
        self.cmdq.separate(&self.hw)?;
        self.cmdq.push(&self.hw, Command::TlbiNsnhAll)?;
        if self.features.hyp() {
            self.cmdq.push(&self.hw, Command::TlbiEl2All)?;
        }
        self.cmdq.sync(&self.hw)
    }
}

/// The write of SMMU_GBPA that terminates everything while SMMUEN is 0.
const GBPA_CLOSED: u32 = union32([put32(gbpa::UPDATE, 1), put32(gbpa::ABORT, 1)]);

fn gbpa_is_idle<P: Platform>(hw: &Hw<P>) -> bool {
    get32(gbpa::UPDATE, hw.read32(reg::GBPA)) == 0
}

/// Terminates everything while SMMUEN is 0 [S 6.3.14]: one write with UPDATE, the flag polled before and after.
fn set_gbpa_abort<P: Platform>(hw: &Hw<P>) -> Result<(), TakeOverError> {
    hw.wait(ACK_TIMEOUT_US, || gbpa_is_idle(hw)).map_err(ack(reg::GBPA))?;
    hw.write32(reg::GBPA, GBPA_CLOSED);
    hw.wait(ACK_TIMEOUT_US, || gbpa_is_idle(hw)).map_err(ack(reg::GBPA))?;
    if get32(gbpa::ABORT, hw.read32(reg::GBPA)) == 1 { Ok(()) } else { Err(TakeOverError::NoAck(reg::GBPA)) }
}

/// Attributes of the SMMU's own accesses: write-back and inner shareable, or non-cacheable where it does not snoop.
fn cr1_template(coherent: Coherency) -> u32 {
    let (cache, share) = match coherent {
        Coherency::Coherent => (cr1::WB, cr1::ISH),
        Coherency::NonCoherent => (cr1::NC, cr1::OSH),
    };
    union32([
        put32(cr1::TABLE_SH, share),
        put32(cr1::TABLE_OC, cache),
        put32(cr1::TABLE_IC, cache),
        put32(cr1::QUEUE_SH, share),
        put32(cr1::QUEUE_OC, cache),
        put32(cr1::QUEUE_IC, cache),
    ])
}
