//! Registers that EL3 may withhold: found from the instruction, and documented.

use super::super::withheld::{TABLE, Withheld};
use std::{format, string::String, string::ToString, vec::Vec};

/// `MSR <register>, X3` (or `MRS`): DDI 0487, C5.6.
fn access([op0, op1, crn, crm, op2]: [u32; 5], read: u32) -> u32 {
    0xd500_0000 | read << 21 | 1 << 20 | (op0 & 1) << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | 3
}

#[test]
fn every_register_is_named_from_the_instruction_that_was_refused() {
    for row in TABLE {
        for read in [0, 1] {
            assert_eq!(Withheld::of(access(row.encoding, read)), Some(row));
        }
    }
    // As an assembler writes them: msr hcrx_el2, x0; msr zcr_el2, x1; mrs x2, mdscr_el1.
    let said = |instruction| Withheld::of(instruction).map(ToString::to_string).unwrap_or_default();
    assert_eq!(said(0xd51c_1240), "HCRX_EL2 is not accessible: EL3 must set SCR_EL3.HXEn");
    assert_eq!(said(0xd51c_1201), "ZCR_EL2 is not accessible: EL3 must set CPTR_EL3.EZ");
    assert_eq!(said(0xd530_0242), "MDSCR_EL1 is not accessible: EL3 must clear MDCR_EL3.TDA");
}

#[test]
fn other_instructions_are_no_register_of_the_table() {
    // msr vbar_el2, x0; a load; a branch; udf; dsb sy; msr daifset; sys (tlbi alle2); all ones.
    for instruction in
        [0xd51c_c000, 0xf940_0000, 0x1400_0000, 0, 0xd503_3f9f, 0xd503_4fdf, 0xd50c_871f, 0xffff_ffff_u32]
    {
        assert_eq!(Withheld::of(instruction), None, "{instruction:#x}");
    }
}

#[test]
fn rows_name_each_register_once() {
    for row in TABLE {
        let same = TABLE.iter().filter(|other| other.encoding == row.encoding || other.register == row.register);
        assert_eq!(same.count(), 1, "{}", row.register);
    }
}

#[test]
fn the_page_lists_what_the_table_asks_of_firmware() {
    let page = include_str!("../../../../docs/boot.md");
    let mut duties: Vec<&str> = TABLE.iter().map(|row| row.duty).collect();
    duties.dedup();
    for duty in duties {
        let registers: Vec<String> =
            TABLE.iter().filter(|row| row.duty == duty).map(|row| format!("`{}`", row.register)).collect();
        let line = format!("| {duty} | {} |", registers.join(", "));
        assert!(page.contains(&line), "docs/boot.md has no line\n{line}");
    }
}
