//! Compares the table of events in docs/smmu-emulation.md with [`convert`](super::convert), for every type, stage and
//! CLASS.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

use super::*;
use std::vec::Vec;

const PAGE: &str = include_str!("../../../../../docs/smmu-emulation.md");

/// Cells of a row: type, event, stage, CLASS, host's record.
type Row = [&'static str; 5];

fn rows() -> Vec<Row> {
    let section = PAGE.split("\n## Events\n").nth(1).expect("the section");
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        core::array::from_fn(|_| cells.next().expect("six cells"))
    };
    table.skip(2).map(cells).collect()
}

/// A record of this type, stage and CLASS with every other bit as in `rest`.
fn record(kind: u64, s2: u64, class: u64, rest: u64) -> FaultRecord {
    let set = |word: u64, field, value| word & !mask64(field) | put64(field, value);
    let word1 = set(set(rest, ev::S2, s2), ev::CLASS, class);
    FaultRecord::decode(RawEvent([set(rest, ev::ID, kind), word1, rest, rest]))
}

/// How the host's record is created.
#[derive(PartialEq)]
enum Shown {
    Same,
    /// From a stage-2 fault of a fetch.
    Converted,
}

/// The host's record of `kind`, from the fields that the architecture defines for it [S 7.3], written independently.
fn expected(kind: EventType, RawEvent(raw): RawEvent, shown: Shown) -> [u64; 4] {
    const NOT_IDENTITY: u64 = 0x7ff;
    const PNU_IND_RNW: u64 = 7 << 33;
    const CLASS: u64 = 3 << 40;
    const FETCH_ADDR: u64 = 0x00ff_ffff_ffff_fff8;
    const IPA: u64 = 0x00ff_ffff_ffff_f000;
    let word0 = raw[0] & !NOT_IDENTITY | raw[0] & 1 << 11 | kind.bits();
    let fetched = if shown == Shown::Same { raw[3] & FETCH_ADDR } else { raw[3] & IPA };
    match kind {
        EventType::StreamDisabled | EventType::BadSubstreamId | EventType::BadCd => [word0, 0, 0, 0],
        EventType::Uut => [word0, raw[1] & PNU_IND_RNW, raw[2], 0],
        EventType::CdFetch => [word0, 0, 0, fetched],
        EventType::WalkEabt if shown == Shown::Converted => [word0, raw[1] & PNU_IND_RNW | 1 << 40, raw[2], fetched],
        EventType::WalkEabt => [word0, raw[1] & (PNU_IND_RNW | CLASS), raw[2], fetched],
        _ => [word0, raw[1] & (PNU_IND_RNW | CLASS), raw[2], 0],
    }
}

/// The table's text for the conversion of `record`.
fn shown(record: &FaultRecord) -> &'static str {
    match convert(record, 0) {
        HostEvent::Hidden => "none",
        HostEvent::Configuration => "by the host's table",
        HostEvent::Show(RawEvent(words)) => {
            let kind = EventType::from_bits(words[0] & 0xff).expect("a known type");
            let same = record.kind == Some(kind);
            assert_eq!(
                words,
                expected(kind, record.raw, if same { Shown::Same } else { Shown::Converted }),
                "{record:?}"
            );
            if same { "same" } else { kind.name() }
        }
    }
}

#[test]
fn the_event_table_agrees_with_the_code() {
    let rows = rows();
    let stages = ["1", "2"];
    let classes = ["CD", "TT", "IN", "reserved"];
    let mut used = Vec::new();
    // Undefined types would take minutes under Miri.
    let types = (0..=255_u64).filter(|kind| !cfg!(miri) || EventType::from_bits(*kind).is_some() || kind % 50 == 0);
    for kind in types {
        for (s2, stage) in (0_u64..).zip(stages) {
            for (class, class_name) in (0_u64..).zip(classes) {
                let covers = |cell: &str, name: &str| cell == "any" || cell == name;
                let number = |row: &Row| u64::from_str_radix(row[0].trim_start_matches("0x"), 16) == Ok(kind);
                let fits = |row: &Row| number(row) && covers(row[2], stage) && covers(row[3], class_name);
                let row = rows.iter().position(fits);
                used.extend(row);
                for rest in [0, u64::MAX, 0x5a5a_a5a5_3c3c_c3c3] {
                    let record = record(kind, s2, class, rest);
                    let expected = row.map_or("none", |row| rows[row][4]);
                    assert_eq!(shown(&record), expected, "type {kind:#x}, stage {stage}, CLASS {class_name}");
                }
            }
        }
        if let Some(defined) = EventType::from_bits(kind) {
            let named = rows.iter().any(|row| row[1] == defined.name() && row[0] == std::format!("{kind:#04x}"));
            assert!(named, "{} is not on the page", defined.name());
        }
    }
    // No row is covered by earlier rows.
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), rows.len());
}
