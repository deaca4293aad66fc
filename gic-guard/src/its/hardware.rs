//! The hardware of an ITS: take-over, its queue, its enable, its failure.

use io_pgtable::Pa;

use super::ids::Ids;
use super::ring::{Completion, RING_BLOCK, Ring};
use super::tables::{NoTable, Tables, first_choice};
use crate::command::{Command, Target};
use crate::error::{GicFinding, ItsError, TakeOverError};
use crate::platform::{Frame, Platform};
use crate::spec::gits::{self as reg, cbaser, ctlr, memory, typer};
use crate::spec::{get32, get64, mask64, put32, put64, union64};
use crate::wait;
use host_access::memory::DmaBuffer;

/// An ITS as EL2 uses it.
pub(crate) struct Hardware<B> {
    frame: Frame,
    pub(crate) ids: Ids,
    pub(crate) tables: Tables<B>,
    pub(crate) ring: Ring<B>,
    /// GITS_CBASER as programmed.
    cbaser: u64,
    /// GITS_CTLR.Enabled.
    on: bool,
    /// Redistributors whose collection is mapped, by bit.
    mapped: u64,
    failed: Option<ItsError>,
}

impl<B: DmaBuffer> Hardware<B> {
    /// Gives ITS `n`, which is disabled, tables and a queue of EL2; it stays disabled. `collections` is the number of
    /// redistributors.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub(crate) fn take_over<P: Platform<Buffer = B>>(
        platform: &P,
        n: usize,
        collections: u64,
    ) -> Result<Self, TakeOverError> {
        let frame = Frame::Its(n);
        let ids = Ids(platform.read64(frame, reg::TYPER));
        if get64(typer::PHYSICAL, ids.0) == 0 {
            return Err(TakeOverError::Unusable(n));
        }
        let refused = |error| match error {
            NoTable::NoMemory => TakeOverError::NoMemory,
            NoTable::Refused => TakeOverError::Unusable(n),
        };
        let tables = Tables::new(platform, frame, ids, collections).map_err(refused)?;
        let ring = Ring::new(platform.alloc(RING_BLOCK).ok_or(TakeOverError::NoMemory)?);
        let cbaser = place_ring(platform, frame, ring.pa()).ok_or(TakeOverError::Unusable(n))?;
        platform.write64(frame, reg::CWRITER, 0);
        Ok(Self { frame, ids, tables, ring, cbaser, on: false, mapped: 0, failed: None })
    }

    /// The frame of the ITS.
    pub(crate) fn frame(&self) -> Frame {
        self.frame
    }

    /// The redistributor with this processor number and RD frame, in the form that the ITS uses.
    pub(crate) fn target(&self, processor: u32, frame: Pa) -> Target {
        if get64(typer::PTA, self.ids.0) == 1 { Target::address(frame) } else { Target::number(processor) }
    }

    /// The error of a failed ITS.
    pub(crate) fn failed(&self) -> Option<ItsError> {
        self.failed
    }

    /// Whether the collection of redistributor `rd` is mapped.
    pub(crate) fn is_mapped(&self, rd: usize) -> bool {
        self.mapped & bit(rd) != 0
    }

    /// Records that the collection of redistributor `rd` is mapped.
    pub(crate) fn set_mapped(&mut self, rd: usize) {
        self.mapped |= bit(rd);
    }

    /// Queues a command; enables the ITS first if necessary. `any` is a redistributor to SYNC with.
    ///
    /// # Errors
    /// The ITS failed, now or before.
    pub(crate) fn push<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        any: Target,
        command: Command,
    ) -> Result<(), ItsError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.on {
            platform.dsb();
            platform.write32(self.frame, reg::CTLR, put32(ctlr::ENABLED, 1));
            self.on = true;
        }
        let result = self.ring.push(platform, self.frame, any, command);
        self.close_on_error(platform, result)
    }

    /// Waits until all queued commands are consumed.
    ///
    /// # Errors
    /// The ITS failed, now or before.
    pub(crate) fn complete<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        any: Target,
    ) -> Result<Completion, ItsError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.ring.is_busy() {
            return Ok(Completion::All);
        }
        let result = self.ring.complete(platform, self.frame, any);
        self.close_on_error(platform, result)
    }

    /// Sets or clears the enable that the host sees; hardware is disabled when no command is queued.
    ///
    /// # Errors
    /// The ITS failed, now or before.
    pub(crate) fn follow<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        wanted: super::Enable,
    ) -> Result<(), ItsError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let on = wanted == super::Enable::On;
        if on == self.on {
            return Ok(());
        }
        if on {
            platform.dsb();
            platform.write32(self.frame, reg::CTLR, put32(ctlr::ENABLED, 1));
            self.on = true;
            return Ok(());
        }
        let result = disable(platform, self.frame);
        self.close_on_error(platform, result)?;
        self.on = false;
        Ok(())
    }

    /// Checks whether the registers still have the values that EL2 programmed; they may be lost after a CPU was off. If
    /// EL2 had disabled the ITS, all its tables are in memory, and the registers are written again. Otherwise the ITS
    /// may have lost data that it had not written to memory.
    ///
    /// # Errors
    /// The ITS failed, now or before.
    pub(crate) fn check_alive<P: Platform<Buffer = B>>(&mut self, platform: &P) -> Result<(), ItsError> {
        let enabled = get32(ctlr::ENABLED, platform.read32(self.frame, reg::CTLR)) == 1;
        if let Some(error) = self.failed {
            // Firmware may have enabled a failed ITS. There is no wait, since it may not respond.
            if enabled {
                platform.write32(self.frame, reg::CTLR, 0);
            }
            return Err(error);
        }
        if enabled == self.on && platform.read64(self.frame, reg::CBASER) == self.cbaser {
            return Ok(());
        }
        let result = self.restore(platform);
        self.close_on_error(platform, result)
    }

    #[cold]
    fn restore<P: Platform<Buffer = B>>(&mut self, platform: &P) -> Result<(), ItsError> {
        // Firmware may have enabled it with its own tables.
        disable(platform, self.frame)?;
        let in_memory = !self.on && self.tables.collection_register.is_some();
        if !in_memory || !self.tables.rewrite(platform, self.frame) {
            return Err(ItsError::Lost);
        }
        platform.write64(self.frame, reg::CBASER, self.cbaser);
        // Orders earlier stores to tables and the queue before the register write after which hardware uses them.
        platform.dsb();
        platform.write64(self.frame, reg::CWRITER, 0);
        self.ring.restart();
        if platform.read64(self.frame, reg::CBASER) == self.cbaser { Ok(()) } else { Err(ItsError::Lost) }
    }

    /// GITS_CTLR.Quiescent.
    pub(crate) fn quiescent<P: Platform<Buffer = B>>(&self, platform: &P) -> u32 {
        if self.failed.is_some() { 1 } else { get32(ctlr::QUIESCENT, platform.read32(self.frame, reg::CTLR)) }
    }

    fn close_on_error<P: Platform<Buffer = B>, T>(
        &mut self,
        platform: &P,
        result: Result<T, ItsError>,
    ) -> Result<T, ItsError> {
        if let Err(error) = result {
            self.failed = Some(error);
            // No wait here: each access of the host would wait again.
            platform.write32(self.frame, reg::CTLR, 0);
            self.on = false;
        }
        result
    }

    /// Checks that the addresses in hardware's registers are in EL2's memory.
    ///
    /// # Errors
    /// The first register with another address.
    pub(crate) fn audit<P: Platform<Buffer = B>>(
        &self,
        platform: &P,
        owned: &impl Fn(Pa, usize) -> bool,
    ) -> Result<(), GicFinding> {
        if platform.read64(self.frame, reg::CBASER) != self.cbaser {
            // A failed ITS that is disabled may have lost its registers.
            let off = get32(ctlr::ENABLED, platform.read32(self.frame, reg::CTLR)) == 0;
            return match self.failed {
                Some(_) if off => Ok(()),
                Some(_) | None => Err(GicFinding::Changed(self.frame, "GITS_CBASER")),
            };
        }
        if !owned(self.ring.pa(), RING_BLOCK) {
            return Err(GicFinding::NotOwned(self.frame, "GITS_CBASER"));
        }
        self.tables.audit(platform, self.frame, owned)
    }
}

fn bit(rd: usize) -> u64 {
    u32::try_from(rd).ok().and_then(|rd| 1_u64.checked_shl(rd)).unwrap_or(0)
}

/// Clears Enabled and waits until all writes to memory are complete [G 12.19].
///
/// # Errors
/// The ITS does not respond.
pub(crate) fn disable<P: Platform>(platform: &P, frame: Frame) -> Result<(), ItsError> {
    platform.write32(frame, reg::CTLR, 0);
    let quiet = || {
        let found = platform.read32(frame, reg::CTLR);
        get32(ctlr::ENABLED, found) == 0 && get32(ctlr::QUIESCENT, found) == 1
    };
    wait::until(platform, quiet).map_err(|_| ItsError::NoAck)
}

/// Writes GITS_CBASER. Returns the value that it reads back as, or `None` if hardware does not accept the address.
fn place_ring<P: Platform>(platform: &P, frame: Frame, ring: Pa) -> Option<u64> {
    if !ring.0.is_multiple_of(u64::try_from(RING_BLOCK).unwrap_or(u64::MAX)) {
        return None;
    }
    let fixed = union64([ring.0 & mask64(cbaser::ADDRESS), put64(cbaser::VALID, 1)]);
    let checked = union64([mask64(cbaser::ADDRESS), mask64(cbaser::VALID), mask64(cbaser::SIZE)]);
    let mut inner = first_choice(platform);
    loop {
        let shareable = if inner == memory::WRITE_BACK { memory::INNER_SHAREABLE } else { 0 };
        let value = union64([fixed, put64(cbaser::INNER, inner), put64(cbaser::SHAREABILITY, shareable)]);
        platform.write64(frame, reg::CBASER, value);
        let found = platform.read64(frame, reg::CBASER);
        if found & checked != fixed {
            return None;
        }
        if inner == memory::WRITE_BACK && get64(cbaser::SHAREABILITY, found) == 0 {
            inner = memory::NON_CACHEABLE;
            continue;
        }
        return Some(found);
    }
}
