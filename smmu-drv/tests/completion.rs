//! Commands and their completion, in EL2's ring and in the host's: small rings, refused commands, signals, and errors that
//! wait for an acknowledgement.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, BYPASS, CERROR_ILL, CMDQ, RAM, Rig, SYNC, cmdq_error, r, sync_irq, tlbi_nh_asid};
use smmu_drv::{SmmuError, Stale, WiredIrq};
use smmu_model::{Config, Injection, Pace};

/// Bytes of the host's command queue.
const QUEUE: u64 = 16 << common::CMDQ_LOG2;

/// CMD_SYNC that stores `data` at `address`.
fn msi(address: u64, data: u64) -> [u64; 2] {
    sync_irq(data, address)
}

#[test]
fn a_ring_of_eight_entries_loses_no_command() {
    for cmdq_bits in [3, 4] {
        for seed in 1..6 {
            let mut rig = Rig::new(Config { cmdq_bits, seed, pace: Pace::Lazy, ..Config::qemu() });
            rig.enable_linear(4);
            let asids = |rig: &Rig| {
                let model = rig.board.0.model.borrow();
                model.invalidations().len()
            };
            let before = asids(&rig);
            // EL2 does not wait for these commands: in the next trap the ring still has those that hardware has not
            // consumed.
            for _ in 0..3 {
                for n in 0..50 {
                    rig.queue(tlbi_nh_asid(n + 1));
                }
                rig.ring();
            }
            rig.queue(SYNC);
            rig.ring();
            assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
            assert!(asids(&rig) - before >= 150, "{} of 150 were executed", asids(&rig) - before);
            assert_eq!(rig.smmu.failed(), None);
            assert_eq!(rig.hazards(), []);
        }
    }
}

#[test]
fn a_batch_needs_one_write_of_prod() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let before = rig.board.0.mmio.get();
    let syncs = rig.smmu.stats().syncs;
    for n in 0..100 {
        rig.queue(tlbi_nh_asid(n));
    }
    // The host did not request completion: EL2 does not wait.
    rig.ring();
    assert_eq!((rig.board.0.mmio.get() - before, rig.smmu.stats().syncs - syncs), (1, 0));
    rig.queue([0x11, 0]);
    rig.queue(SYNC);
    rig.ring();
    assert_eq!((rig.board.0.mmio.get() - before, rig.smmu.stats().syncs - syncs), (2, 1));
    // EL2 writes to a full ring when it has space.
    let mut rig = Rig::new(Config { cmdq_bits: 3, ..Config::qemu() });
    rig.enable_linear(4);
    let before = rig.board.0.mmio.get();
    for n in 0..31 {
        rig.queue(tlbi_nh_asid(n));
    }
    rig.queue(SYNC);
    rig.ring();
    assert_eq!(rig.board.0.mmio.get() - before, 4);
}

#[test]
fn a_reprogrammed_ring_starts_at_index_0() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for n in 0..60 {
        rig.queue(tlbi_nh_asid(n));
    }
    rig.ring();
    rig.board.0.model.borrow_mut().lose_power();
    let executed = |rig: &Rig| rig.board.0.model.borrow().commands();
    let ordered = |rig: &mut Rig| rig.smmu.stats().forwarded_commands + rig.smmu.stats().syncs;
    let before = (executed(&rig), ordered(&mut rig));
    rig.smmu.tlb_invalidate_host(Stale::All).unwrap();
    assert_eq!(rig.smmu.stats().reprograms, 1);
    // Earlier commands in the ring are not executed a second time.
    assert_eq!(executed(&rig) - before.0, ordered(&mut rig) - before.1);
}

#[test]
fn four_rejected_commands_in_one_wait_are_recovered_and_the_fifth_fails_the_smmu() {
    for (refusals, expected) in [(1, Ok(())), (4, Ok(())), (5, Err(SmmuError::CommandRejected))] {
        for (seed, pace) in [(1, Pace::Eager), (1, Pace::Lazy), (2, Pace::Lazy), (3, Pace::Lazy), (4, Pace::Lazy)] {
            let mut rig = Rig::new(Config { pace, seed, ..Config::qemu() });
            for _ in 0..refusals {
                rig.board.0.model.borrow_mut().inject(Injection::CommandError(1));
            }
            assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), expected, "{refusals}, {pace:?} {seed}");
            assert_eq!(rig.smmu.failed().is_none(), expected.is_ok());
        }
    }
}

#[test]
fn only_the_rejected_command_is_overwritten() {
    let mut rig = Rig::qemu();
    let syncs = |rig: &Rig| rig.board.0.model.borrow().syncs();
    // In every slot of the ring.
    for n in 0..300 {
        let before = syncs(&rig);
        rig.board.0.model.borrow_mut().inject(Injection::CommandError(1));
        rig.smmu.tlb_invalidate_host(Stale::All).unwrap();
        // The CMD_SYNC that replaces the command, that of the batch, and the two of the invalidation done instead of
        // the refused command.
        assert_eq!(syncs(&rig) - before, 4, "refusal {n}");
    }
    assert_eq!((rig.smmu.stats().cmdq_recoveries, rig.hazards().len()), (300, 300), "the injected errors");
}

#[test]
fn seventeen_completions_take_two_hardware_syncs_and_one_trap() {
    for (completions, syncs) in [(15, 1), (16, 1), (17, 2), (33, 3)] {
        let mut rig = Rig::qemu();
        rig.enable_linear(4);
        let before = rig.smmu.stats();
        for n in 0..completions {
            rig.queue(msi(BUF + n * 4, n + 1));
        }
        rig.ring();
        let after = rig.smmu.stats();
        assert_eq!(after.syncs - before.syncs, syncs, "{completions}");
        assert_eq!((after.msi_writes - before.msi_writes, rig.again), (completions, 0));
        assert_eq!(after.forwarded_commands, before.forwarded_commands);
        assert_eq!(after.host_commands - before.host_commands, completions);
        for n in 0..completions {
            assert_eq!(u64::from(rig.mem().cpu_read32(BUF + n * 4)), n + 1);
        }
    }
}

#[test]
fn a_completion_is_stored_once() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for n in 0..3 {
        rig.queue(msi(BUF + n * 4, 7));
    }
    rig.ring();
    rig.mem().cpu_write(BUF, &[0; 12]);
    // A command in a later batch: earlier commands in the same slots are not issued again.
    rig.queue(msi(BUF, 9));
    rig.ring();
    let words = [0, 4, 8].map(|at| rig.mem().cpu_read32(BUF + at));
    assert_eq!((words, rig.smmu.stats().msi_writes), ([9, 0, 0], 4));
}

#[test]
fn a_completion_next_to_the_queue_is_stored_at_its_address() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for address in [CMDQ, CMDQ + QUEUE - 4, CMDQ + QUEUE, CMDQ - 4, CMDQ + QUEUE + 0x40] {
        // No command is overwritten before it is fetched.
        rig.queue(msi(address, 0xfeed));
        rig.ring();
        assert_eq!(rig.mem().cpu_read32(address), 0xfeed, "{address:#x}");
        assert_eq!(rig.read(r::GERROR), 0);
    }
    assert_eq!(rig.host.claims.values().sum::<u32>(), 2, "only the two queues are claimed");
}

#[test]
fn a_command_error_stays_until_it_is_acknowledged() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 1);
    // Two errors at once: a completion that cannot be stored, and an illegal command.
    rig.queue(msi(common::POOL, 1));
    let at = rig.prod;
    rig.queue([0xff, 0]);
    rig.queue([0x11, 0]);
    rig.ring();
    let stopped = cmdq_error(at, CERROR_ILL);
    let count = rig.smmu.stats().host_commands;
    assert_eq!((rig.read(r::CMDQ_CONS), rig.read(r::GERROR)), (stopped, 0x11));
    rig.irqs();
    // The other error alone is acknowledged; the queue does not continue.
    rig.write(r::GERRORN, 0x10);
    assert_eq!((rig.read(r::CMDQ_CONS), rig.read(r::GERRORN)), (stopped, 0x10));
    // No other error is acknowledged.
    rig.write(r::GERRORN, 0x10);
    rig.ring();
    assert_eq!((rig.read(r::CMDQ_CONS), rig.read(r::GERROR)), (stopped, 0x11));
    assert_eq!(rig.smmu.stats().host_commands, count);
    assert_eq!(rig.irqs(), []);
    // After repair the queue does not continue either; after the acknowledgement it continues after the entry.
    let slot = CMDQ + u64::from(at) * 16;
    rig.store(slot, SYNC[0]);
    rig.store(slot + 8, SYNC[1]);
    rig.ring();
    assert_eq!((rig.read(r::CMDQ_CONS), rig.smmu.stats().host_commands), (stopped, count));
    rig.write(r::GERRORN, 0x11);
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
    assert_eq!(rig.smmu.stats().host_commands, count + 2);
    // The next error toggles back, and is reported.
    rig.queue([0xff, 0]);
    rig.ring();
    assert_eq!((rig.read(r::GERROR), rig.irqs()), (0x10, vec![WiredIrq::Gerror]));
}

#[test]
fn without_cmdqen_nothing_is_consumed() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.set_ste(3, BYPASS);
    rig.write(r::CR0, r::EVENTQEN | r::SMMUEN);
    let cons = rig.read(r::CMDQ_CONS);
    let before = rig.smmu.stats();
    rig.queue([0x11, 0]);
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS), cons);
    assert_eq!(rig.smmu.stats().host_commands, before.host_commands);
    // When the queue is enabled, they are consumed without another store to PROD.
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
    assert_eq!(rig.smmu.stats().host_commands, before.host_commands + 1);
}

#[test]
fn an_index_beyond_a_smaller_queue_is_reduced_at_the_enable() {
    let mut rig = Rig::qemu();
    rig.enable_queues();
    rig.write(r::CR0, 0);
    // Indices of a queue of 2^8, then a queue of 2^3.
    rig.write(r::CMDQ_PROD, 0x1a5);
    rig.write(r::CMDQ_CONS, 0x1a3);
    rig.write64(r::CMDQ_BASE, (RAM + 0x5_0000) | 3);
    for slot in 0..8 {
        rig.store(RAM + 0x5_0000 + slot * 16, 0x11);
        rig.store(RAM + 0x5_0000 + slot * 16 + 8, 0);
    }
    let before = rig.smmu.stats().host_commands;
    rig.write(r::CR0, r::CMDQEN);
    assert_eq!(rig.read(r::CMDQ_CONS), 5);
    assert_eq!(rig.smmu.stats().host_commands - before, 2);
    assert_eq!(rig.read(r::GERROR), 0);
}

#[test]
fn a_failed_smmu_is_not_accessed_while_it_confines_or_aborts_everything() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
    let before = (rig.board.0.mmio.get(), rig.board.0.clock.get());
    for _ in 0..10 {
        assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
        rig.smmu.poll_events(&mut rig.host);
    }
    // The stream table still confines every stream: EL2 writes nothing, and does not wait.
    assert_eq!((rig.board.0.mmio.get(), rig.board.0.clock.get()), before);
    assert!(!rig.el2_reachable(3));
    // It loses its power: the next check sets it to abort, and later checks have nothing to do.
    rig.board.0.model.borrow_mut().lose_power();
    rig.smmu.poll_events(&mut rig.host);
    assert!(!rig.el2_reachable(3));
    let closed = rig.board.0.mmio.get();
    assert!(closed > before.0);
    for _ in 0..10 {
        rig.smmu.poll_events(&mut rig.host);
    }
    assert_eq!(rig.board.0.mmio.get(), closed);
}
