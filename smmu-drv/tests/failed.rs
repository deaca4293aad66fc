//! A failed SMMU: it is kept at abort if it responds, and needs few register accesses if it does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BYPASS, POOL, RAM, Rig, SYNC, cfgi_ste, r};
use smmu_drv::{AccessSize, SmmuError, Stale};
use smmu_model::{Config, Injection, Pace, Transfer};

/// Accesses of the host, each of which checks the SMMU.
const TRAPS: u64 = 200;
/// Maximum number of register accesses of a check: reads of CR0ACK and GBPA, another read of GBPA, and a write of GBPA.
const LOOK: u64 = 4;
/// GBPA.Update and GBPA.ABORT.
const UPDATE: u32 = 1 << 31;
const ABORT: u32 = 1 << 20;

/// An SMMU that failed, then lost its power and has its reset state, with a GBPA that accepts no update and reads as
/// `gbpa`.
fn failed_and_deaf(seed: u64, gbpa: u32) -> Rig {
    let mut rig = Rig::new(Config { pace: Pace::Lazy, seed, ..Config::qemu() });
    rig.enable_linear(5);
    rig.set_ste(8, BYPASS);
    rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
    rig.board.0.broken_gbpa.set(Some(gbpa));
    rig.board.0.model.borrow_mut().lose_power();
    assert!(rig.el2_reachable(8), "after reset every transaction bypasses");
    rig
}

/// Every kind of access to the SMMU: by the host, by EL2, and by timers.
fn touch(rig: &mut Rig, n: u64) {
    match n % 4 {
        0 => rig.write(r::CMDQ_PROD, 0),
        1 => rig.smmu.poll_events(&mut rig.host),
        2 => assert_eq!(rig.smmu.mmio_read(&mut rig.host, r::EVENTQ_PROD, AccessSize::Word), 0),
        _ => assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout)),
    }
}

fn cost(rig: &Rig) -> (u64, u64) {
    (rig.board.0.loads.get() + rig.board.0.mmio.get(), rig.board.0.clock.get())
}

#[test]
fn t47_an_smmu_that_cannot_be_set_to_abort_is_waited_for_once() {
    // An earlier update never ends, or EL2's update does not.
    for (seed, gbpa) in [(1, UPDATE), (2, UPDATE), (3, 0), (4, 0)] {
        let mut rig = failed_and_deaf(seed, gbpa);
        let (_, start) = cost(&rig);
        touch(&mut rig, seed);
        let (accesses, waited) = cost(&rig);
        assert!((1_000_000..=2_100_000).contains(&(waited - start)), "{waited}");
        for n in 0..TRAPS {
            touch(&mut rig, n);
        }
        let (end, now) = cost(&rig);
        assert!(end - accesses <= LOOK * TRAPS, "{} accesses in {TRAPS} traps", end - accesses);
        assert_eq!(now, waited, "the clock is not read");
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t09_an_smmu_that_responds_again_is_set_to_abort_without_waiting() {
    for seed in 1..5 {
        let mut rig = failed_and_deaf(seed, 0);
        for n in 0..TRAPS {
            touch(&mut rig, n);
        }
        assert!(rig.el2_reachable(8), "it cannot be set to abort yet");
        rig.board.0.broken_gbpa.set(None);
        let mut touched = 0;
        while rig.el2_reachable(8) {
            touch(&mut rig, touched);
            touched += 1;
            assert!(touched < 20, "still not aborting after {touched} checks");
        }
        assert_ne!(rig.dma_write(8, RAM, 1), Transfer::Done);
        // It loses its power once more, and now no update is in progress.
        rig.board.0.model.borrow_mut().lose_power();
        assert!(rig.el2_reachable(8));
        touched = 0;
        while rig.el2_reachable(8) {
            touch(&mut rig, touched);
            touched += 1;
            assert!(touched < 20, "still not aborting after {touched} checks");
        }
        assert_ne!(rig.dma_write(8, POOL, 1), Transfer::Done);
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t39_power_off_waits_for_an_update_in_progress() {
    let mut rig = failed_and_deaf(1, 0);
    for n in 0..4 {
        touch(&mut rig, n);
    }
    assert_eq!(rig.board.0.broken_gbpa.get(), Some(UPDATE | ABORT), "EL2's own write");
    let (_, start) = cost(&rig);
    assert_eq!(rig.smmu.quiesce(), Err(SmmuError::SyncTimeout));
    let (_, end) = cost(&rig);
    assert!(end - start >= 1_000_000, "{}", end - start);
}

#[test]
fn t39_power_off_waits_again_for_gbpa_abort() {
    for seed in 1..40 {
        let mut rig = failed_and_deaf(seed, UPDATE);
        for n in 0..4 {
            touch(&mut rig, n);
        }
        rig.board.0.broken_gbpa.set(None);
        rig.board.0.model.borrow_mut().lose_power();
        assert!(rig.el2_reachable(8));
        assert_eq!(rig.smmu.quiesce(), Err(SmmuError::SyncTimeout));
        assert!(!rig.el2_reachable(8), "seed {seed}");
        // After reset the queue addresses are 0: the queues must not be enabled again.
        assert_eq!(rig.board.0.model.borrow().originated_writes(), []);
        assert_eq!(rig.hazards(), []);
    }
}

/// The eight words of the entry of stream 8, as hardware reads them.
fn shadow_entry(rig: &Rig) -> Vec<u64> {
    let base = rig.board.0.model.borrow_mut().read64(r::STRTAB_BASE) & 0x00ff_ffff_ffff_ffc0;
    let table = rig.mem().cpu_read64(base) & 0x00ff_ffff_ffff_f000;
    (0..8).map(|word| rig.mem().cpu_read64(table + 8 * 64 + word * 8)).collect()
}

#[test]
fn t47_a_failed_smmu_consumes_nothing_and_changes_no_entry() {
    // Between two stores into a live entry its configuration is invalidated [IHI 0070G.b 3.21.3.1]: no longer possible here.
    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    rig.set_ste(8, BYPASS);
    let nested = rig.context(1);
    rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
    let (before, cons) = (shadow_entry(&rig), rig.read(r::CMDQ_CONS));
    rig.ste(8, nested);
    let reads = rig.host.reads.get();
    for _ in 0..10 {
        rig.queue(cfgi_ste(8));
        rig.queue(SYNC);
        rig.ring();
        assert_eq!(shadow_entry(&rig), before);
        assert_eq!(rig.read(r::CMDQ_CONS), cons, "the host sees commands that do not complete");
    }
    assert_eq!(rig.host.reads.get(), reads, "no host memory is read for them");
    // Changes of the mode of all streams have no effect either.
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    assert_eq!(rig.read(r::CR0ACK) & r::SMMUEN, r::SMMUEN);
    assert_eq!(shadow_entry(&rig), before);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t47_a_failed_smmu_that_reads_all_ones_is_still_reported_as_failed() {
    let mut rig = Rig::qemu();
    rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
    // The SMMU has no power.
    rig.board.0.read_as.set(Some((r::CR0ACK, u32::MAX)));
    assert_eq!(rig.smmu.check_alive(), Err(SmmuError::SyncTimeout));
}
