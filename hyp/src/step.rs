//! Skipping an instruction that EL2 has emulated for the host, or that must have no effect.
//!
//! Pure. AArch64 has a fast path in the trap handler; AArch32 has instructions of two lengths, and conditions.
//! Arm ARM DDI 0487, issue L.a: J1.2.3.81 "AArch32.ITAdvance", C5.2.19 and G8.2 for the two layouts of the saved state.

/// Program counter and PSTATE of the interrupted code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// `ELR_EL2`.
    pub pc: u64,
    /// `SPSR_EL2`.
    pub pstate: u64,
}

/// PSTATE of AArch64 after a step: BTYPE, the software-step state and PACM are cleared.
const AARCH64_CLEARS: u64 = 0b11 << 10 | SS | 1 << 35;
const SS: u64 = 1 << 21;
const AARCH32: u64 = 1 << 4;
const AARCH32_E: u64 = 1 << 9;
const EL: u64 = 0b1100;
/// `ESR_EL2.IL`: the instruction had 32 bits.
const ESR_IL: u64 = 1 << 25;
/// `ESR_EL2.CV` and `COND` of a trapped AArch32 instruction.
const ESR_CV: u64 = 1 << 24;
const ESR_COND: u32 = 20;

/// `IT[1:0]` and `IT[7:2]` in the saved PSTATE of AArch32.
const IT_LOW: u32 = 25;
const IT_HIGH: u32 = 10;
const IT_MASK: u64 = 0b11 << IT_LOW | 0x3f << IT_HIGH;

/// Whether the state is one of AArch32.
#[must_use]
#[inline]
pub const fn is_aarch32(pstate: u64) -> bool {
    pstate & AARCH32 != 0
}

/// The state at the next instruction, after an AArch64 instruction.
#[must_use]
#[inline]
pub const fn over_aarch64(at: State) -> State {
    State { pc: at.pc.wrapping_add(4), pstate: at.pstate & !AARCH64_CLEARS }
}

/// The state at the next instruction, after an AArch32 instruction whose exception has the syndrome `esr`.
#[must_use]
pub const fn over_aarch32(esr: u64, at: State) -> State {
    let length = if esr & ESR_IL != 0 { 4 } else { 2 };
    let it = advanced(it(at.pstate));
    let it = (it & 0b11) << IT_LOW | (it >> 2) << IT_HIGH;
    // The program counter of AArch32 has 32 bits.
    State { pc: at.pc.wrapping_add(length) & 0xffff_ffff, pstate: at.pstate & !(IT_MASK | SS) | it }
}

const fn it(pstate: u64) -> u64 {
    pstate >> IT_LOW & 0b11 | (pstate >> IT_HIGH & 0x3f) << 2
}

/// AArch32.ITAdvance.
const fn advanced(it: u64) -> u64 {
    if it & 0b111 == 0 { 0 } else { it & 0xe0 | (it << 1) & 0x1f }
}

/// Order of the bytes of a data access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endianness {
    /// The least significant byte first, as device registers are.
    Little,
    /// The most significant byte first.
    Big,
}

const SCTLR_EE: u64 = 1 << 25;
const SCTLR_E0E: u64 = 1 << 24;

/// Whether an access was by AArch64 code on a host that is little-endian at EL1 and EL0: one test, which is true for
/// nearly all accesses.
#[must_use]
#[inline]
pub const fn is_plain(pstate: u64, sctlr: u64) -> bool {
    (pstate & AARCH32) | (sctlr & (SCTLR_EE | SCTLR_E0E)) == 0
}

/// The byte order of the code interrupted with `pstate`, with the host's `SCTLR_EL1` (BigEndian, J1.3).
#[must_use]
pub const fn endianness(pstate: u64, sctlr: u64) -> Endianness {
    let big = if is_aarch32(pstate) {
        pstate & AARCH32_E != 0
    } else if pstate & EL == 0 {
        sctlr & SCTLR_E0E != 0
    } else {
        sctlr & SCTLR_EE != 0
    };
    if big { Endianness::Big } else { Endianness::Little }
}

/// Condition check of a trapped instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The condition is true, or the instruction has none.
    Passed,
    /// The condition is false: a core may still trap the instruction, but it must have no effect.
    Failed,
}

/// The condition of the AArch32 instruction that trapped with syndrome `esr` in state `pstate`; always passed for AArch64 and for
/// exceptions that only an executed instruction causes.
#[must_use]
pub const fn condition(esr: u64, pstate: u64) -> Condition {
    let class = esr >> 26 & 0x3f;
    // WFx, the coprocessor accesses, SVE and floating point, and SMC: the classes whose syndrome has a condition (D24.2.46).
    let has_condition = matches!(class, 0x01 | 0x03..=0x08 | 0x0c | 0x13);
    if !is_aarch32(pstate) || !has_condition {
        return Condition::Passed;
    }
    let cond = match (esr & ESR_CV != 0, it(pstate)) {
        (true, _) => esr >> ESR_COND & 0xf,
        // Trapped from T32 without its condition: that of the IT block, or none.
        (false, 0) => 0b1110,
        (false, it) => it >> 4,
    };
    if holds(cond, pstate) { Condition::Passed } else { Condition::Failed }
}

/// ConditionHolds (J1.3).
const fn holds(cond: u64, pstate: u64) -> bool {
    let (n, z) = (pstate >> 31 & 1 != 0, pstate >> 30 & 1 != 0);
    let (c, v) = (pstate >> 29 & 1 != 0, pstate >> 28 & 1 != 0);
    let base = match cond >> 1 {
        0b000 => z,
        0b001 => c,
        0b010 => n,
        0b011 => v,
        0b100 => c && !z,
        0b101 => n == v,
        0b110 => n == v && !z,
        _ => return true,
    };
    base == (cond & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER_T32: u64 = 0x10 | 1 << 5;
    const WIDE: u64 = 1 << 25;
    const DABT: u64 = 0x24 << 26;

    fn with_it(it: u64) -> u64 {
        USER_T32 | (it & 3) << 25 | (it >> 2) << 10
    }

    #[test]
    fn the_instruction_length_is_taken_from_the_syndrome() {
        let at = State { pc: 0x1_0002, pstate: USER_T32 };
        assert_eq!(over_aarch32(DABT, at), State { pc: 0x1_0004, ..at });
        assert_eq!(over_aarch32(DABT | WIDE, at), State { pc: 0x1_0006, ..at });
        assert_eq!(over_aarch32(DABT, State { pc: 0xffff_fffe, ..at }).pc, 0);
    }

    /// IT block encodings: ITTEE EQ is 0x03 with the condition 0000 above, and so on.
    #[test]
    fn an_it_block_advances_by_one_instruction() {
        let next = |it| over_aarch32(DABT, State { pc: 0, pstate: with_it(it) }).pstate;
        // ITE EQ: the second instruction has NE and is the last one.
        assert_eq!(next(0b0000_1100), with_it(0b0001_1000));
        assert_eq!(next(0b0001_1000), with_it(0));
        // ITETE GE: GE, LT, GE, LT.
        let mut it = 0b1010_1011;
        for expected in [0b1011_0110, 0b1010_1100, 0b1011_1000, 0] {
            assert_eq!(next(it), with_it(expected));
            it = expected;
        }
    }

    #[test]
    fn stepping_aarch32_clears_only_the_step_state() {
        // GE, Q, E, A, I, F, NZCV, PAN, SSBS, DIT.
        let other = 0xf << 16 | 1 << 27 | 0xf << 6 | 0xf << 28 | 1 << 22 | 1 << 23 | 1 << 24;
        let at = State { pc: 8, pstate: USER_T32 | other | 1 << 21 };
        assert_eq!(over_aarch32(DABT, at).pstate, USER_T32 | other);
    }

    #[test]
    fn stepping_aarch64_clears_btype_pacm_and_the_step_state() {
        let at = State { pc: u64::MAX - 3, pstate: 0x3c5 | 0b11 << 10 | 1 << 21 | 1 << 35 | 1 << 25 | 0xf << 28 };
        assert_eq!(over_aarch64(at), State { pc: 0, pstate: 0x3c5 | 1 << 25 | 0xf << 28 });
    }

    #[test]
    fn a_trapped_instruction_whose_condition_fails_is_detected() {
        let mcr = 0x03 << 26 | WIDE;
        let (eq, ne) = (1 << 24, 1 << 24 | 1 << 20);
        let z = 1 << 30;
        assert_eq!(condition(mcr | eq, 0x10 | z), Condition::Passed);
        assert_eq!(condition(mcr | eq, 0x10), Condition::Failed);
        assert_eq!(condition(mcr | ne, 0x10 | z), Condition::Failed);
        // Without COND the IT block decides: ITE EQ.
        assert_eq!(condition(mcr, with_it(0b0000_1100)), Condition::Failed);
        assert_eq!(condition(mcr, with_it(0b0000_1100) | z), Condition::Passed);
        assert_eq!(condition(mcr, USER_T32), Condition::Passed);
        // AArch64, and classes without a condition.
        assert_eq!(condition(mcr | eq, 0x3c5), Condition::Passed);
        assert_eq!(condition(DABT | 1 << 24, 0x10), Condition::Passed);
    }

    #[test]
    fn each_level_has_its_own_byte_order() {
        let (little, big) = (Endianness::Little, Endianness::Big);
        let orders = |pstate| [0, SCTLR_EE, SCTLR_E0E, SCTLR_EE | SCTLR_E0E].map(|sctlr| endianness(pstate, sctlr));
        assert_eq!(orders(0x3c5), [little, big, little, big]);
        assert_eq!(orders(0x3c0), [little, little, big, big]);
        assert_eq!(orders(USER_T32), [little; 4]);
        assert_eq!(orders(USER_T32 | 1 << 9), [big; 4]);
        assert!(is_plain(0x3c5, 0x30d0_0800) && is_plain(0, 0));
        for (pstate, sctlr) in [(0x3c5, SCTLR_EE), (0x3c5, SCTLR_E0E), (USER_T32, 0)] {
            assert!(!is_plain(pstate, sctlr));
        }
    }

    /// Each condition compared with the table in C1.2.4, for all 16 flag values.
    #[test]
    fn conditions_match_the_architectures_table() {
        for flags in 0..16_u64 {
            let (n, z, c, v) = (flags & 8 != 0, flags & 4 != 0, flags & 2 != 0, flags & 1 != 0);
            let expected =
                [z, !z, c, !c, n, !n, v, !v, c && !z, !c || z, n == v, n != v, n == v && !z, n != v || z, true, true];
            for (cond, expected) in (0..16).zip(expected) {
                assert_eq!(holds(cond, flags << 28), expected, "condition {cond:#x} with NZCV {flags:#06b}");
            }
        }
    }
}
