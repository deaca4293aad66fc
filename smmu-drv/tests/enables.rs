//! Events around changes of the enables: recorded before a change, between two, and while the host does not read its queue.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, C_BAD_STE, EVTQ, OVERFLOW, POOL, Rig, STRTAB, r, record};
use smmu_drv::{AccessSize, WiredIrq, WriteOutcome};
use smmu_model::{Config, Injection, Irq};

const QUEUES: u64 = r::CMDQEN | r::EVENTQEN;
const ALL: u64 = QUEUES | r::SMMUEN;
/// An interrupt of the event queue since the last call, hardware's or EL2's.
fn interrupted(rig: &Rig) -> bool {
    let hardware = rig.board.0.model.borrow_mut().take_irqs().contains(&Irq::Eventq);
    let raised = rig.irqs().contains(&WiredIrq::Eventq);
    hardware || raised
}

/// Both queues are enabled and the table is set; SMMUEN is 0.
fn prepared() -> Rig {
    let mut rig = Rig::qemu();
    rig.enable_queues();
    rig.mem().cpu_write(STRTAB, &[0; 64 << 4]);
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, 4);
    rig
}

/// Hardware raises the interrupt when its queue becomes non-empty [IHI 0070G 3.18.2]: a record that is in the queue
/// before the interrupt is enabled raises none.
#[test]
fn a_record_from_before_the_interrupt_enable_does_not_block_later_interrupts() {
    let mut rig = prepared();
    // A fault of stage 2, between EVENTQEN and IRQ_CTRL.
    rig.dma_write(9, POOL, 1);
    rig.write(r::IRQ_CTRL, 5);
    rig.write(r::CR0, ALL);
    let _ = interrupted(&rig);
    rig.dma_write(9, BUF, 1);
    assert!(interrupted(&rig), "hardware's queue was not empty when its interrupt was enabled");
    assert_eq!(rig.events(), [record(C_BAD_STE, 9)]);
    assert_eq!(rig.smmu.stats().faults, 2);
}

#[test]
fn waiting_records_interrupt_the_host_when_it_enables_interrupts() {
    // The record is in hardware's queue, or already in the host's.
    for polled in [false, true] {
        let mut rig = prepared();
        rig.write(r::CR0, ALL);
        rig.dma_write(9, BUF, 1);
        if polled {
            rig.smmu.poll_events(&mut rig.host);
        }
        assert!(!interrupted(&rig));
        rig.write(r::IRQ_CTRL, 4);
        assert!(interrupted(&rig), "polled: {polled}");
        // A store of the same value is not a change.
        rig.write(r::IRQ_CTRL, 4);
        assert!(!interrupted(&rig));
        assert_eq!(rig.events(), [record(C_BAD_STE, 9)]);
        rig.write(r::IRQ_CTRL, 0);
        rig.write(r::IRQ_CTRL, 4);
        assert!(!interrupted(&rig), "nothing waits");
    }
}

#[test]
fn a_reprogrammed_smmu_enables_interrupts_before_its_event_queue() {
    let mut rig = prepared();
    rig.write(r::IRQ_CTRL, 4);
    rig.write(r::CR0, ALL);
    let seen = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = seen.clone();
    *rig.board.0.watch.borrow_mut() = Some(Box::new(move |model| {
        if model.register(r::CR0ACK) & 4 != 0 {
            assert_eq!(model.register(r::IRQ_CTRLACK), 4, "neither this record nor the next one raises an interrupt");
            count.set(count.get() + 1);
        }
    }));
    rig.board.0.model.borrow_mut().lose_power();
    rig.smmu.poll_events(&mut rig.host);
    assert!(seen.get() > 0);
    let _ = interrupted(&rig);
    rig.dma_write(9, BUF, 1);
    assert!(interrupted(&rig));
}

#[test]
fn records_from_before_smmuen_is_cleared_are_reported() {
    for cr0 in [QUEUES, r::EVENTQEN, 0] {
        let mut rig = prepared();
        rig.write(r::CR0, ALL);
        rig.dma_write(9, BUF, 1);
        rig.write(r::CR0, cr0);
        assert_eq!(rig.read(r::EVENTQ_PROD), 1, "CR0 {cr0:#x}");
        assert_eq!(rig.mem().cpu_read64(EVTQ), record(C_BAD_STE, 9)[0]);
        // Later records are from transactions without translation, and are not reported to the host.
        rig.dma_write(9, POOL, 1);
        assert_eq!(rig.read(r::EVENTQ_PROD), 1);
    }
}

#[test]
fn records_during_the_clearing_of_smmuen_use_the_old_table() {
    // A linear table of hardware: the change takes many traps.
    let mut rig = Rig::new(Config { two_level: false, sid_bits: 13, ..Config::qemu() });
    rig.enable_queues();
    rig.mem().cpu_write(STRTAB, &[0; 64 << 13]);
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, 13);
    rig.write(r::CR0, ALL);
    let store = |rig: &mut Rig| rig.smmu.mmio_write(&mut rig.host, r::CR0, AccessSize::Word, QUEUES);
    assert_eq!(store(&mut rig), WriteOutcome::Again);
    // A stream that is not changed yet, in the middle and just before the end.
    rig.dma_write(0x1fff, BUF, 1);
    assert_eq!(store(&mut rig), WriteOutcome::Again);
    assert_eq!(rig.read(r::EVENTQ_PROD), 1);
    assert_eq!(
        rig.mem().cpu_read64(EVTQ),
        record(C_BAD_STE, 0x1fff)[0],
        "an invalid entry, not one that is out of range"
    );
    rig.dma_write(0x1ffe, BUF, 1);
    while store(&mut rig) == WriteOutcome::Again {}
    assert_eq!(rig.read(r::CR0ACK), QUEUES);
    assert_eq!(rig.read(r::EVENTQ_PROD), 2);
    assert_eq!(rig.mem().cpu_read64(EVTQ + 32), record(C_BAD_STE, 0x1ffe)[0]);
}

#[test]
fn records_from_before_smmuen_is_set_are_not_reported() {
    let mut rig = Rig::new(Config { ssid_bits: 16, ..Config::qemu() });
    rig.enable_queues();
    rig.mem().cpu_write(STRTAB, &[0; 64 << 4]);
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, 4);
    // With a SubstreamID, EL2's stage 2 alone gives C_BAD_SUBSTREAMID, while the host's SMMU is off.
    rig.board.0.model.borrow_mut().dma_write(9, Some(1), BUF, &[1]);
    rig.write(r::CR0, ALL);
    assert_eq!(rig.events(), [] as [[u64; 4]; 0]);
    assert_eq!(rig.smmu.stats().faults, 1);
}

/// EL2's own queue overflows, and the host does not read its queue: commands continue, and the host gets an overflow of
/// its own queue [IHI 0070G 7.4], never an abort [7.2.2].
#[test]
fn unread_records_end_as_an_overflow_without_an_abort() {
    for abort in [false, true] {
        let mut rig = prepared();
        rig.write(r::IRQ_CTRL, 5);
        rig.write(r::CR0, ALL);
        for n in 0..1000 {
            // QEMU reports a full queue as an abort; the write of a record may also fail.
            if abort && n == 100 {
                rig.board.0.model.borrow_mut().inject(Injection::EventqAbort);
            }
            rig.dma_write(9, BUF, 1);
            if n % 100 == 0 {
                rig.issue(&[common::CFGI_ALL, common::cfgi_ste(3)]);
            }
        }
        assert_eq!((rig.read(r::GERROR), rig.read(r::GERRORN)), (0, 0));
        let prod = rig.read(r::EVENTQ_PROD);
        let kept = if abort { 100 } else { 128 };
        assert_eq!(prod, OVERFLOW | kept as u64, "records were lost");
        assert_eq!((rig.read(r::GERROR), rig.read(r::GERRORN)), (0, 0));
        assert_eq!(rig.events().len(), kept);
        let _ = interrupted(&rig);
        rig.dma_write(9, BUF, 1);
        assert!(interrupted(&rig), "EL2's queue accepts records again");
        assert_eq!(rig.events(), [record(C_BAD_STE, 9)]);
        assert!(!rig.irqs().contains(&WiredIrq::Gerror));
    }
}

#[test]
fn records_after_an_aborted_queue_write_are_reported() {
    let mut rig = prepared();
    rig.write(r::IRQ_CTRL, 4);
    rig.write(r::CR0, ALL);
    rig.dma_write(9, BUF, 1);
    // While EL2 reads the host's entry for the first record, hardware fails to write the second.
    let board = rig.board.clone();
    let done = std::cell::Cell::new(false);
    rig.host.on_read = Some(Box::new(move |_| {
        if !done.replace(true) {
            let mut model = board.0.model.borrow_mut();
            model.inject(Injection::EventqAbort);
            model.dma_write(10, None, BUF, &[1]);
        }
    }));
    assert_eq!(rig.read(r::EVENTQ_PROD) & 0xff, 1);
    rig.host.on_read = None;
    let _ = interrupted(&rig);
    rig.dma_write(11, BUF, 1);
    assert!(interrupted(&rig), "only an interrupt makes EL2 read the queue again");
    let events = rig.events();
    assert_eq!(events, [record(C_BAD_STE, 9), record(C_BAD_STE, 11)]);
}
