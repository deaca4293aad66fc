//! The memory that the host's device reaches, according to the model's oracle.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use example_below_a_host::host::{BYPASS, Host};
use example_below_a_host::{Hypervisor, RevokeError};
use example_board::{Board, POOL, POOL_BYTES, RAM, RAM_BYTES, TABLES, TABLES_BYTES};
use io_pgtable::{Ipa, Pa};
use smmu_model::{Config, Pace, Snoop, Transfer};

const FIRST: (Ipa, Pa, u64) = (Ipa(0), Pa(RAM + 0x200_0000), 0x20_0000);
const SECOND: (Ipa, Pa, u64) = (Ipa(0x20_0000), Pa(RAM + 0x80_0000), 0x20_0000);
/// The host's queues and stream table.
const QUEUES: u64 = 0x1_0000;
/// A page of the second part, and its physical address.
const PAGE: u64 = 0x30_0000;
const PAGE_PA: u64 = RAM + 0x90_0000;
const SID: u32 = 8;

fn started(config: Config) -> (Board, Hypervisor, Host) {
    let board = Board::new(config);
    let mut el2 = Hypervisor::start(&board, &[FIRST, SECOND]).unwrap();
    let host = Host::start(board.mem(), &mut el2, Ipa(QUEUES));
    (board, el2, host)
}

fn machines() -> Vec<Config> {
    let qemu = Config::qemu();
    vec![
        Config { pace: Pace::Lazy, ..qemu.clone() },
        Config { snoop: Snoop::NonCoherent, ..qemu.clone() },
        Config { bbml: smmu_model::Bbml::Level0, ..qemu.clone() },
        qemu,
    ]
}

/// Checks that the device reaches only the two parts of the host's memory.
fn confined(board: &Board) {
    let [first, second] = [FIRST, SECOND].map(|(_, start, bytes)| start.0..start.0 + bytes);
    let others = [
        RAM..second.start,
        second.end..first.start,
        first.end..RAM + RAM_BYTES,
        POOL..POOL + POOL_BYTES,
        TABLES..TABLES + TABLES_BYTES,
    ];
    assert_eq!(others.into_iter().find(|range| board.reaches_any(SID, range.clone())), None);
}

#[test]
fn a_device_reaches_only_its_hosts_memory() {
    for config in machines() {
        let (board, mut el2, mut host) = started(config);
        assert!(!board.reaches_anything(SID), "an invalid entry");
        host.set(&mut el2, SID, BYPASS);
        assert_eq!(board.dma_write(SID, PAGE + 8, 7), Transfer::Done);
        board.mem().invalidate(PAGE_PA..PAGE_PA + 64);
        assert_eq!(board.mem().cpu_read64(PAGE_PA + 8), 7, "the write arrives at the page's physical address");
        for (_, pa, bytes) in [FIRST, SECOND] {
            assert!(board.reaches(SID, pa.0) && board.reaches(SID, pa.0 + bytes - 1));
        }
        for iova in [POOL, TABLES, RAM, PAGE_PA] {
            assert!(matches!(board.dma_write(SID, iova, 1), Transfer::Aborted(_)), "{iova:#x}");
        }
        confined(&board);
        assert_eq!((el2.audit(), board.hazards()), (Ok(()), vec![]));
    }
}

#[test]
fn a_hostile_entry_is_blocked() {
    for config in machines() {
        let (board, mut el2, mut host) = started(config);
        // Stage 2 only, and both stages, with tables of the host.
        for kind in [0b110, 0b111] {
            let entry = [1 | kind << 1, 0, 24 | 1 << 6 | 1 << 51, QUEUES, 0, 0, 0, 0];
            host.set(&mut el2, SID, entry);
            assert!(!board.reaches_anything(SID), "{kind:#b}");
        }
        // Stage 1 with a context descriptor at an address that is the hypervisor's memory.
        host.set(&mut el2, SID, [1 | 0b101 << 1 | POOL, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(board.dma_write(SID, PAGE, 1), Transfer::Aborted(_)));
        confined(&board);
        assert_eq!((el2.audit(), board.hazards()), (Ok(()), vec![]));
    }
}

#[test]
fn a_revoked_page_is_not_reached() {
    for config in machines() {
        let (board, mut el2, mut host) = started(config);
        host.set(&mut el2, SID, BYPASS);
        assert_eq!(board.dma_write(SID, PAGE, 1), Transfer::Done);
        assert_eq!(el2.revoke(Ipa(PAGE)), Ok(Pa(PAGE_PA)));
        assert!(!board.reaches(SID, PAGE_PA) && !board.reaches(SID, PAGE_PA + 0xfff));
        assert!(
            board.reaches(SID, PAGE_PA - 1) && board.reaches(SID, PAGE_PA + 0x1000),
            "the neighbouring pages are still reached"
        );
        assert!(matches!(board.dma_write(SID, PAGE, 1), Transfer::Aborted(_)));
        let mut seen = Vec::new();
        el2.faults(|fault| seen.push((fault.record.sid, fault.record.detail.unwrap().ipa)));
        assert_eq!(seen, [(SID, Some(Ipa(PAGE)))]);
        assert_eq!(el2.revoke(Ipa(PAGE)), Err(RevokeError::NotOwned));
        assert_eq!(board.hazards(), []);
    }
}

#[test]
fn a_claimed_page_and_a_page_of_a_failed_smmu_cannot_be_revoked() {
    let (board, mut el2, mut host) = started(Config::qemu());
    host.set(&mut el2, SID, BYPASS);
    assert_eq!(el2.revoke(Ipa(QUEUES)), Err(RevokeError::Claimed), "the command queue");
    assert!(board.reaches(SID, FIRST.1.0 + QUEUES));
    board.fail();
    assert_eq!(el2.revoke(Ipa(PAGE)), Err(RevokeError::Unsafe));
    assert_eq!(el2.pages().translate(Ipa(PAGE + 8)), Some(Pa(PAGE_PA + 8)));
}
