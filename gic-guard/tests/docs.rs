//! Compares the tables of docs/gic-emulation.md with the code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use gic_guard::budget::{CHARGES, TRAP};
use gic_guard::emul::decide::{CommandView, Ignored, decide};
use gic_guard::emul::{Width, gicr, gits};
use gic_guard::limits;
use gic_guard::spec::commands::{Opcode, RawCmd};

const DOC: &str = include_str!("../../docs/gic-emulation.md");

/// Rows of the table below `heading`, as trimmed cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = DOC.split(heading).nth(1).expect(heading);
    section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect())
        .collect()
}

/// A register of the code, formatted as a row of the page.
fn row(name: String, offset: u32, width: Width, read: &str, write: &str) -> Vec<String> {
    let bits = if width == Width::Bits32 { "32" } else { "64" };
    vec![name.to_uppercase(), format!("{offset:#07x}"), bits.into(), read.into(), write.into()]
}

#[test]
fn the_register_tables_agree_with_the_code() {
    let code: Vec<_> = gits::Register::ROWS.iter().map(|(n, o, w, r, s)| row(format!("{n:?}"), *o, *w, r, s)).collect();
    assert_eq!(table("\n## ITS registers\n"), code);
    let code: Vec<_> = gicr::Register::ROWS.iter().map(|(n, o, w, r, s)| row(format!("{n:?}"), *o, *w, r, s)).collect();
    assert_eq!(table("\n## Redistributor registers\n"), code);
}

#[test]
fn the_command_table_agrees_with_the_code() {
    let view = CommandView { devices: 16, event_bits: 8, collections: 16, intids: 0x1_0000 };
    let rows = table("\n## Commands\n");
    for opcode in 0..=255_u64 {
        let documented = rows.iter().find(|row| row[0] == format!("{opcode:#04x}"));
        let known = Opcode::from_bits(opcode);
        assert_eq!(documented.map(|row| row[1].to_lowercase()), known.map(|known| format!("{known:?}").to_lowercase()));
        // EventID and INTID are 8192.
        let answer = match decide(RawCmd([opcode, 8192 << 32 | 8192, 0, 0]), &view) {
            Ok(_) => "executed",
            Err(Ignored::Hidden) => "hidden, ignored",
            Err(Ignored::Reserved) => "reserved",
            Err(other) => panic!("{opcode:#x}: {other:?}"),
        };
        assert_eq!(documented.map_or("reserved", |row| row[2].as_str()), answer, "{opcode:#x}");
    }
}

#[test]
fn the_limits_agree_with_the_code() {
    let code = [
        ("MAX_ITS", limits::MAX_ITS as u64),
        ("MAX_RDS", limits::MAX_RDS as u64),
        ("MAX_DEVICES", limits::MAX_DEVICES as u64),
        ("MAX_EVENT_BITS", limits::MAX_EVENT_BITS.into()),
        ("MAX_COLLECTIONS", limits::MAX_COLLECTIONS.into()),
        ("MAX_INTID_BITS", limits::MAX_INTID_BITS.into()),
        ("MAX_L2_TABLES", limits::MAX_L2_TABLES as u64),
        ("MAX_FLAT_TABLE", limits::MAX_FLAT_TABLE),
        ("MAX_DEVICE_BYTES", limits::MAX_DEVICE_BYTES as u64),
    ];
    let rows = table("\n## Limits\n");
    let code: Vec<_> = code.iter().map(|(name, value)| [format!("`{name}`"), value.to_string()]).collect();
    let page: Vec<_> = rows.iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
    assert_eq!(page, code);
}

#[test]
fn the_trap_budget_agrees_with_the_code() {
    assert!(DOC.contains(&format!("A trap has a budget of {TRAP} units.")));
    let rows = table("\n## Per-trap budget\n");
    assert_eq!(rows.len(), CHARGES.len());
    for (row, (work, units, most)) in rows.iter().zip(CHARGES) {
        assert_eq!(row[..3], [work.to_string(), units.to_string(), most.to_string()]);
    }
}
