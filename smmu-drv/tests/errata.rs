//! The table of errata in docs/smmu-emulation.md against the code, and the code's behaviour for each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{ABORT, BUF, BYPASS, Board, CMDQ_LOG2, Rig, SYNC, cfgi_ste, firmware, r};
use io_pgtable::Ipa;
use smmu_drv::errata::{Answer, ERRATA, Issue, NAMED, NamedAnswer, Place, Quirks, Revisions};
use smmu_drv::{
    Coherency, Features, HostIds, IdRegisters, MsiAdvert, Platform, ProbeConfig, ProbeError, Probed, SmmuError, Stale,
};
use smmu_model::{Config, Injection, Pace, Transfer};

const PAGE: &str = include_str!("../../docs/smmu-emulation.md");

/// Rows of table number `n` of the section, as trimmed cells.
fn rows<const CELLS: usize>(n: usize) -> Vec<[&'static str; CELLS]> {
    let section = PAGE.split("\n## Known parts and their errata\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let tables = section.split("\n\n").filter(|paragraph| paragraph.starts_with('|'));
    let table = tables.skip(n).take(1).flat_map(str::lines);
    let cells = |line: &'static str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        core::array::from_fn(|_| cells.next().expect("a cell"))
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
fn the_errata_table_agrees_with_the_code() {
    let rows = rows::<6>(0);
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
    // The numbers in IIDR, independent of the code: MMU-600 before r2p0, MMU-700 before r1p1.
    for (product, fixed) in [(0x483, (2, 0)), (0x487, (1, 1)), (0x48a, (0, 0))] {
        for revision in (0..4).flat_map(|major| (0..4).map(move |minor| (major, minor))) {
            let iidr = product << 20 | revision.0 << 16 | revision.1 << 12 | 0x43b;
            let probe = |iidr| {
                let config = Config { iidr, ..Config::qemu() };
                Probed::probe(Board::new(config.clone()), firmware(&config)).err()
            };
            let expected = (revision < fixed).then_some(ProbeError::NestingErratum(iidr));
            assert_eq!(probe(iidr), expected, "{product:#x} r{}p{}", revision.0, revision.1);
            // The same numbers of another implementer mean another part.
            assert_eq!(probe(iidr ^ 1), None);
        }
    }
}

#[test]
fn features_with_errata_are_off_on_every_part() {
    let ids = IdRegisters { idr0: u32::MAX, idr1: u32::MAX, idr3: u32::MAX, idr5: u32::MAX, iidr: 0, aidr: u32::MAX };
    let shown = HostIds::new(&Features::decode(ids, Coherency::Coherent), MsiAdvert::WhenCoherent, 48);
    let (sev, btm) = (1 << 14, 1 << 5);
    assert_eq!(shown.idr0 & (sev | btm), 0);
    let ptm = 1 << 2;
    let rig = Rig::new(Config { iidr: 0x4872_043b, ..Config::full() });
    assert_eq!(rig.board.read32(r::CR2) & ptm, ptm);
}

#[test]
fn the_table_of_names_agrees_with_the_code() {
    let rows = rows::<4>(1);
    assert_eq!(rows.len(), NAMED.len());
    for ([name, place, _, here], named) in rows.into_iter().zip(NAMED) {
        assert_eq!(name.trim_matches('`'), named.name);
        let words = match named.place {
            Place::Compatible => "`compatible`",
            Place::Property => "property",
        };
        assert_eq!(place, words, "{name}");
        let words = match named.answer {
            NamedAnswer::Refused => "refused at probe",
            NamedAnswer::Repeated => "each batch and its CMD_SYNC is issued twice",
            NamedAnswer::PrefetchDropped => "CMD_PREFETCH_* is never sent",
        };
        assert_eq!(here, words, "{name}");
    }
}

#[test]
fn t63_a_part_without_a_workaround_is_refused() {
    let config = Config::qemu();
    let board = Board::new(config.clone());
    let quirks = Quirks::of(|named| named.name.starts_with("cavium"));
    let refused = Probed::probe(board.clone(), ProbeConfig { quirks, ..firmware(&config) }).err();
    assert_eq!(refused, Some(ProbeError::NamedErratum("cavium,cn9900-broken-page1-regspace")));
    assert!(refused.is_some_and(|error| error.to_string().contains("cavium,cn9900-broken-page1-regspace")));
    assert_eq!(board.0.mmio.get(), 0, "nothing is written to it");
    assert_eq!(Quirks::of(|_| false), Quirks::default());
}

/// An SMMU on which entries in use survive the first invalidation, with `issue` as the driver's quirk.
fn racing(config: Config, issue: Issue) -> Rig {
    let config = Config { invalidations_race: true, ..config };
    let quirks = Quirks { issue, ..Quirks::default() };
    let firmware = ProbeConfig { quirks, ..firmware(&config) };
    Rig::on(Board::new(config), firmware)
}

#[test]
fn t63_an_entry_that_survives_the_first_invalidation_does_not_survive_a_revocation() {
    let revoke = |rig: &mut Rig, stale: Stale| {
        rig.enable_linear(5);
        rig.set_ste(8, BYPASS);
        assert_eq!(rig.dma_write(8, BUF, 1), Transfer::Done);
        rig.s2.unmap(BUF);
        assert_eq!(rig.smmu.tlb_invalidate_host(stale), Ok(()));
        rig.can_reach(8, BUF)
    };
    let page = Stale::Range { ipa: Ipa(BUF), size: 4096 };
    for config in [
        Config::qemu(),
        Config { pace: Pace::Lazy, seed: 63, ..Config::full() },
        Config { cmdq_bits: 3, ril: false, ..Config::qemu() },
    ] {
        for stale in [page, Stale::Range { ipa: Ipa(BUF), size: 12 * 4096 }, Stale::All] {
            assert!(
                revoke(&mut racing(config.clone(), Issue::Once), stale),
                "the access succeeds without the workaround"
            );
            let mut rig = racing(config.clone(), Issue::Twice);
            assert!(!revoke(&mut rig, stale), "{stale:?}");
            assert_eq!(rig.hazards(), []);
        }
    }
}

#[test]
fn t63_the_hosts_invalidations_are_repeated() {
    let mut rig = racing(Config::qemu(), Issue::Twice);
    rig.enable_linear(5);
    let stage1 = rig.context(1);
    for words in [BYPASS, stage1, ABORT, [0; 8], BYPASS, ABORT] {
        rig.set_ste(8, words);
        assert_eq!(rig.can_reach(8, BUF), words == BYPASS || words == stage1, "{words:x?}");
    }
    // Two sets in one batch, and more commands than half a ring: each batch is issued again before later commands.
    rig.set_ste(8, BYPASS);
    let before = rig.smmu.stats().syncs;
    for sid in 0..200_u64 {
        rig.queue([0x3 | (sid % 32) << 32, 1]);
        if sid % 64 == 0 {
            rig.queue(SYNC);
        }
    }
    rig.ste(8, ABORT);
    rig.queue(cfgi_ste(8));
    rig.queue(SYNC);
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod % (2 << CMDQ_LOG2)));
    assert!(!rig.can_reach(8, BUF));
    assert!(rig.smmu.stats().syncs >= before + 8, "twice each");
    assert_eq!(rig.hazards(), []);
    // The recovery from a rejected command is the same as on other parts, but done twice.
    rig.set_ste(8, BYPASS);
    rig.s2.unmap(BUF);
    rig.board.0.model.borrow_mut().inject(Injection::CommandError(1));
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Ok(()));
    assert!(!rig.can_reach(8, BUF));
    rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
}
