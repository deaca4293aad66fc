//! The table of errata in docs/smmu-emulation.md against the code, and what the code does about each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Board, Rig, firmware, r};
use smmu_drv::errata::{Answer, ERRATA, Revisions};
use smmu_drv::{Coherency, Features, HostIds, IdRegisters, MsiAdvert, Platform, ProbeError, Probed};
use smmu_model::Config;

const PAGE: &str = include_str!("../../docs/smmu-emulation.md");

/// Rows of the table, as trimmed cells.
fn rows() -> Vec<[&'static str; 6]> {
    let section = PAGE.split("\n## Known parts and their errata\n").nth(1).expect("the section");
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        core::array::from_fn(|_| cells.next().expect("six cells"))
    };
    table.skip(2).map(cells).collect()
}

fn words(revisions: Revisions) -> String {
    match revisions {
        Revisions::Before((major, minor)) => format!("before r{major}p{minor}"),
        Revisions::Between(first, last) => format!("r{}p{} to r{}p{}", first.0, first.1, last.0, last.1),
        Revisions::All => "all".to_string(),
    }
}

fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Refused => "refused at probe",
        Answer::WakeUpHidden => "SEV is never shown",
        Answer::BroadcastOff => "BTM is never shown, CR2.PTM = 1",
    }
}

#[test]
fn the_errata_table_is_the_codes() {
    let rows = rows();
    assert_eq!(rows.len(), ERRATA.len());
    for ([part, product, revisions, numbers, _, here], erratum) in rows.into_iter().zip(ERRATA) {
        assert_eq!(part, erratum.part);
        assert_eq!(product, format!("{:#x}", erratum.product), "{part}");
        assert_eq!(revisions, words(erratum.revisions), "{part}");
        assert_eq!(numbers, erratum.numbers, "{part}");
        assert_eq!(here, answer(erratum.answer), "{part}");
    }
}

#[test]
fn exactly_the_revisions_that_break_nesting_are_refused() {
    // From the numbers of IIDR, apart from the code: MMU-600 before r2p0, MMU-700 before r1p1.
    for (product, mended) in [(0x483, (2, 0)), (0x487, (1, 1)), (0x48a, (0, 0))] {
        for revision in (0..4).flat_map(|major| (0..4).map(move |minor| (major, minor))) {
            let iidr = product << 20 | revision.0 << 16 | revision.1 << 12 | 0x43b;
            let probe = |iidr| {
                let config = Config { iidr, ..Config::qemu() };
                Probed::probe(Board::new(config.clone()), firmware(&config)).err()
            };
            let expected = (revision < mended).then_some(ProbeError::NestingErratum(iidr));
            assert_eq!(probe(iidr), expected, "{product:#x} r{}p{}", revision.0, revision.1);
            // The same numbers of another implementer mean another part.
            assert_eq!(probe(iidr ^ 1), None);
        }
    }
}

#[test]
fn what_is_worked_around_is_off_on_every_part() {
    let ids = IdRegisters { idr0: u32::MAX, idr1: u32::MAX, idr3: u32::MAX, idr5: u32::MAX, iidr: 0, aidr: u32::MAX };
    let shown = HostIds::new(&Features::decode(ids, Coherency::Coherent), MsiAdvert::WhenCoherent, 48);
    let (sev, btm) = (1 << 14, 1 << 5);
    assert_eq!(shown.idr0 & (sev | btm), 0);
    let ptm = 1 << 2;
    let rig = Rig::new(Config { iidr: 0x4872_043b, ..Config::full() });
    assert_eq!(rig.board.read32(r::CR2) & ptm, ptm);
}
