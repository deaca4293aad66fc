//! Each violated contract is reported, and implementations without a violation pass.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{host, platform, smmus, tables};
use example_below_a_host::Pages;
use example_board::{Board, RAM};
use io_pgtable::{Ipa, Pa};
use shadow_s2::PageRange;
use smmu_conformance::{
    Host, Refused, Violation, check_host_memory, check_invalidate, check_platform, check_table_memory,
};
use smmu_drv::Sharing;
use smmu_model::{Cache, Config, Pace, Snoop};

fn board(snoop: Snoop) -> Board {
    Board::new(Config { snoop, ..Config::qemu() })
}

#[test]
fn every_broken_platform_is_found() {
    use platform::Broken;
    let found = |how| {
        let board = board(Snoop::NonCoherent);
        check_platform(&platform::BrokenBoard::new(board.clone(), how), &mut platform::Seen(board)).err()
    };
    for (how, expected) in [
        (Broken::Nothing, None),
        (Broken::NotZeroed, Some(Violation::NotZeroed)),
        (Broken::NotZeroedInMemory, Some(Violation::NotZeroed)),
        (Broken::NotAligned, Some(Violation::NotAligned)),
        (Broken::OtherSize, Some(Violation::NotAligned)),
        (Broken::Overlap, Some(Violation::Overlap)),
        (Broken::DirtyLines, Some(Violation::DirtyLines)),
        (Broken::NoClean, Some(Violation::CleanIgnored)),
        (Broken::NoInvalidate, Some(Violation::InvalidateIgnored)),
        (Broken::NoBarrier, Some(Violation::BarrierMissing)),
        (Broken::ReadsOutside, Some(Violation::OutsideBuffer)),
        (Broken::WritesOutside, Some(Violation::OutsideBuffer)),
        (Broken::TimeBackwards, Some(Violation::TimeBackwards)),
        (Broken::ClockStopped, Some(Violation::ClockStopped)),
    ] {
        assert_eq!(found(how), expected, "{how:?}");
    }
}

#[test]
fn the_examples_board_passes() {
    for snoop in [Snoop::Coherent, Snoop::NonCoherent] {
        let board = board(snoop);
        assert_eq!(check_platform(&board, &mut platform::Seen(board.clone())), Ok(()));
    }
    // An SMMU that snoops needs no cleans, but a missing barrier is still found.
    let found = |how| {
        let board = board(Snoop::Coherent);
        check_platform(&platform::BrokenBoard::new(board.clone(), how), &mut platform::Seen(board)).err()
    };
    assert_eq!(found(platform::Broken::NoClean), None);
    assert_eq!(found(platform::Broken::NoBarrier), Some(Violation::BarrierMissing));
}

#[test]
fn no_memory_for_the_check_is_reported() {
    let board = board(Snoop::Coherent);
    let mut kept = Vec::new();
    while let Some(buffer) = smmu_drv::Platform::alloc(&board, 0x1000) {
        kept.push(buffer);
    }
    assert_eq!(check_platform(&board, &mut platform::Seen(board.clone())), Err(Violation::NoMemory));
}

#[test]
fn every_broken_host_memory_is_found() {
    use host::Broken;
    let found = |how| {
        let mut memory = host::Fake::new(how);
        check_host_memory(&mut memory, &mut host::Fakes, Ipa(host::RAM), Ipa(host::FOREIGN)).err()
    };
    for (how, expected) in [
        (Broken::Nothing, None),
        (Broken::NothingClaimable, Some(Violation::ClaimRefused)),
        (Broken::ForeignClaimed, Some(Violation::ClaimedForeign)),
        (Broken::EmptyClaimed, Some(Violation::ClaimedForeign)),
        (Broken::FailedClaimStays, Some(Violation::PagesStillClaimed)),
        (Broken::OwnerChanges, Some(Violation::OwnerChanged)),
        (Broken::HoldsNever, Some(Violation::HoldsIsWrong)),
        (Broken::ReleaseIgnored, Some(Violation::ReleaseIgnored)),
        (Broken::ReleasesAll, Some(Violation::ReleasedEarly)),
        (Broken::TwoFetches, Some(Violation::FetchedTwice)),
        (Broken::NoFetch, Some(Violation::FetchedTwice)),
        (Broken::NoInvalidate, Some(Violation::StaleRead)),
        (Broken::NoClean, Some(Violation::StoreLost)),
        (Broken::ReadsOutside, Some(Violation::OutsideClaim)),
        (Broken::WritesOutside, Some(Violation::OutsideClaim)),
        (Broken::WritesUnaligned, Some(Violation::OutsideClaim)),
        (Broken::StoresWords, Some(Violation::NeighbourChanged)),
        (Broken::StoresNothing, Some(Violation::StoreLost)),
        (Broken::RecordCutShort, Some(Violation::StoreLost)),
        (Broken::RecordOutside, Some(Violation::OutsideClaim)),
    ] {
        assert_eq!(found(how), expected, "{how:?}");
    }
}

/// The host of the example, whose IPAs are not equal to physical addresses.
struct ExampleHost(Board);

impl Host<Pages> for ExampleHost {
    fn read64(&mut self, pages: &mut Pages, ipa: Ipa, sharing: Sharing) -> u64 {
        host::read(self.0.mem(), pages.translate(ipa).unwrap().0, sharing)
    }
    fn write64(&mut self, pages: &mut Pages, ipa: Ipa, sharing: Sharing, value: u64) {
        host::write(self.0.mem(), pages.translate(ipa).unwrap().0, sharing, value);
    }
    fn take(&mut self, pages: &mut Pages, ipa: Ipa) -> Result<(), Refused> {
        pages.can_be_taken(ipa).map_err(|_| Refused)?;
        pages.remove(ipa);
        Ok(())
    }
    fn give_back(&mut self, pages: &mut Pages, ipa: Ipa) {
        pages.add(ipa, Pa(RAM + 0x20_0000 + ipa.0 % 0x2000));
    }
    fn fetches(&mut self, pages: &Pages) -> u64 {
        pages.take_fetches()
    }
}

#[test]
fn the_host_memory_of_the_example_passes() {
    let board = board(Snoop::NonCoherent);
    // Two pages that are not consecutive in memory.
    let runs = [(Ipa(0x8000), Pa(RAM + 0x5000), 0x1000), (Ipa(0x9000), Pa(RAM + 0x2000), 0x1000)];
    let mut pages = Pages::new(board.mem().clone(), &runs);
    assert_eq!(check_host_memory(&mut pages, &mut ExampleHost(board), Ipa(0x8000), Ipa(0x1_0000)), Ok(()));
}

#[test]
fn every_broken_table_memory_is_found() {
    use tables::Broken;
    for (how, expected) in [
        (Broken::Nothing, None),
        (Broken::NoMemory, Some(Violation::NoMemory)),
        (Broken::NotAligned, Some(Violation::NotAligned)),
        (Broken::Overlap, Some(Violation::Overlap)),
        (Broken::PointerChanges, Some(Violation::PointerChanged)),
        (Broken::NoClean, Some(Violation::CleanIgnored)),
        (Broken::NoPublish, Some(Violation::BarrierMissing)),
    ] {
        let memory = tables::Tables::new(how);
        assert_eq!(check_table_memory(&memory, &mut tables::Walker(&memory)).err(), expected, "{how:?}");
        assert!(expected.is_some() || memory.heap.live_bytes() == 0, "memory is still allocated");
    }
}

#[test]
fn every_broken_invalidation_is_found() {
    use smmus::Broken;
    let pages = PageRange::new(16, 4).unwrap();
    let found = |how, pace| {
        let (mut smmus, mut devices) = smmus::two(how, pace, Cache::Adversarial);
        check_invalidate(&mut smmus, &mut devices, pages).err()
    };
    for (how, expected) in [
        (Broken::Nothing, None),
        (Broken::FirstOnly, Some(Violation::OldTranslation(1))),
        (Broken::SecondOnly, Some(Violation::OldTranslation(0))),
        (Broken::OnePage, Some(Violation::OldTranslation(0))),
        (Broken::NotAll, Some(Violation::OldTranslation(0))),
        (Broken::OtherVmid, Some(Violation::OldTranslation(0))),
        (Broken::NoWait, Some(Violation::OldTranslation(0))),
        (Broken::Fails, Some(Violation::Failed)),
        (Broken::FailureHidden, Some(Violation::FailureHidden)),
    ] {
        assert_eq!(found(how, Pace::Lazy), expected, "{how:?}");
    }
    // An SMMU without caches cannot show an old translation.
    let (mut smmus, mut devices) = smmus::two(Broken::Nothing, Pace::Eager, Cache::None);
    assert_eq!(check_invalidate(&mut smmus, &mut devices, pages), Err(Violation::NothingCached));
}

#[test]
fn all_violations_have_different_messages() {
    use std::collections::BTreeSet;
    let all = [
        Violation::NoMemory,
        Violation::NotAligned,
        Violation::Overlap,
        Violation::NotZeroed,
        Violation::DirtyLines,
        Violation::CleanIgnored,
        Violation::InvalidateIgnored,
        Violation::BarrierMissing,
        Violation::OldTranslation(1),
    ];
    let said: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), all.len());
}
