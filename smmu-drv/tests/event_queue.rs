//! The host's event queue: which records it gets, overflow, interrupts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, C_BAD_STE, OVERFLOW, POOL, Rig, r, record};
use smmu_drv::WiredIrq;

#[test]
fn the_event_queue_overflows_as_on_hardware() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 4);
    assert_eq!(rig.board.0.model.borrow_mut().read32(r::IRQ_CTRL), 4, "hardware's interrupt is enabled");
    let fault = |rig: &mut Rig| {
        rig.dma_write(9, BUF, 1);
    };
    for _ in 0..100 {
        fault(&mut rig);
    }
    assert_eq!(rig.read(r::EVENTQ_PROD), 100);
    for _ in 0..28 {
        fault(&mut rig);
    }
    // The queue is full: 128 records, the other wrap bit, no overflow yet.
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x80);
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x80 | OVERFLOW, "overflow");
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x80 | OVERFLOW, "there is still one overflow");
    // The host reads two records, and does not acknowledge the overflow.
    rig.write(r::EVENTQ_CONS, 2);
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x81 | OVERFLOW);
    // The overflow is acknowledged, and the full queue overflows again: the flag toggles.
    rig.write(r::EVENTQ_CONS, 1 | OVERFLOW);
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD) >> 31, 0, "full and overflowed a second time");
    assert_eq!(rig.smmu.stats().host_events_lost, 3);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t43_a_flood_of_faults_has_bounded_cost_and_the_first_faults_are_kept() {
    let mut rig = Rig::qemu();
    for n in 0..5_000_u64 {
        rig.dma_write(9, POOL + n * 8 % 0x10_0000, 1);
        if n % 1000 == 0 {
            rig.smmu.poll_events(&mut rig.host);
        }
    }
    rig.smmu.poll_events(&mut rig.host);
    assert!(rig.smmu.stats().event_overflows > 0);
    let first = rig.smmu.take_fault().unwrap().record;
    assert_eq!(first.sid, 9);
    assert_eq!(first.detail.unwrap().ipa.unwrap().0, POOL & !0xfff);
    let mut kept = 1;
    while rig.smmu.take_fault().is_some() {
        kept += 1;
    }
    assert_eq!(kept, 16);
    let stats = rig.smmu.stats();
    assert_eq!(stats.faults_not_logged, stats.faults - 16);
    // After the queue is drained, new records are kept again.
    rig.dma_write(10, POOL, 1);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.smmu.take_fault().unwrap().record.sid, 10);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn a_poll_interrupts_the_host_if_it_has_records() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 4);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), []);
    rig.dma_write(9, BUF, 1);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), [WiredIrq::Eventq]);
    assert_eq!(rig.events(), [record(C_BAD_STE, 9)]);
    // There is no interrupt if the host did not enable it.
    rig.write(r::IRQ_CTRL, 0);
    rig.dma_write(9, BUF, 1);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), []);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn recinvsid_and_the_enables_select_the_hosts_records() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.dma_write(900, BUF, 1);
    assert_eq!(rig.events().len(), 1);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.write(r::CR2, 4);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    rig.dma_write(900, BUF, 1);
    rig.dma_write(9, BUF, 1);
    assert_eq!(rig.events(), [record(C_BAD_STE, 9)]);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.dma_write(900, POOL, 1);
    assert!(rig.events().is_empty());
}
