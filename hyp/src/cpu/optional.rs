//! Registers of EL2 that a CPU may lack, or its firmware may trap: which of them are written, and their values.
//!
//! An access to a register that does not exist is UNDEFINED, and one that EL3 traps ends the boot
//! ([`withheld`](super::withheld)). So each is written only if it exists according to the ID registers, and only if a
//! feature depends on it. Fields: DDI 0487 issue L.a, D24.2.

use super::field::{Field, up};
use super::{Cpu, ids, usable};

/// `ID_AA64PFR0_EL1.MPAM`.
const MPAM: Field = up("MPAM", 40, 0);
/// `ID_AA64PFR1_EL1.MPAM_frac`.
const MPAM_FRAC: Field = up("MPAM_frac", 16, 0);
/// `ID_AA64DFR0_EL1.TraceFilt`.
const TRACE_FILT: Field = up("TraceFilt", 40, 0);
/// `ID_AA64DFR2_EL1.TRBE_EXC`.
const TRBE_EXC: Field = up("TRBE_EXC", 24, 0);

/// `MPAMIDR_EL1.HAS_HCR`: there is an `MPAMHCR_EL2`.
const HAS_HCR: u64 = 1 << 17;
/// `MPAMIDR_EL1.HAS_BW_CTRL`: there is an `MPAMBW2_EL2`.
const HAS_BW_CTRL: u64 = 1 << 56;
/// `MPAMIDR_EL1.HAS_TIDR`: there is an `MPAM2_EL2.TIDR`.
const HAS_TIDR: u64 = 1 << 58;

/// `MPAM2_EL2.TRAPMPAM0EL1` and `TRAPMPAM1EL1`: the host's own MPAM registers trap.
const TRAP_EL1: u64 = 0b11 << 48;
/// `MPAM2_EL2.TIDR`: `MPAMIDR_EL1` traps.
const TIDR: u64 = 1 << 58;
/// `MPAMHCR_EL2.TRAP_MPAMIDR_EL1`: the same, if that register exists.
const TRAP_IDR: u64 = 1 << 31;

/// A value for each of them; `None` if the register is not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optional {
    /// `MPAM2_EL2`; it implies `MPAM1_EL1` and `MPAM0_EL1`.
    pub mpam2: Option<u64>,
    /// `MPAMHCR_EL2`.
    pub mpamhcr: Option<u64>,
    /// `MPAMBW2_EL2`.
    pub mpambw2: Option<u64>,
    /// `PMSCR_EL2`.
    pub pmscr: Option<u64>,
    /// `TRFCR_EL2`.
    pub trfcr: Option<u64>,
}

impl Optional {
    /// The values for `cpu`.
    #[must_use]
    pub fn of(cpu: &impl Cpu) -> Self {
        let mpam = MPAM.of(cpu.id(ids::PFR0)) != 0 || MPAM_FRAC.of(cpu.id(ids::PFR1)) != 0;
        let mpamidr = if mpam { cpu.mpamidr() } else { 0 };
        let has = |bit: u64| mpamidr & bit != 0;
        let trace = cpu.id(ids::DFR0);
        // If EL3 owns the profiling buffer, it also traps this register.
        let profiling = ids::PMSVER.of(usable(cpu, ids::DFR0)) != 0;
        // E2TRE, which would show EL2 to a trace unit, is 0 after every reset, and firmware of older cores traps the
        // register. Only later cores have fields in it that are UNKNOWN.
        let later = TRBE_EXC.of(cpu.id(ids::DFR2)) != 0 || ids::TRACE_BUFFER.of(trace) >= 2;
        Self {
            mpam2: mpam.then_some(TRAP_EL1 | if has(HAS_TIDR) { TIDR } else { 0 }),
            mpamhcr: has(HAS_HCR).then_some(TRAP_IDR),
            mpambw2: has(HAS_BW_CTRL).then_some(0),
            // Its records have only virtual addresses, and no physical addresses or counts.
            pmscr: profiling.then_some(0),
            trfcr: (TRACE_FILT.of(trace) != 0 && later).then_some(0),
        }
    }
}
