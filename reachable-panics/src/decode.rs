//! The subset of A64 needed for a call graph: control flow, address computation, overwritten registers.
//!
//! Encodings are those of Arm DDI 0487, C4.1 (M.a). An unknown instruction continues at the next one and overwrites
//! nothing, so a missing instruction can only make the graph larger.

/// Number of a general-purpose register; 31 is XZR or SP.
pub(crate) type Reg = u32;

/// Effect of one instruction on the graph.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Instruction {
    /// `B`: continues there only.
    Jump(u64),
    /// `B.cond`, `CBZ`, `CBNZ`, `TBZ`, `TBNZ`: continues there or at the next instruction.
    Either(u64),
    /// `BL`.
    Call(u64),
    /// `BLR`: calls the function whose address a register holds.
    CallRegister,
    /// `BR`: a jump table, or a tail call of the function whose address a register holds.
    JumpRegister,
    /// `RET`, `ERET`, `DRPS`.
    Return,
    /// `BRK`, `UDF`: an exception at EL2.
    Trap,
    /// `ADR`: the register holds this address.
    Address(Reg, u64),
    /// `ADRP`: the register holds the page of an address that a later instruction completes.
    Page(Reg, u64),
    /// `LDR` (literal): the register holds the doubleword at this address.
    Literal(Reg, u64),
    /// `ADD` (immediate): the first register holds the second plus this.
    Sum(Reg, Reg, u64),
    /// A load of the first register, at the second plus this.
    Load(Reg, Reg, u64),
    /// A store or a prefetch at the register plus this.
    Store(Reg, u64),
    /// `MOV`: the first register holds the second.
    Move(Reg, Reg),
    /// Overwrites the register with a non-address value.
    Overwrite(Reg),
    /// Anything else.
    Other,
}

/// Decodes the instruction `word` at address `pc`.
pub(crate) fn decode(word: u32, pc: u64) -> Instruction {
    use Instruction as I;
    let rd = bits(word, 0, 5);
    let rn = bits(word, 5, 5);
    if word >> 16 == 0 {
        return I::Trap; // UDF
    }
    match word >> 24 {
        0x14..=0x17 => I::Jump(target(pc, bits(word, 0, 26), 26)),
        0x94..=0x97 => I::Call(target(pc, bits(word, 0, 26), 26)),
        0x54 | 0x34 | 0x35 | 0xb4 | 0xb5 => I::Either(target(pc, bits(word, 5, 19), 19)),
        0x36 | 0x37 | 0xb6 | 0xb7 => I::Either(target(pc, bits(word, 5, 14), 14)),
        0xd4 if bits(word, 21, 3) == 1 => I::Trap, // BRK
        // With and without pointer authentication.
        0xd6 | 0xd7 => match bits(word, 21, 4) {
            0 | 8 => I::JumpRegister,
            1 | 9 => I::CallRegister,
            _ => I::Return,
        },
        0x58 => I::Literal(rd, target(pc, bits(word, 5, 19), 19)),
        _ if word & 0x1f00_0000 == 0x1000_0000 => {
            let imm = bits(word, 5, 19) << 2 | bits(word, 29, 2);
            if word >> 31 == 0 {
                I::Address(rd, pc.wrapping_add(signed(imm, 21)))
            } else {
                I::Page(rd, (pc & !0xfff).wrapping_add(signed(imm, 21) << 12))
            }
        }
        0x91 if word >> 23 & 1 == 0 => {
            I::Sum(rd, rn, u64::from(bits(word, 10, 12)) << if word >> 22 & 1 == 1 { 12 } else { 0 })
        }
        _ if word & 0x3b00_0000 == 0x3900_0000 => access(word, rd, rn),
        0xaa if word & 0x00e0_ffe0 == 0x0000_03e0 => I::Move(rd, bits(word, 16, 5)),
        _ if overwrites(word) => I::Overwrite(rd),
        _ => I::Other,
    }
}

/// The effect of an instruction on SP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stack {
    /// It does not change SP, or increases it.
    Keeps,
    /// It decreases SP by this number of bytes.
    Takes(u64),
    /// It writes a value to SP that the instruction does not contain.
    Unknown,
}

/// The effect of the instruction `word` on SP.
pub(crate) fn stack(word: u32) -> Stack {
    let (rd, rn) = (bits(word, 0, 5), bits(word, 5, 5));
    let immediate = u64::from(bits(word, 10, 12)) << if word >> 22 & 1 == 1 { 12 } else { 0 };
    let less = |value: u32, width| match signed(value, width).cast_signed() {
        offset @ ..0 => Stack::Takes(offset.unsigned_abs()),
        _ => Stack::Keeps,
    };
    match word >> 22 {
        // SUB and ADD (immediate): SP is changed, or restored from the frame pointer.
        0x344 | 0x345 if rd == 31 && rn == 31 => Stack::Takes(immediate),
        0x244 | 0x245 if rd == 31 && (rn == 31 || rn == 29) => Stack::Keeps,
        0x344 | 0x345 | 0x244 | 0x245 if rd == 31 => Stack::Unknown,
        // STP, pre-indexed or post-indexed, of general-purpose and vector registers.
        0x2a6 | 0x2a2 if rn == 31 => less(bits(word, 15, 7) << 3, 10),
        0x1b6 | 0x1b2 if rn == 31 => less(bits(word, 15, 7) << 3, 10),
        0x2b6 | 0x2b2 if rn == 31 => less(bits(word, 15, 7) << 4, 11),
        // STR, pre-indexed or post-indexed: bit 10 is 1 if the base register is written.
        _ if word & 0x3b20_0400 == 0x3800_0400 && rn == 31 => less(bits(word, 12, 9), 9),
        // ADD and SUB (extended register), AND, ORR and EOR (immediate).
        _ if word & 0xbfe0_0000 == 0x8b20_0000 && rd == 31 => Stack::Unknown,
        _ if word & 0x9f80_0000 == 0x9200_0000 && word >> 29 & 3 != 3 && rd == 31 => Stack::Unknown,
        _ => Stack::Keeps,
    }
}

/// Load or store with an unsigned offset.
fn access(word: u32, rd: Reg, rn: Reg) -> Instruction {
    let (size, vector, opc) = (word >> 30, word >> 26 & 1 == 1, bits(word, 22, 2));
    let scale = if vector && opc >= 2 { 4 } else { size };
    let offset = u64::from(bits(word, 10, 12)) << scale;
    let prefetch = size == 3 && opc == 2;
    if opc == 0 || vector || prefetch { Instruction::Store(rn, offset) } else { Instruction::Load(rd, rn, offset) }
}

/// Data processing that writes register `word[4:0]`: immediate forms other than those above, and register forms.
fn overwrites(word: u32) -> bool {
    let immediate = word & 0x1c00_0000 == 0x1000_0000;
    let logical_or_sum = word & 0x1e00_0000 == 0x0a00_0000;
    // MOVK keeps the bits that it does not write.
    let keeps = word & 0x7f80_0000 == 0x7280_0000;
    (immediate || logical_or_sum) && !keeps
}

fn bits(word: u32, from: u32, count: u32) -> u32 {
    word >> from & ((1 << count) - 1)
}

/// The two's complement number in the low `width` bits.
fn signed(value: u32, width: u32) -> u64 {
    let shift = 64 - width;
    ((u64::from(value) << shift).cast_signed() >> shift).cast_unsigned()
}

fn target(pc: u64, words: u32, width: u32) -> u64 {
    pc.wrapping_add(signed(words, width) << 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Instruction as I;

    const PC: u64 = 0x4020_1000;

    /// LLVM's encodings of the instructions in the comments.
    #[test]
    fn instructions_are_decoded() {
        for (word, expected) in [
            (0x1400_0002, I::Jump(PC + 8)),         // b .+8
            (0x17ff_ffff, I::Jump(PC - 4)),         // b .-4
            (0x9400_0400, I::Call(PC + 0x1000)),    // bl .+0x1000
            (0x5400_0041, I::Either(PC + 8)),       // b.ne .+8
            (0xb4ff_ffe0, I::Either(PC - 4)),       // cbz x0, .-4
            (0x3500_0043, I::Either(PC + 8)),       // cbnz w3, .+8
            (0x3600_0041, I::Either(PC + 8)),       // tbz w1, #0, .+8
            (0xb7f7_ffe1, I::Either(PC - 4)),       // tbnz x1, #62, .-4
            (0xd63f_0100, I::CallRegister),         // blr x8
            (0xd61f_0140, I::JumpRegister),         // br x10
            (0xd65f_03c0, I::Return),               // ret
            (0xd69f_03e0, I::Return),               // eret
            (0xd420_0020, I::Trap),                 // brk #1
            (0x0000_0000, I::Trap),                 // udf #0
            (0xd45e_0000, I::Other),                // hlt #0xf000
            (0xd400_0002, I::Other),                // hvc #0
            (0x1000_0041, I::Address(1, PC + 8)),   // adr x1, .+8
            (0xb000_0001, I::Page(1, PC + 0x1000)), // adrp x1, .+0x1000
            (0xf0ff_ffe1, I::Page(1, PC - 0x1000)), // adrp x1, .-0x1000
            (0x5800_0042, I::Literal(2, PC + 8)),   // ldr x2, .+8
            (0x9104_0020, I::Sum(0, 1, 0x100)),     // add x0, x1, #0x100
            (0x9140_0420, I::Sum(0, 1, 0x1000)),    // add x0, x1, #1, lsl #12
            (0xf940_0c20, I::Load(0, 1, 0x18)),     // ldr x0, [x1, #24]
            (0x3940_0c20, I::Load(0, 1, 3)),        // ldrb w0, [x1, #3]
            (0xf900_0c20, I::Store(1, 0x18)),       // str x0, [x1, #24]
            (0xf980_0020, I::Store(1, 0)),          // prfm pldl1keep, [x1]
            (0xaa08_03e0, I::Move(0, 8)),           // mov x0, x8
            (0xd280_0020, I::Overwrite(0)),         // mov x0, #1
            (0xf280_0020, I::Other),                // movk x0, #1
            (0x8b02_0020, I::Overwrite(0)),         // add x0, x1, x2
            (0xfa40_0820, I::Other),                // ccmp x1, #0, #0, eq
            (0xa940_0420, I::Other),                // ldp x0, x1, [x1]
            (0xd503_201f, I::Other),                // nop
        ] {
            assert_eq!(decode(word, PC), expected, "{word:#x}");
        }
    }

    /// LLVM's encodings of the instructions in the comments.
    #[test]
    fn changes_of_sp_are_decoded() {
        use Stack as S;
        for (word, expected) in [
            (0xd100_43ff, S::Takes(16)),     // sub sp, sp, #16
            (0xd140_07ff, S::Takes(0x1000)), // sub sp, sp, #1, lsl #12
            (0xa9bf_7bfd, S::Takes(16)),     // stp x29, x30, [sp, #-16]!
            (0xa9b9_5ff8, S::Takes(112)),    // stp x24, x23, [sp, #-112]!
            (0xf81e_0ffe, S::Takes(32)),     // str x30, [sp, #-32]!
            (0x6dbf_27e8, S::Takes(16)),     // stp d8, d9, [sp, #-16]!
            (0xadbf_07e0, S::Takes(32)),     // stp q0, q1, [sp, #-32]!
            (0x9100_43ff, S::Keeps),         // add sp, sp, #16
            (0x9100_03bf, S::Keeps),         // mov sp, x29
            (0xa8c1_7bfd, S::Keeps),         // ldp x29, x30, [sp], #16
            (0xf842_07fe, S::Keeps),         // ldr x30, [sp], #32
            (0xd100_43a0, S::Keeps),         // sub x0, x29, #16
            (0xa900_7bfd, S::Keeps),         // stp x29, x30, [sp]
            (0xf900_03e0, S::Keeps),         // str x0, [sp]
            (0xcb29_63ff, S::Unknown),       // sub sp, sp, x9
            (0x8b29_63ff, S::Unknown),       // add sp, sp, x9
            (0x927c_ed3f, S::Unknown),       // and sp, x9, #0xfffffffffffffff0
            (0x9100_013f, S::Unknown),       // mov sp, x9
            (0xf27c_ed3f, S::Keeps),         // tst x9, #0xfffffffffffffff0
        ] {
            assert_eq!(stack(word), expected, "{word:#x}");
        }
    }
}
