//! Invalidations for revocations, failures of hardware, and quiescing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, BYPASS, GBPA_UPDATE, Rig, SFM_ERR, r};
use io_pgtable::Ipa;
use smmu_drv::{SmmuError, Stale};
use smmu_model::inval::Scope;
use smmu_model::{Config, Injection, Pace, Snoop, Transfer};

fn aborted(transfer: &Transfer) -> bool {
    matches!(transfer, Transfer::Aborted(_))
}

#[test]
fn t02_t04_t05_a_page_is_unreachable_when_the_invalidation_returns() {
    for config in [
        Config::qemu(),
        Config { ril: false, ..Config::qemu() },
        Config { pace: Pace::Lazy, seed: 3, ..Config::qemu() },
        Config { pace: Pace::Lazy, seed: 4, ..Config::full() },
        Config { snoop: Snoop::NonCoherent, ..Config::qemu() },
    ] {
        for pages in [1_u64, 3, 33] {
            for enabled in [false, true] {
                if enabled != (pages == 3) && config.ats {
                    continue;
                }
                let mut rig = Rig::new(config.clone());
                if enabled {
                    rig.enable_linear(5);
                    let ste = rig.context(1);
                    rig.set_ste(8, ste);
                    rig.set_ste(9, BYPASS);
                    assert_eq!(rig.dma_write(8, 0, 1), Transfer::Done);
                    assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
                } else {
                    assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
                }
                let last = BUF + (pages - 1) * 4096;
                for page in 0..pages {
                    rig.s2.unmap(BUF + page * 4096);
                }
                assert!(rig.can_reach(9, BUF), "the model keeps the stale entry");
                rig.smmu.tlb_invalidate_host(Stale::Range { ipa: Ipa(BUF), size: pages * 4096 }).unwrap();
                for sid in if enabled { 8..10 } else { 9..10 } {
                    assert!(!rig.can_reach(sid, BUF), "{config:?} {pages}");
                    assert!(!rig.can_reach(sid, last), "{config:?} {pages}");
                }
                assert!(aborted(&rig.dma_write(9, BUF, 1)));
                assert_eq!(rig.hazards(), [], "{config:?}");
            }
        }
    }
}

#[test]
fn an_invalidation_of_pages_uses_the_minimum_of_commands() {
    // Start, bytes, and the targets of the commands with and without range invalidation: addresses, or the whole VMID.
    let all = |rig: &Rig| rig.board.0.model.borrow().invalidations().to_vec();
    for ril in [true, false] {
        let mut rig = Rig::new(Config { ril, ..Config::qemu() });
        for (start, bytes) in [
            (BUF, 1),
            (BUF, 4096),
            (BUF + 0xfff, 1),
            (BUF + 0xfff, 2),
            (BUF, 2 * 4096),
            (BUF, 32 * 4096),
            (BUF, 33 * 4096),
            (BUF, 0x20_0000),
            (BUF, 0),
            (u64::MAX - 4095, 4096),
            (u64::MAX - 4095, 4097),
        ] {
            let before = all(&rig).len();
            rig.smmu.tlb_invalidate_host(Stale::Range { ipa: Ipa(start), size: bytes }).unwrap();
            let issued = all(&rig).split_off(before);
            let first = start & !0xfff;
            let pages =
                start.checked_add(bytes.wrapping_sub(1)).filter(|_| bytes > 0).map(|last| (last - first) / 4096 + 1);
            let by_address = issued.iter().filter_map(|one| match one.scope {
                Scope::S2Ipa { by, .. } => Some((by.first, by.last, by.leaf, by.removes_nothing)),
                _ => None,
            });
            let seen: Vec<_> = by_address.collect();
            let context = format!("{start:#x}, {bytes:#x}, ranges: {ril}: {issued:x?}");
            match pages {
                None => assert_eq!((seen.len(), issued.len()), (0, 1), "{context}"),
                // A range has at least two pages; a single page is invalidated as a range too.
                Some(1) if ril => {
                    let first = first & 0x00ff_ffff_ffff_f000;
                    assert_eq!(seen, [(first, first + 0x1fff, false, false)], "{context}");
                }
                Some(1) => assert_eq!(
                    seen,
                    [(first & 0x00ff_ffff_ffff_f000, first & 0x00ff_ffff_ffff_f000 | 0xfff, false, false)],
                    "{context}"
                ),
                Some(pages) if ril => {
                    assert_eq!(seen.len(), 1, "{context}");
                    assert_eq!((seen[0].0, seen[0].2, seen[0].3), (first, false, false), "{context}");
                    assert!(seen[0].1 >= first + pages * 4096 - 1 && seen[0].1 < first + 2 * pages * 4096, "{context}");
                }
                Some(pages @ 2..=32) => {
                    let each = (0..pages).map(|n| (first + n * 4096, first + n * 4096 + 0xfff, false, false));
                    assert_eq!(seen, each.collect::<Vec<_>>(), "{context}");
                }
                Some(_) => assert_eq!((seen.len(), issued.len()), (0, 1), "{context}"),
            }
            // Combined entries are invalidated after the stage-2 entries, or all in one command.
            let last = issued.last().unwrap().scope;
            assert_eq!(matches!(last, Scope::NhAll { .. }), !seen.is_empty(), "{context}");
            assert_eq!(matches!(last, Scope::S12Vmall { .. }), seen.is_empty(), "{context}");
            assert!(issued.iter().all(|one| one.completed.is_some()), "{context}");
        }
    }
}

#[test]
fn invalidation_of_everything_and_of_unaligned_ranges_is_sufficient() {
    for stale in [
        Stale::All,
        Stale::Range { ipa: Ipa(BUF + 8), size: 1 },
        Stale::Range { ipa: Ipa(BUF + 4095), size: 0 },
        Stale::Range { ipa: Ipa(0), size: u64::MAX },
        Stale::Range { ipa: Ipa(u64::MAX), size: 5 },
    ] {
        let mut rig = Rig::qemu();
        assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
        rig.s2.unmap(BUF);
        rig.smmu.tlb_invalidate_host(stale).unwrap();
        assert!(!rig.can_reach(9, BUF), "{stale:?}");
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t47_a_sync_that_never_completes_fails_the_smmu_in_bounded_time() {
    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    rig.write(r::IRQ_CTRL, 5);
    rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
    let start = rig.board.0.clock.get();
    let error = rig.smmu.tlb_invalidate_host(Stale::All).unwrap_err();
    assert_eq!(error, SmmuError::SyncTimeout);
    assert!(rig.board.0.clock.get() - start < 2_500_000);
    // Invalidations are refused immediately from now on, and the host is notified.
    let start = rig.board.0.clock.get();
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
    assert_eq!(rig.board.0.clock.get(), start);
    assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), SFM_ERR);
    // The host's own commands do not complete, and do not hang either.
    rig.queue(common::SYNC);
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS), 0);
    rig.write(r::CR0, 0);
    rig.write(r::CR0, r::CMDQEN | r::SMMUEN);
}

#[test]
fn t47_a_rejected_command_is_replaced_by_an_invalidation_of_everything() {
    let mut rig = Rig::qemu();
    assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
    for code in [1, 2] {
        rig.s2.unmap(BUF);
        rig.board.0.model.borrow_mut().inject(Injection::CommandError(code));
        rig.smmu.tlb_invalidate_host(Stale::Range { ipa: Ipa(BUF), size: 4096 }).unwrap();
        assert!(!rig.can_reach(9, BUF));
        rig.s2.map(BUF);
    }
    assert_eq!(rig.smmu.stats().cmdq_recoveries, 2);
    // The errors were hardware's, not the host's.
    assert_eq!(rig.read(r::GERROR), rig.read(r::GERRORN));
    for _ in 0..20 {
        rig.board.0.model.borrow_mut().inject(Injection::CommandError(1));
    }
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::CommandRejected));
}

#[test]
fn service_failure_is_reported() {
    let mut rig = Rig::qemu();
    rig.board.0.model.borrow_mut().fail();
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::ServiceFailure));
}

#[test]
fn t09_an_smmu_that_lost_its_state_is_programmed_before_the_host_continues() {
    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    rig.set_ste(8, BYPASS);
    rig.write(r::IRQ_CTRL, 4);
    rig.board.0.model.borrow_mut().lose_power();
    assert!(rig.el2_reachable(8), "after reset every transaction bypasses");
    rig.write(r::CMDQ_PROD, u64::from(rig.prod));
    assert!(!rig.el2_reachable(8));
    assert_eq!(rig.dma_write(8, BUF, 1), Transfer::Done);
    assert_eq!(rig.board.0.model.borrow_mut().read32(r::IRQ_CTRL), 4);
    assert_eq!(rig.smmu.stats().reprograms, 1);
    rig.board.0.model.borrow_mut().lose_power();
    rig.smmu.tlb_invalidate_host(Stale::All).unwrap();
    assert!(!rig.el2_reachable(8));
    rig.board.0.model.borrow_mut().lose_power();
    rig.smmu.poll_events(&mut rig.host);
    assert!(!rig.el2_reachable(8));
}

#[test]
fn quiesce_stops_all_dma_permanently() {
    for config in [Config::qemu(), Config { two_level: false, sid_bits: 9, ..Config::qemu() }] {
        let mut rig = Rig::new(config);
        rig.enable_linear(8);
        rig.set_ste(8, BYPASS);
        rig.smmu.quiesce().unwrap();
        for sid in [8, 300] {
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            assert!(!rig.can_reach(sid, BUF));
        }
        rig.set_ste(8, BYPASS);
        rig.write(r::CR0, 0);
        rig.write(r::GBPA, GBPA_UPDATE);
        rig.write(r::CR0, r::CMDQEN | r::SMMUEN);
        for sid in [8, 300] {
            assert!(!rig.can_reach(sid, BUF));
        }
        assert_eq!(rig.hazards(), []);
    }
}
