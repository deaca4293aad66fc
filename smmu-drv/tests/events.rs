//! Events from EL2's queue to the host's: queues that hardware cannot write or that the host does not own, and inconsistent
//! indices.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, C_BAD_STE, EVTQ, OVERFLOW, POOL, Rig, r, record};
use smmu_drv::WiredIrq;
use smmu_model::{Config, Injection, Snoop};

#[test]
fn a_record_that_hardware_could_not_write_is_an_overflow_each_time() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for n in 1..5 {
        rig.board.0.model.borrow_mut().inject(Injection::EventqAbort);
        rig.dma_write(9, BUF, 1);
        let prod = rig.read(r::EVENTQ_PROD);
        assert_eq!(prod, ((n % 2) << 31) | (n - 1), "overflow {n}");
        assert_eq!(rig.smmu.stats().event_overflows, n);
        // The host acknowledges; hardware continues, since EL2 has acknowledged its error.
        rig.write(r::EVENTQ_CONS, prod);
        let (gerror, gerrorn) = {
            let mut model = rig.board.0.model.borrow_mut();
            (model.read32(r::GERROR), model.read32(r::GERRORN))
        };
        assert_eq!(gerror, gerrorn);
        rig.dma_write(9, BUF, 1);
        assert_eq!(rig.read(r::EVENTQ_PROD) & 0xff, n);
        rig.write(r::EVENTQ_CONS, prod & OVERFLOW | n);
    }
    assert_eq!(rig.read(r::GERROR), 0, "the host gets no error");
    assert_eq!(rig.hazards(), []);
}

#[test]
fn a_queue_outside_host_memory_reports_one_abort_until_acknowledged() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::CR0, r::CMDQEN | r::SMMUEN);
    rig.write64(r::EVENTQ_BASE, POOL | 7);
    let refused = rig.smmu.stats().claims_refused;
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert_eq!(rig.smmu.stats().claims_refused, refused + 1);
    rig.write(r::IRQ_CTRL, 5);
    rig.mem().cpu_write64(POOL, 0x55);
    rig.irqs();
    for n in 1..4 {
        rig.dma_write(9, BUF, 1);
        rig.smmu.poll_events(&mut rig.host);
        assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), 4);
        let expected = if n == 1 { vec![WiredIrq::Gerror] } else { vec![] };
        assert_eq!(rig.irqs(), expected, "one interrupt");
        assert_eq!((rig.smmu.stats().host_events_lost, rig.smmu.stats().host_events), (1, 0));
    }
    assert_eq!(rig.read(r::EVENTQ_PROD), 0);
    assert_eq!(rig.mem().cpu_read64(POOL), 0x55);
    // Acknowledged: the next record is tried again.
    rig.write(r::GERRORN, 4);
    rig.dma_write(9, BUF, 1);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!((rig.read(r::GERROR), rig.read(r::GERRORN)), (0, 4));
    assert_eq!(rig.smmu.stats().host_events_lost, 2);
    assert_eq!(rig.irqs(), [WiredIrq::Gerror]);
}

#[test]
fn a_lost_record_raises_no_interrupt_and_the_first_of_several_does() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 4);
    for n in 0..3 {
        rig.dma_write(9, BUF, 1);
        rig.smmu.poll_events(&mut rig.host);
        assert_eq!(rig.irqs().len(), usize::from(n == 0), "the host has already been interrupted");
    }
    assert_eq!(rig.events().len(), 3);
    // Several in one poll, the first of which finds the queue empty.
    for _ in 0..3 {
        rig.dma_write(9, BUF, 1);
    }
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), [WiredIrq::Eventq]);
    // Without an entry for the stream, EL2 reads nothing.
    assert_eq!(rig.events().len(), 3);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), []);
}

#[test]
fn every_slot_of_the_hosts_queue_is_used_and_no_other() {
    for log2 in [0_u32, 1, 3, 7, 12] {
        let mut rig = Rig::qemu();
        rig.enable_linear(4);
        rig.write(r::CR0, r::CMDQEN | r::SMMUEN);
        let base = common::L2TAB;
        rig.write64(r::EVENTQ_BASE, base | u64::from(log2));
        rig.write(r::EVENTQ_PROD, 0);
        rig.write(r::EVENTQ_CONS, 0);
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
        // IDR1.EVENTQS is 7.
        let entries = 1_u64 << log2.min(7);
        for n in 0..3 * entries {
            rig.dma_write(9, BUF, 1);
            let prod = rig.read(r::EVENTQ_PROD);
            assert_eq!(prod, (n + 1) % (2 * entries));
            assert_eq!(rig.mem().cpu_read64(base + n % entries * 32), 4 | 9 << 32);
            rig.store(base + n % entries * 32, 0);
            rig.write(r::EVENTQ_CONS, prod);
        }
        assert_eq!(rig.mem().cpu_read64(base + entries * 32), 0);
        assert_eq!(rig.mem().cpu_read64(EVTQ), 0);
    }
}

#[test]
fn too_large_a_producer_index_costs_one_full_queue() {
    for snoop in [Snoop::Coherent, Snoop::NonCoherent] {
        let mut rig = Rig::new(Config { snoop, ..Config::qemu() });
        // Indices with the largest distance: one within the index and wrap bits, and one with bits above them.
        for (prod, at_most) in [(0xff, 128), (0xf_ffff, 128), (0x80, 128)] {
            let before = rig.smmu.stats().faults;
            rig.board.0.read_as.set(Some((r::EVENTQ_PROD, prod)));
            rig.smmu.poll_events(&mut rig.host);
            let seen = rig.smmu.stats().faults - before;
            assert!((1..=at_most).contains(&seen), "{prod:#x}: {seen} records of a queue of 128");
        }
    }
}

#[test]
fn a_reprogrammed_event_queue_starts_at_index_0() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for _ in 0..5 {
        rig.dma_write(9, BUF, 1);
    }
    assert_eq!(rig.events().len(), 5);
    rig.board.0.model.borrow_mut().lose_power();
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!((rig.smmu.stats().reprograms, rig.smmu.stats().faults), (1, 5));
    rig.dma_write(10, BUF, 1);
    assert_eq!(rig.events(), [record(C_BAD_STE, 10)]);
    assert_eq!(rig.smmu.stats().faults, 6);
}

#[test]
fn records_are_unchanged_across_the_end_of_the_queue() {
    for snoop in [Snoop::Coherent, Snoop::NonCoherent] {
        let mut rig = Rig::new(Config { snoop, ..Config::qemu() });
        rig.enable_linear(10);
        for n in 0..300 {
            let sid = 1 + n * 7 % 1000;
            rig.dma_write(sid, BUF, 1);
            rig.mem().invalidate(EVTQ..EVTQ + 0x1000);
            assert_eq!(rig.events(), [record(C_BAD_STE, sid)], "record {n}, {snoop:?}");
        }
        assert_eq!(rig.smmu.stats().faults, 300);
    }
}

#[test]
fn faults_during_a_drain_are_kept() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    assert!(!rig.smmu.has_fault());
    let take = |rig: &mut Rig, sid| {
        assert!(rig.smmu.has_fault());
        assert_eq!(rig.smmu.take_fault().map(|fault| fault.record.sid), Some(sid));
    };
    for round in 0..10 {
        for sid in [100, 101, 102] {
            rig.dma_write(sid + round, BUF, 1);
        }
        rig.smmu.poll_events(&mut rig.host);
        if round > 0 {
            take(&mut rig, 102 + round - 1);
        }
        take(&mut rig, 100 + round);
        take(&mut rig, 101 + round);
    }
    take(&mut rig, 111);
    assert!(!rig.smmu.has_fault());
    assert_eq!(rig.smmu.take_fault(), None);
    assert_eq!(rig.smmu.stats().faults_not_logged, 0);
}
