//! Exceptions that EL2 injects into the host for accesses that it does not emulate.
//!
//! Pure: from the interrupted state to the state in which the host's handler starts (Arm ARM DDI 0487, issue L.a, D1.3
//! "Exceptions" and AArch64.TakeException).

use crate::esr::Direction;

/// EL1's exception registers, and the PC and PSTATE of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Offset from `VBAR_EL1`.
    pub vector: u64,
    /// PSTATE of the handler, for `SPSR_EL2`.
    pub pstate: u64,
    /// Syndrome, for `ESR_EL1`.
    pub esr: u64,
}

/// The exception to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Synchronous external abort of a data access in this direction.
    DataAbort(Direction),
    /// Synchronous external abort of an instruction fetch.
    InstructionAbort,
    /// Undefined Instruction (class 0).
    Undefined,
}

impl Exception {
    /// Whether `FAR_EL1` has the address.
    #[must_use]
    pub const fn has_address(self) -> bool {
        match self {
            Self::DataAbort(_) | Self::InstructionAbort => true,
            Self::Undefined => false,
        }
    }
}

/// Control registers that affect exception entry to EL1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostControl {
    /// `SCTLR_EL1`.
    pub sctlr: u64,
    /// `SCTLR2_EL1`; 0 if the host has none.
    pub sctlr2: u64,
    /// `GCSCR_EL1`; 0 if the host has none.
    pub gcscr: u64,
    /// `ID_AA64PFR1_EL1`.
    pub pfr1: u64,
    /// `ID_AA64DFR1_EL1`.
    pub dfr1: u64,
    /// `ID_AA64MMFR1_EL1`.
    pub mmfr1: u64,
}

/// Fields of PSTATE, as in `SPSR_EL2` (DDI 0487 L.a, C5.2.19).
mod pstate {
    pub(super) const EL1H: u64 = 0b0101;
    pub(super) const EL: u64 = 0b1100;
    pub(super) const SP: u64 = 1;
    pub(super) const AARCH32: u64 = 1 << 4;
    pub(super) const DAIF: u64 = 0xf << 6;
    pub(super) const SSBS: u64 = 1 << 12;
    pub(super) const ALLINT: u64 = 1 << 13;
    pub(super) const PAN: u64 = 1 << 22;
    pub(super) const DIT: u64 = 1 << 24;
    pub(super) const TCO: u64 = 1 << 25;
    pub(super) const NZCV: u64 = 0xf << 28;
    pub(super) const PM: u64 = 1 << 32;
    pub(super) const EXLOCK: u64 = 1 << 34;
}

const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;
const SCTLR_SPINTMASK: u64 = 1 << 62;
const SCTLR2_EASE: u64 = 1 << 5;
const GCSCR_EXLOCKEN: u64 = 1 << 6;

/// First bits of four-bit fields of the ID registers.
const PFR1_SSBS: u32 = 4;
const PFR1_MTE: u32 = 8;
const PFR1_NMI: u32 = 36;
const DFR1_EBEP: u32 = 48;
const MMFR1_PAN: u32 = 20;

const ESR_IL: u64 = 1 << 25;
const ESR_WNR: u64 = 1 << 6;
/// Synchronous external abort, not on a table walk.
const FSC_EXTERNAL: u64 = 0b01_0000;
/// Distance from a vector for synchronous exceptions to the one for SError.
const SERROR: u64 = 0x180;

const fn is_implemented(register: u64, field: u32) -> bool {
    register >> field & 0xf != 0
}

/// The interrupted exception level.
#[derive(Clone, Copy)]
enum Level {
    El0,
    El1,
}

/// The state in which the host's handler starts, for an exception taken with PSTATE `spsr`.
#[must_use]
pub const fn enter(exception: Exception, spsr: u64, control: HostControl) -> Entry {
    let aarch32 = spsr & pstate::AARCH32 != 0;
    let from = if aarch32 || spsr & pstate::EL == 0 { Level::El0 } else { Level::El1 };
    let vector = match (aarch32, from, spsr & pstate::SP != 0) {
        (true, _, _) => 0x600,
        (false, Level::El0, _) => 0x400,
        (false, Level::El1, true) => 0x200,
        (false, Level::El1, false) => 0x000,
    };
    let class: u64 = match (exception, from) {
        (Exception::Undefined, _) => 0x00,
        (Exception::InstructionAbort, Level::El0) => 0x20,
        (Exception::InstructionAbort, Level::El1) => 0x21,
        (Exception::DataAbort(_), Level::El0) => 0x24,
        (Exception::DataAbort(_), Level::El1) => 0x25,
    };
    let status = match exception {
        Exception::Undefined => 0,
        Exception::InstructionAbort | Exception::DataAbort(Direction::Read) => FSC_EXTERNAL,
        Exception::DataAbort(Direction::Write) => FSC_EXTERNAL | ESR_WNR,
    };
    // AArch64.RouteToSErrorOffset.
    let offset = if exception.has_address() && control.sctlr2 & SCTLR2_EASE != 0 { SERROR } else { 0 };
    Entry { vector: vector | offset, pstate: handler_pstate(spsr, from, control), esr: class << 26 | ESR_IL | status }
}

/// PSTATE after AArch64.TakeException to EL1 (J1.1.2.35): built from zero, so that the following are 0, as in the
/// pseudocode: BTYPE, IL, SS, UAO, PACM, PPEND, UINJ, and IT and T of AArch32.
const fn handler_pstate(spsr: u64, from: Level, control: HostControl) -> u64 {
    let HostControl { sctlr, gcscr, pfr1, dfr1, mmfr1, .. } = control;
    // PAN of AArch32 is the same bit.
    let mut new = pstate::EL1H | pstate::DAIF | spsr & (pstate::NZCV | pstate::DIT | pstate::PAN);
    if is_implemented(mmfr1, MMFR1_PAN) && sctlr & SCTLR_SPAN == 0 {
        new |= pstate::PAN;
    }
    if is_implemented(pfr1, PFR1_SSBS) && sctlr & SCTLR_DSSBS != 0 {
        new |= pstate::SSBS;
    }
    if is_implemented(pfr1, PFR1_NMI) && sctlr & SCTLR_SPINTMASK == 0 {
        new |= pstate::ALLINT;
    }
    if is_implemented(pfr1, PFR1_MTE) {
        new |= pstate::TCO;
    }
    if is_implemented(dfr1, DFR1_EBEP) {
        new |= pstate::PM;
    }
    if matches!(from, Level::El1) && gcscr & GCSCR_EXLOCKEN != 0 {
        new |= pstate::EXLOCK;
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    const EL1H: u64 = 0x3c5;
    const READ: Exception = Exception::DataAbort(Direction::Read);
    const NONE: HostControl = HostControl { sctlr: 1 << 23, sctlr2: 0, gcscr: 0, pfr1: 0, dfr1: 0, mmfr1: 0 };
    /// Every feature that has a bit in PSTATE: SSBS, MTE, NMI, EBEP, PAN.
    const ALL: HostControl = HostControl { pfr1: 1 << 4 | 1 << 8 | 1 << 36, dfr1: 1 << 48, mmfr1: 1 << 20, ..NONE };

    fn pstate_of(spsr: u64, control: HostControl) -> u64 {
        enter(READ, spsr, control).pstate
    }

    #[test]
    fn a_data_abort_from_el1_uses_the_current_el_vector() {
        let entry = enter(READ, EL1H | 0xf << 28, NONE);
        assert_eq!(entry, Entry { vector: 0x200, pstate: 0x3c5 | 0xf << 28, esr: 0x25 << 26 | 1 << 25 | 0x10 });
        assert_eq!(enter(Exception::DataAbort(Direction::Write), EL1H, NONE).esr, 0x25 << 26 | 1 << 25 | 1 << 6 | 0x10);
    }

    #[test]
    fn from_el0_the_class_and_the_vector_are_the_lower_ones() {
        assert_eq!(enter(READ, 0, NONE).vector, 0x400);
        assert_eq!(enter(READ, 0, NONE).esr >> 26, 0x24);
        assert_eq!(enter(Exception::InstructionAbort, 0x10, NONE).vector, 0x600);
        assert_eq!(enter(Exception::InstructionAbort, 0x10, NONE).esr >> 26, 0x20);
        assert_eq!(enter(Exception::Undefined, 0b0100, NONE), Entry { vector: 0, pstate: EL1H, esr: 1 << 25 });
    }

    /// Without a feature its bit is RES0 in SPSR_EL2, for any content of the host's registers and the interrupted
    /// PSTATE.
    #[test]
    fn a_bit_whose_feature_is_absent_stays_zero() {
        let without = HostControl { pfr1: 0, dfr1: 0, mmfr1: 0, gcscr: 0, sctlr: 1 << 44, sctlr2: 0 };
        assert_eq!(pstate_of(EL1H, without), EL1H);
    }

    /// Each bit of the interrupted state alone: only NZCV, DIT and PAN are kept, as in TakeException.
    #[test]
    fn kept_bits_of_the_interrupted_pstate() {
        for bit in (5..64).filter(|bit| !(6..10).contains(bit)) {
            let kept = matches!(bit, 22 | 24 | 28..32);
            let expected = pstate_of(EL1H, NONE) | if kept { 1 << bit } else { 0 };
            assert_eq!(pstate_of(EL1H | 1 << bit, NONE), expected, "bit {bit}");
        }
    }

    /// AArch32 has IT in bits 26:25 and 15:10 (TCO, BTYPE and ALLINT in AArch64), and GE and Q in other bits: none of
    /// them is kept.
    #[test]
    fn kept_bits_of_an_interrupted_aarch32_pstate() {
        for control in [NONE, ALL] {
            for bit in (5..32).filter(|bit| !(6..10).contains(bit)) {
                let kept = matches!(bit, 22 | 24 | 28..32);
                let expected = pstate_of(0x10, control) | if kept { 1 << bit } else { 0 };
                assert_eq!(pstate_of(0x10 | 1 << bit, control), expected, "bit {bit}");
            }
        }
    }

    #[test]
    fn bits_that_are_set_on_entry() {
        let all = |sctlr| pstate_of(EL1H, HostControl { sctlr, ..ALL });
        let always = EL1H | 1 << 25 | 1 << 32;
        let (span, dssbs, spintmask) = (1 << 23, 1 << 44, 1 << 62);
        assert_eq!(all(span | spintmask), always);
        assert_eq!(all(span), always | 1 << 13);
        assert_eq!(all(spintmask), always | 1 << 22);
        assert_eq!(all(span | spintmask | dssbs), always | 1 << 12);
        // SCTLR_EL1.NMI controls the effect of ALLINT, not whether it is set.
        assert_eq!(all(span | 1 << 61), always | 1 << 13);
    }

    #[test]
    fn exlock_is_set_for_exceptions_from_el1_only() {
        let gcs = HostControl { gcscr: 1 << 6, ..NONE };
        assert_eq!(pstate_of(EL1H, gcs), EL1H | 1 << 34);
        assert_eq!((pstate_of(0, gcs), pstate_of(0x10, gcs)), (EL1H, EL1H));
    }

    #[test]
    fn external_aborts_use_the_serror_vector_with_ease() {
        let ease = HostControl { sctlr2: 1 << 5, ..NONE };
        let vectors =
            |spsr| [READ, Exception::InstructionAbort, Exception::Undefined].map(|e| enter(e, spsr, ease).vector);
        assert_eq!(vectors(EL1H), [0x380, 0x380, 0x200]);
        assert_eq!((vectors(0), vectors(0x10)), ([0x580, 0x580, 0x400], [0x780, 0x780, 0x600]));
    }
}
