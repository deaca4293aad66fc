//! One redistributor: EL2's tables, which hardware uses, and the registers that the host sees.
//!
//! EnableLPIs of hardware is set when the host first sets its own, and never cleared, since hardware need not support
//! that [G 12.11]. While the host's EnableLPIs is 0, no event is mapped to the redistributor in hardware, and no LPI
//! reaches the CPU.

use host_access::memory::DmaBuffer;
use io_pgtable::Pa;

use crate::error::{GicFinding, TakeOverError};
use crate::its::Enable;
use crate::platform::{Frame, Platform};
use crate::spec::gicr::{self as reg, ctlr, pendbaser, propbaser, typer, vpendbaser, waker};
use crate::spec::gits::memory;
use crate::spec::{get32, get64, low32, mask32, mask64, put32, put64, union32, union64};
use crate::wait;

/// Bytes of a pending table: 2^16 bits, aligned to 64 KiB.
const PENDING_BYTES: usize = 0x1_0000;

/// Bits of GICR_PROPBASER that a host can write.
const PROPBASER_WRITABLE: u64 = union64([
    mask64(propbaser::ID_BITS),
    mask64(propbaser::INNER),
    mask64(propbaser::SHAREABILITY),
    mask64(propbaser::ADDRESS),
    mask64(propbaser::OUTER),
]);
/// Bits of GICR_PENDBASER that a host can write and read back.
const PENDBASER_WRITABLE: u64 = union64([
    mask64(propbaser::INNER),
    mask64(propbaser::SHAREABILITY),
    mask64(pendbaser::ADDRESS),
    mask64(propbaser::OUTER),
]);

/// The configuration table, which all redistributors share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigTable {
    pub(crate) address: Pa,
    pub(crate) intid_bits: u32,
}

/// The required values of GICR_PROPBASER and GICR_PENDBASER.
#[derive(Clone, Copy)]
struct Bases {
    prop: u64,
    pend: u64,
}

/// Bits of GICR_PROPBASER that must read back as written.
const PROPBASER_CHECKED: u64 = union64([mask64(propbaser::ID_BITS), mask64(propbaser::ADDRESS)]);

impl Bases {
    fn new(config: ConfigTable, pending: Pa) -> Self {
        let bits = u64::from(config.intid_bits.saturating_sub(1));
        let prop = union64([config.address.0 & mask64(propbaser::ADDRESS), put64(propbaser::ID_BITS, bits)]);
        Self { prop, pend: pending.0 & mask64(pendbaser::ADDRESS) }
    }

    /// Writes both registers, while EnableLPIs is 0. `once` are bits of GICR_PENDBASER that do not read back.
    fn write<P: Platform>(self, platform: &P, frame: Frame, once: u64) {
        write_base(platform, frame, reg::PROPBASER, self.prop, 0);
        write_base(platform, frame, reg::PENDBASER, self.pend, once);
    }

    /// Whether hardware reads back both addresses, and the number of INTIDs.
    fn read_back<P: Platform>(self, platform: &P, frame: Frame) -> bool {
        platform.read64(frame, reg::PROPBASER) & PROPBASER_CHECKED == self.prop
            && platform.read64(frame, reg::PENDBASER) & mask64(pendbaser::ADDRESS) == self.pend
    }
}

/// A redistributor.
pub(crate) struct Rd<B> {
    frame: Frame,
    /// Address of the RD frame, for ITSs that use addresses.
    pub(crate) base: Pa,
    typer: u64,
    /// `None` if the redistributor has no LPIs.
    pending: Option<B>,
    config: ConfigTable,
    /// EnableLPIs of hardware.
    on: bool,
    /// Hardware did not accept EnableLPIs.
    failed: bool,
    /// EnableLPIs of the host.
    pub(crate) enabled: Enable,
    dpg: u32,
    pub(crate) propbaser: u64,
    pub(crate) pendbaser: u64,
}

impl<B: DmaBuffer> Rd<B> {
    /// Allocates the pending table of redistributor `n`, which is quiescent, and checks that hardware keeps its
    /// address and that of `config`.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub(crate) fn take_over<P: Platform<Buffer = B>>(
        platform: &P,
        n: usize,
        base: Pa,
        config: ConfigTable,
    ) -> Result<Self, TakeOverError> {
        let frame = Frame::Rd(n);
        let typer = platform.read64(frame, reg::TYPER);
        let mut pending = None;
        if get64(typer::PLPIS, typer) == 1 {
            let table = platform.alloc(PENDING_BYTES).ok_or(TakeOverError::NoMemory)?;
            let bases = Bases::new(config, table.pa());
            // EL2 zeroed the table.
            bases.write(platform, frame, put64(pendbaser::PTZ, 1));
            if !bases.read_back(platform, frame) {
                return Err(TakeOverError::RdUnusable(n));
            }
            pending = Some(table);
        }
        Ok(Self {
            frame,
            base,
            typer,
            pending,
            config,
            on: false,
            failed: false,
            enabled: Enable::Off,
            dpg: 0,
            propbaser: 0,
            pendbaser: 0,
        })
    }

    /// Processor number.
    pub(crate) fn processor(&self) -> u32 {
        low32(get64(typer::PROCESSOR_NUMBER, self.typer))
    }

    /// Whether it can be the target of ITS commands.
    pub(crate) fn is_on(&self) -> bool {
        self.on && !self.failed
    }

    /// Whether the host may enable LPIs.
    pub(crate) fn has_lpis(&self) -> bool {
        self.pending.is_some() && !self.failed
    }

    /// GICR_TYPER of the host's view. VLPIS is unchanged, since drivers derive the number of frames from it.
    pub(crate) fn typer(&self) -> u64 {
        const SHOWN: u64 = union64([
            mask64(typer::PLPIS),
            mask64(typer::VLPIS),
            mask64(typer::LAST),
            mask64(typer::DPGS),
            mask64(typer::PROCESSOR_NUMBER),
            mask64(typer::COMMON_LPI_AFF),
            mask64(typer::PPI_NUM),
            mask64(typer::AFFINITY),
        ]);
        self.typer & SHOWN
    }

    /// GICR_CTLR of the host's view. The host uses SGI frames directly, so RWP and UWP are those of hardware.
    pub(crate) fn ctlr<P: Platform<Buffer = B>>(&self, platform: &P) -> u32 {
        let hardware = platform.read32(self.frame, reg::CTLR) & union32([mask32(ctlr::RWP), mask32(ctlr::UWP)]);
        let enabled = u32::from(self.enabled == Enable::On);
        let lpis = u32::from(self.pending.is_some());
        union32([hardware, put32(ctlr::ENABLE_LPIS, enabled), put32(ctlr::CES, lpis), put32(ctlr::DPG, self.dpg)])
    }

    /// Writes DPG to hardware. EnableLPIs keeps hardware's value: if the redistributor lost its state,
    /// [`Rd::switch_on`] comes first.
    pub(crate) fn set_dpg<P: Platform<Buffer = B>>(&mut self, platform: &P, dpg: u32) {
        if get64(typer::DPGS, self.typer) == 1 && dpg != self.dpg {
            self.dpg = dpg;
            let enable = get32(ctlr::ENABLE_LPIS, platform.read32(self.frame, reg::CTLR));
            let enable = if self.is_on() { enable } else { 0 };
            platform.dsb();
            platform.write32(self.frame, reg::CTLR, self.hardware_ctlr(enable));
            if enable == 1 {
                self.check_bases(platform);
            }
        }
    }

    /// EnableLPIs is 1. If hardware has the addresses of tables that are not EL2's, other software set it, or the state
    /// was lost in between. In both cases the redistributor has no LPIs from then on.
    fn check_bases<P: Platform<Buffer = B>>(&mut self, platform: &P) {
        let Some(pending) = &self.pending else { return };
        if !self.on || !Bases::new(self.config, pending.pa()).read_back(platform, self.frame) {
            self.failed = true;
            let _ = make_quiescent(platform, self.frame);
        }
    }

    fn hardware_ctlr(&self, enable: u32) -> u32 {
        union32([put32(ctlr::ENABLE_LPIS, enable), put32(ctlr::DPG, self.dpg)])
    }

    /// Stores to GICR_PROPBASER; ignored while LPIs are enabled.
    pub(crate) fn set_propbaser(&mut self, value: u64) {
        if self.enabled == Enable::Off {
            self.propbaser = value & PROPBASER_WRITABLE;
        }
    }

    /// Stores to GICR_PENDBASER; ignored while LPIs are enabled.
    pub(crate) fn set_pendbaser(&mut self, value: u64) {
        if self.enabled == Enable::Off {
            self.pendbaser = value & PENDBASER_WRITABLE;
        }
    }

    /// GICR_WAKER.
    pub(crate) fn waker<P: Platform<Buffer = B>>(&self, platform: &P) -> u32 {
        platform.read32(self.frame, reg::WAKER)
            & union32([mask32(waker::PROCESSOR_SLEEP), mask32(waker::CHILDREN_ASLEEP)])
    }

    /// Writes ProcessorSleep to hardware.
    pub(crate) fn set_waker<P: Platform<Buffer = B>>(&self, platform: &P, value: u32) {
        let sleep = put32(waker::PROCESSOR_SLEEP, get32(waker::PROCESSOR_SLEEP, value));
        platform.write32(self.frame, reg::WAKER, sleep);
    }

    /// Sets EnableLPIs of hardware, with EL2's tables, unless it is set: once, or again after the redistributor lost
    /// its state. Without success the redistributor has no LPIs for the host from then on.
    pub(crate) fn switch_on<P: Platform<Buffer = B>>(&mut self, platform: &P) {
        let Some(pending) = &self.pending else { return };
        if self.failed {
            return;
        }
        let enabled = || get32(ctlr::ENABLE_LPIS, platform.read32(self.frame, reg::CTLR)) == 1;
        if enabled() {
            return self.check_bases(platform);
        }
        let bases = Bases::new(self.config, pending.pa());
        // EL2 zeroed the table; hardware wrote to it only if the redistributor was on before.
        bases.write(platform, self.frame, put64(pendbaser::PTZ, u64::from(!self.on)));
        if !bases.read_back(platform, self.frame) {
            self.failed = true;
            return;
        }
        // Orders the zeroing of the tables before the register write that makes hardware use them.
        platform.dsb();
        platform.write32(self.frame, reg::CTLR, self.hardware_ctlr(1));
        self.failed = wait::until(platform, enabled).is_err();
        self.on = true;
    }

    /// Sets EnableLPIs again if the host has set it and the state was lost.
    pub(crate) fn check_alive<P: Platform<Buffer = B>>(&mut self, platform: &P) {
        if self.enabled == Enable::On {
            self.switch_on(platform);
        }
    }

    /// Checks that hardware's registers have the addresses of EL2's tables.
    ///
    /// # Errors
    /// The first register with another value.
    pub(crate) fn audit<P: Platform<Buffer = B>>(
        &self,
        platform: &P,
        owned: &impl Fn(Pa, usize) -> bool,
    ) -> Result<(), GicFinding> {
        let Some(pending) = &self.pending else { return Ok(()) };
        if !owned(pending.pa(), pending.size()) {
            return Err(GicFinding::NotOwned(self.frame, "GICR_PENDBASER"));
        }
        let enabled = get32(ctlr::ENABLE_LPIS, platform.read32(self.frame, reg::CTLR)) == 1;
        if !enabled {
            return Ok(());
        }
        if !self.on {
            return Err(GicFinding::Changed(self.frame, "GICR_CTLR"));
        }
        if platform.read64(self.frame, reg::PROPBASER) & mask64(propbaser::ADDRESS) != self.config.address.0 {
            return Err(GicFinding::Changed(self.frame, "GICR_PROPBASER"));
        }
        if platform.read64(self.frame, reg::PENDBASER) & mask64(pendbaser::ADDRESS) != pending.pa().0 {
            return Err(GicFinding::Changed(self.frame, "GICR_PENDBASER"));
        }
        Ok(())
    }
}

/// Writes a base with attributes: shareable and write-back where hardware supports that, else non-cacheable. `once`
/// are bits that do not read back.
fn write_base<P: Platform>(platform: &P, frame: Frame, offset: u32, fixed: u64, once: u64) {
    let attributes = |inner, shareable| {
        union64([fixed, once, put64(propbaser::INNER, inner), put64(propbaser::SHAREABILITY, shareable)])
    };
    if platform.snoops() {
        platform.write64(frame, offset, attributes(memory::WRITE_BACK, memory::INNER_SHAREABLE));
    }
    if !platform.snoops() || get64(propbaser::SHAREABILITY, platform.read64(frame, offset)) == 0 {
        platform.write64(frame, offset, attributes(memory::NON_CACHEABLE, 0));
    }
}

/// A redistributor that is not quiescent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQuiescent {
    /// EnableLPIs stays 1.
    Enabled,
    /// RWP stays 1.
    Busy,
    /// A vPE stays resident.
    Resident,
}

/// Clears EnableLPIs if earlier software left it set, and waits until the old tables are not in use any more: until
/// RWP is 0 [G 12.11], also if earlier software cleared EnableLPIs.
///
/// # Errors
/// The redistributor may still use its tables.
pub(crate) fn make_quiescent<P: Platform>(platform: &P, frame: Frame) -> Result<(), NotQuiescent> {
    let reads = |field| get32(field, platform.read32(frame, reg::CTLR));
    let found = platform.read64(frame, reg::TYPER);
    if get64(typer::VLPIS, found) == 1 {
        make_vpe_non_resident(platform, frame, found)?;
    }
    if get64(typer::PLPIS, found) == 0 {
        return Ok(());
    }
    if reads(ctlr::ENABLE_LPIS) == 1 {
        platform.write32(frame, reg::CTLR, 0);
        wait::until(platform, || reads(ctlr::ENABLE_LPIS) == 0).map_err(|_| NotQuiescent::Enabled)?;
    }
    wait::until(platform, || reads(ctlr::RWP) == 0).map_err(|_| NotQuiescent::Busy)
}

/// Ends the use of an earlier hypervisor's tables for virtual LPIs: hardware reads and writes them while
/// GICR_VPENDBASER.Valid is 1, and until Dirty is 0 [G 12.11]. It stays 0: only EL2 can access the frame.
fn make_vpe_non_resident<P: Platform>(platform: &P, frame: Frame, found: u64) -> Result<(), NotQuiescent> {
    let reads = |offset, field| get64(field, platform.read64(frame, offset));
    if reads(reg::VPENDBASER, vpendbaser::VALID) == 1 {
        platform.write64(frame, reg::VPENDBASER, 0);
    }
    let left = || reads(reg::VPENDBASER, vpendbaser::VALID) == 0 && reads(reg::VPENDBASER, vpendbaser::DIRTY) == 0;
    wait::until(platform, left).map_err(|_| NotQuiescent::Resident)?;
    if get64(typer::RVPEID, found) == 1 && reads(reg::VPROPBASER, vpendbaser::VALID) == 1 {
        platform.write64(frame, reg::VPROPBASER, 0);
        wait::until(platform, || reads(reg::VPROPBASER, vpendbaser::VALID) == 0).map_err(|_| NotQuiescent::Resident)?;
    }
    Ok(())
}
