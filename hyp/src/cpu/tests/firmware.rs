//! Registers that EL3 may trap: identified from the instruction, and documented.

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
    // Assembled: msr hcrx_el2, x0; msr zcr_el2, x1; mrs x2, mdscr_el1.
    let message = |instruction| Withheld::of(instruction).map(ToString::to_string).unwrap_or_default();
    assert_eq!(message(0xd51c_1240), "HCRX_EL2 is not accessible: EL3 must set SCR_EL3.HXEn");
    assert_eq!(message(0xd51c_1201), "ZCR_EL2 is not accessible: EL3 must set CPTR_EL3.EZ");
    assert_eq!(message(0xd530_0242), "MDSCR_EL1 is not accessible: EL3 must clear MDCR_EL3.TDA");
}

#[test]
fn other_instructions_match_no_row() {
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

/// The registers that `arch/setup.rs` and `arch/head.S` write by encoding are in the table with the same names. The
/// others have names in the assembler or the register crate.
#[test]
fn registers_that_are_written_by_encoding_have_the_tables_names() {
    let names = |text: &'static str, comment: &str| -> Vec<(String, &'static str)> {
        let encoded = text.lines().filter(|line| !line.contains("mrs ")).filter_map(|line| {
            let at = line.find("s3_")?;
            let encoding = line.get(at..)?.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next()?;
            let name = if comment.is_empty() { line.split('=').next()? } else { line.split(comment).nth(1)? };
            Some((name.split(':').next()?.trim().to_uppercase(), encoding))
        });
        encoded.collect()
    };
    let setup = names(include_str!("../../arch/setup.rs"), "");
    let head = names(include_str!("../../arch/head.S"), "//");
    assert!(setup.len() > 20 && head.len() > 8, "{} and {}", setup.len(), head.len());
    for (name, encoding) in setup.iter().chain(&head) {
        let row = TABLE.iter().find(|row| {
            let [op0, op1, crn, crm, op2] = row.encoding;
            *encoding == format!("s{op0}_{op1}_c{crn}_c{crm}_{op2}")
        });
        let known = row.is_some_and(|row| row.register == name || row.register == format!("{name}_EL2"));
        assert!(known, "{name} is {encoding}, in the table {:?}", row.map(|row| row.register));
    }
}

#[test]
fn the_page_lists_the_firmware_settings_of_the_table() {
    let page = include_str!("../../../../docs/boot.md");
    let mut settings: Vec<&str> = TABLE.iter().map(|row| row.el3_setting).collect();
    settings.dedup();
    for el3_setting in settings {
        let registers: Vec<String> = TABLE
            .iter()
            .filter(|row| row.el3_setting == el3_setting)
            .map(|row| format!("`{}`", row.register))
            .collect();
        let line = format!("| {el3_setting} | {} |", registers.join(", "));
        assert!(page.contains(&line), "docs/boot.md has no line\n{line}");
    }
}
