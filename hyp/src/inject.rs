//! Exceptions that EL2 injects into the host: the architecture's answer to an access that has none.
//!
//! Pure: from the interrupted state to the state in which the host's handler starts (Arm ARM DDI 0487, issue L.a, D1.3
//! "Exceptions" and AArch64.TakeException).

/// What the host finds in EL1's exception registers, and where it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Offset from `VBAR_EL1`.
    pub vector: u64,
    /// PSTATE of the handler, for `SPSR_EL2`.
    pub pstate: u64,
    /// Syndrome, for `ESR_EL1`.
    pub esr: u64,
}

/// Which exception to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Synchronous external abort of a data access.
    DataAbort,
    /// Synchronous external abort of an instruction fetch.
    InstructionAbort,
    /// Undefined Instruction (class 0).
    Undefined,
}

/// `SCTLR_EL1` of the host, for the PSTATE bits that it decides at exception entry.
#[derive(Clone, Copy, Debug)]
pub struct HostControl(pub u64);

const PSTATE_EL1H: u64 = 0b0101;
const PSTATE_DAIF: u64 = 0xf << 6;
const PSTATE_SSBS: u64 = 1 << 12;
const PSTATE_ALLINT: u64 = 1 << 13;
const PSTATE_PAN: u64 = 1 << 22;
const PSTATE_DIT: u64 = 1 << 24;
const PSTATE_TCO: u64 = 1 << 25;
const PSTATE_NZCV: u64 = 0xf << 28;
const PSTATE_AARCH32: u64 = 1 << 4;

const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;
const SCTLR_NMI: u64 = 1 << 61;
const SCTLR_SPINTMASK: u64 = 1 << 62;

const ESR_IL: u64 = 1 << 25;
/// Synchronous external abort, not on a table walk.
const FSC_EXTERNAL: u64 = 0b01_0000;

/// State in which the host's handler starts, for an exception taken from `spsr` (the interrupted PSTATE).
#[must_use]
pub const fn enter(exception: Exception, spsr: u64, control: HostControl) -> Entry {
    let from_el0 = spsr & 0b1100 == 0;
    let aarch32 = spsr & PSTATE_AARCH32 != 0;
    let vector = match (aarch32, from_el0, spsr & 1 != 0) {
        (true, _, _) => 0x600,
        (false, true, _) => 0x400,
        (false, false, true) => 0x200,
        (false, false, false) => 0x000,
    };
    let class: u64 = match (exception, from_el0 || aarch32) {
        (Exception::Undefined, _) => 0x00,
        (Exception::InstructionAbort, true) => 0x20,
        (Exception::InstructionAbort, false) => 0x21,
        (Exception::DataAbort, true) => 0x24,
        (Exception::DataAbort, false) => 0x25,
    };
    let status = match exception {
        Exception::Undefined => 0,
        Exception::DataAbort | Exception::InstructionAbort => FSC_EXTERNAL,
    };
    let mut pstate = PSTATE_EL1H | PSTATE_DAIF | (spsr & (PSTATE_NZCV | PSTATE_DIT | PSTATE_PAN));
    if control.0 & SCTLR_SPAN == 0 {
        pstate |= PSTATE_PAN;
    }
    if control.0 & SCTLR_DSSBS != 0 {
        pstate |= PSTATE_SSBS;
    }
    if control.0 & SCTLR_NMI != 0 && control.0 & SCTLR_SPINTMASK == 0 {
        pstate |= PSTATE_ALLINT;
    }
    // Tag checks are off in the handler until it turns them on (TCO); RES0 without FEAT_MTE, where SPSR ignores it.
    pstate |= spsr & PSTATE_TCO;
    Entry { vector, pstate, esr: class << 26 | ESR_IL | status }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EL1H: u64 = 0x3c5;

    #[test]
    fn a_data_abort_from_el1_lands_in_the_current_el_vector() {
        let entry = enter(Exception::DataAbort, EL1H | PSTATE_NZCV, HostControl(SCTLR_SPAN));
        assert_eq!(entry, Entry { vector: 0x200, pstate: 0x3c5 | PSTATE_NZCV, esr: 0x25 << 26 | 1 << 25 | 0x10 });
    }

    #[test]
    fn from_el0_the_class_and_the_vector_are_the_lower_ones() {
        assert_eq!(enter(Exception::DataAbort, 0, HostControl(0)).vector, 0x400);
        assert_eq!(enter(Exception::DataAbort, 0, HostControl(0)).esr >> 26, 0x24);
        assert_eq!(enter(Exception::InstructionAbort, 0x10, HostControl(0)).vector, 0x600);
        assert_eq!(enter(Exception::InstructionAbort, 0x10, HostControl(0)).esr >> 26, 0x20);
        assert_eq!(enter(Exception::Undefined, 0b0100, HostControl(0)).vector, 0);
    }

    #[test]
    fn pan_is_set_unless_the_host_keeps_it() {
        assert_ne!(enter(Exception::DataAbort, EL1H, HostControl(0)).pstate & PSTATE_PAN, 0);
        assert_eq!(enter(Exception::DataAbort, EL1H, HostControl(SCTLR_SPAN)).pstate & PSTATE_PAN, 0);
        assert_ne!(enter(Exception::DataAbort, EL1H, HostControl(SCTLR_DSSBS)).pstate & PSTATE_SSBS, 0);
    }

    #[test]
    fn single_step_and_btype_are_dropped() {
        let entry = enter(Exception::DataAbort, EL1H | 1 << 21 | 0b11 << 10, HostControl(SCTLR_SPAN));
        assert_eq!(entry.pstate, EL1H);
    }
}
