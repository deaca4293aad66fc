//! Take-over: before the host runs, every table of the GIC is in EL2's memory.

use io_pgtable::Pa;

use super::rd::{ConfigTable, NotQuiescent, make_quiescent};
use super::{Guard, Lpis, Rd};
use crate::error::TakeOverError;
use crate::its::{Hardware, HostRegs, Its, disable};
use crate::limits::{MAX_COLLECTIONS, MAX_INTID_BITS, MAX_ITS, MAX_RDS};
use crate::platform::{Frame, Platform};
use crate::spec::gits::{BASERS, baser};
use crate::spec::{get64, put64, union64};

/// A redistributor of the machine; [`Frame::Rd`] numbers them in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdConfig {
    /// Address of its RD frame.
    pub base: Pa,
}

/// The firmware's description of the GIC.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// Number of ITSs.
    pub its: usize,
    /// Every redistributor of the machine, including those of CPUs that never run.
    pub rds: &'a [RdConfig],
    /// INTID bits of the distributor: GICD_TYPER.IDbits plus one, or fewer, by GICD_TYPER.num_LPIs.
    pub intid_bits: u32,
}

impl<P: Platform> Guard<P> {
    /// Disables every ITS, clears EnableLPIs of every redistributor, and waits until none of them uses the tables of
    /// earlier software: from then on they access no memory. [`Guard::take_over`] does the same before it allocates;
    /// if it is done earlier, old tables cannot change any of EL2's memory.
    ///
    /// # Errors
    /// See [`TakeOverError`]; the ITSs and redistributors before the one in the error are quiescent.
    pub fn make_quiescent(&self, config: &Config<'_>) -> Result<(), TakeOverError> {
        if config.its > MAX_ITS || config.rds.len() > MAX_RDS {
            return Err(TakeOverError::TooMany);
        }
        // ITSs first: a disabled ITS sends nothing to redistributors.
        for n in 0..config.its {
            disable(&self.platform, Frame::Its(n)).map_err(|_| TakeOverError::Busy(n))?;
        }
        for n in 0..config.rds.len() {
            make_quiescent(&self.platform, Frame::Rd(n)).map_err(|reason| match reason {
                NotQuiescent::Enabled => TakeOverError::LpisOn(n),
                NotQuiescent::Busy => TakeOverError::RdBusy(n),
                NotQuiescent::Resident => TakeOverError::RdResident(n),
            })?;
        }
        Ok(())
    }

    /// Takes the GIC over. Afterwards the host's accesses are emulated, and all tables of hardware are in EL2's memory.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub fn take_over(&mut self, config: &Config<'_>) -> Result<(), TakeOverError> {
        self.make_quiescent(config)?;
        let collections = u64::try_from(config.rds.len()).unwrap_or(u64::MAX);
        self.its.clear();
        self.rds.clear();
        for n in 0..config.its {
            let hardware = Hardware::take_over(&self.platform, n, collections)?;
            let bytes = usize::try_from(MAX_COLLECTIONS).unwrap_or(0).saturating_mul(8);
            let collections = self.platform.alloc(bytes).ok_or(TakeOverError::NoMemory)?;
            let regs = HostRegs::new(shown_basers(&self.platform, n));
            self.its.try_push(Its { hardware, regs, collections }).map_err(|_| TakeOverError::TooMany)?;
        }
        let intid_bits = config.intid_bits.min(MAX_INTID_BITS);
        let lpis = Lpis::new(&self.platform, intid_bits).ok_or(TakeOverError::NoMemory)?;
        let table = ConfigTable { address: lpis.config_table().0, intid_bits };
        // Orders the zeroing of the tables before the register writes with their addresses.
        self.platform.dsb();
        for (n, rd) in config.rds.iter().enumerate() {
            let rd = Rd::take_over(&self.platform, n, rd.base, table)?;
            self.rds.try_push(rd).map_err(|_| TakeOverError::TooMany)?;
        }
        self.lpis = Some(lpis);
        Ok(())
    }
}

/// Type and Entry_Size of the tables that the host sees: devices and collections.
fn shown_basers<P: Platform>(platform: &P, its: usize) -> [u64; 8] {
    BASERS.map(|offset| {
        let found = platform.read64(Frame::Its(its), offset);
        match get64(baser::TYPE, found) {
            kind @ (baser::TYPE_DEVICE | baser::TYPE_COLLECTION) => {
                union64([put64(baser::TYPE, kind), put64(baser::ENTRY_SIZE, get64(baser::ENTRY_SIZE, found))])
            }
            _ => 0,
        }
    })
}
